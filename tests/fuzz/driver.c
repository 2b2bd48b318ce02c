/* Runs a fuzz target as an ordinary test, without a fuzzer: every stored input, and then the same changes of each, everywhere and each
 * time, until there were enough or the time is over.
 *
 *     fuzz_any              the corpus and its changes
 *     fuzz_any FILE…        these inputs
 *
 * An input that crashes is left behind as fuzz-<target>.failed, to be run again and to become part of the corpus. */
#include "fuzz.h"

#include <signal.h>
#include <uv.h>

#define CHANGES 3000              /* of each stored input at most… */
#define NANOSECONDS 8000000000u   /* …and as long as this */
#define LONGEST 4096              /* bytes of a changed input */

typedef struct input {
    char name[128];
    uint8_t *bytes;
    size_t size;
} input;

static input *inputs;
static size_t input_count;
static struct {
    const char *name;
    uint64_t change; /* 0: as it is stored */
    const uint8_t *bytes;
    size_t size;
} current;

/* Leaves the input behind and lets the signal do what it does. */
static void crashed(int signal_number)
{
    (void)signal(signal_number, SIG_DFL);
    (void)fprintf(stderr, "%s: input %s, change %llu: signal %d; the input is in fuzz-%s.failed\n", FUZZ_NAME, current.name,
                  (unsigned long long)current.change, signal_number, FUZZ_NAME);
    FILE *file = fopen("fuzz-" FUZZ_NAME ".failed", "wb");
    if (file != NULL) {
        (void)fwrite(current.bytes, 1, current.size, file);
        (void)fclose(file);
    }
    (void)raise(signal_number);
}

static void run(const char *name, uint64_t change, const uint8_t *bytes, size_t size)
{
    current.name = name;
    current.change = change;
    current.bytes = bytes;
    current.size = size;
    (void)LLVMFuzzerTestOneInput(bytes, size);
}

static bool load(const char *path, const char *name)
{
    input in = {.size = 0};
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        (void)fprintf(stderr, "cannot read %s\n", path);
        return false;
    }
    (void)snprintf(in.name, sizeof in.name, "%s", name);
    in.bytes = malloc((size_t)1 << 20);
    if (in.bytes != NULL)
        in.size = fread(in.bytes, 1, (size_t)1 << 20, file);
    (void)fclose(file);
    input *more = realloc(inputs, (input_count + 1) * sizeof *inputs);
    if (in.bytes == NULL || more == NULL)
        return false;
    inputs = more;
    inputs[input_count++] = in;
    return true;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const input *)a)->name, ((const input *)b)->name);
}

static bool load_corpus(void)
{
    uv_fs_t request;
    uv_dirent_t entry;
    char path[4096];
    if (uv_fs_scandir(NULL, &request, FUZZ_CORPUS, 0, NULL) < 0) {
        (void)fprintf(stderr, "cannot list %s\n", FUZZ_CORPUS);
        return false;
    }
    bool loaded = true;
    while (loaded && uv_fs_scandir_next(&request, &entry) != UV_EOF) {
        (void)snprintf(path, sizeof path, "%s/%s", FUZZ_CORPUS, entry.name);
        loaded = load(path, entry.name);
    }
    uv_fs_req_cleanup(&request);
    if (input_count > 0)
        qsort(inputs, input_count, sizeof *inputs, by_name); /* systems list them in orders of their own */
    return loaded;
}

/* ---- changes ---- */

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u; /* splitmix64, Steele, Lea and Flood */
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static void put_word(uint8_t *bytes, size_t size, uint64_t at, size_t width, uint64_t value)
{
    for (size_t i = 0; i < width && at + i < size; i++)
        bytes[at + i] = (uint8_t)(value >> (8 * i));
}

/* Copies a piece of any input over or into this one; the new size. */
static size_t copy_piece(uint8_t *bytes, size_t size, uint64_t *random)
{
    const input *from = &inputs[next_random(random) % input_count];
    size_t start = from->size > 0 ? (size_t)(next_random(random) % from->size) : 0, most = from->size - start;
    size_t at = size > 0 ? (size_t)(next_random(random) % (size + 1)) : 0;
    size_t length = most > 0 ? (size_t)(next_random(random) % most) + 1 : 0;
    if (length > LONGEST - at)
        length = LONGEST - at;
    if ((next_random(random) & 1) != 0) { /* into */
        size_t rest = size - at < LONGEST - at - length ? size - at : LONGEST - at - length;
        memmove(bytes + at + length, bytes + at, rest);
        size = at + rest;
        memcpy(bytes + at, from->bytes + start, length);
        return size + length;
    }
    memcpy(bytes + at, from->bytes + start, length);
    return at + length > size ? at + length : size;
}

static size_t change_once(uint8_t *bytes, size_t size, uint64_t *random)
{
    static const uint64_t numbers[] = {0, 1, 2, 7, 8, 16, 24, 63, 64, 127, 128, 255, 4096, 0x7fff, 0x8000, 0xffff, INT32_MAX, 0x80000000u,
                                       UINT32_MAX, (uint64_t)1 << 32, INT64_MAX - 7, INT64_MAX, (uint64_t)1 << 63, UINT64_MAX - 7, UINT64_MAX};
    uint64_t what = next_random(random), at = size > 0 ? next_random(random) % size : 0;
    if (size == 0)
        return copy_piece(bytes, size, random);
    switch (what % 8) {
    case 0:
        bytes[at] = (uint8_t)(bytes[at] ^ 1u << (what >> 8) % 8);
        return size;
    case 1:
        bytes[at] = (uint8_t)(what >> 8);
        return size;
    case 2: /* small numbers are kinds, counts and indices */
        bytes[at] = (uint8_t)((what >> 8) % 32);
        return size;
    case 3:
        put_word(bytes, size, at, (size_t)1 << (what >> 8) % 4, numbers[(what >> 16) % (sizeof numbers / sizeof numbers[0])]);
        return size;
    case 4:
        bytes[at] = (uint8_t)(bytes[at] + ((what >> 8) % 2 != 0 ? 1 : -1));
        return size;
    case 5:
        return (size_t)at;
    case 6: /* takes a piece out */
    {
        size_t length = (size_t)(next_random(random) % (size - at)) + 1;
        memmove(bytes + at, bytes + at + length, size - at - length);
        return size - length;
    }
    default:
        return copy_piece(bytes, size, random);
    }
}

/* The n-th change of an input, the same whenever it is made. The memory is exactly as large as the input. */
static uint8_t *change(size_t which, uint64_t n, size_t *size)
{
    static uint8_t work[LONGEST];
    const input *in = &inputs[which];
    uint64_t random = n << 20 | which;
    *size = in->size < LONGEST ? in->size : LONGEST;
    memcpy(work, in->bytes, *size);
    for (uint64_t times = next_random(&random) % 4 + 1; times > 0; times--)
        *size = change_once(work, *size, &random);
    uint8_t *changed = malloc(*size > 0 ? *size : 1);
    FUZZ_CHECK(changed != NULL);
    memcpy(changed, work, *size);
    return changed;
}

static uint64_t run_changes(void)
{
    uint64_t end = uv_hrtime() + NANOSECONDS, ran = 0;
    for (uint64_t n = 1; n <= CHANGES; n++) {
        for (size_t which = 0; which < input_count; which++) {
            if (uv_hrtime() > end)
                return ran;
            size_t size;
            uint8_t *changed = change(which, n, &size);
            run(inputs[which].name, n, changed, size);
            free(changed);
            ran++;
        }
    }
    return ran;
}

int main(int argc, char **argv)
{
    (void)LLVMFuzzerInitialize(&argc, &argv);
    (void)signal(SIGABRT, crashed);
    (void)signal(SIGSEGV, crashed);
    (void)signal(SIGFPE, crashed);
    (void)signal(SIGILL, crashed);
    bool loaded = argc > 1 || load_corpus();
    for (int i = 1; i < argc; i++)
        loaded = load(argv[i], argv[i]) && loaded;
    if (!loaded || input_count == 0) {
        (void)fprintf(stderr, "%s: no inputs\n", FUZZ_NAME);
        return EXIT_FAILURE;
    }
    for (size_t i = 0; i < input_count; i++)
        run(inputs[i].name, 0, inputs[i].bytes, inputs[i].size);
    uint64_t ran = argc > 1 ? 0 : run_changes();
    (void)printf("%s: %zu inputs, %llu changes of them\n", FUZZ_NAME, input_count, (unsigned long long)ran);
    for (size_t i = 0; i < input_count; i++)
        free(inputs[i].bytes);
    free(inputs);
    return EXIT_SUCCESS;
}
