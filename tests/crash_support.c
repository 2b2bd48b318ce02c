/* The portable half of crash_support.h. */
#include "crash_support.h"

#include "fault.h"
#include "park.h"
#include "session.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

#define UNTIL_MS 20000

/* A machine that stands still for a while (a virtual one that is suspended, or overloaded) is no reason to give up: of
 * each turn only a moment counts. */
bool crash_until(bool (*is)(void *arg), void *arg)
{
    int64_t spent = 0, last = kin_now();
    for (int turn = 0; !is(arg); turn++) {
        int64_t now = kin_now();
        spent += now - last < 20 ? now - last : 20;
        last = now;
        if (spent > test_ms(UNTIL_MS))
            return is(arg);
        if (turn > 100)
            uv_sleep(1);
    }
    return true;
}

typedef struct at_least {
    const uint32_t *word;
    uint32_t least;
} at_least;

static bool is_at_least(void *arg)
{
    const at_least *a = arg;
    return kin__load32(a->word) >= a->least;
}

bool crash_until_at_least(const uint32_t *word, uint32_t least)
{
    return crash_until(is_at_least, &(at_least){word, least});
}

int crash_sleepers(const kin_lock *lock)
{
    const kin__session *s = kin__my.session;
    uint32_t used = kin__load32(&s->threads_used);
    int count = 0;
    for (uint32_t i = 0; i < used && i < KIN__THREADS; i++) {
        bool sleeps = (kin__load64(&s->sleeping[i / 64]) >> (i % 64) & 1) != 0;
        count += sleeps && kin__load64(&s->threads[i].key) == lock->kin__o.id;
    }
    return count;
}

typedef struct sleepers {
    const kin_lock *lock;
    int count;
} sleepers;

/* They sleep for good only once the lock says that somebody does. */
static bool enough_sleep(void *arg)
{
    const sleepers *s = arg;
    return crash_sleepers(s->lock) >= s->count && (kin__load64(&s->lock->kin__o.word) & 1) != 0;
}

bool crash_until_sleepers(const kin_lock *lock, int count)
{
    return crash_until(enough_sleep, &(sleepers){lock, count});
}

/* Each has had its last look at the lock: its edge is confirmed then, until the lock is released. */
static bool enough_are_asleep(void *arg)
{
    const sleepers *wanted = arg;
    const kin__session *s = kin__my.session;
    uint32_t used = kin__load32(&s->threads_used);
    int count = 0;
    for (uint32_t i = 0; i < used && i < KIN__THREADS; i++) {
        const kin__thread *t = &s->threads[i];
        bool sleeps = (kin__load64(&s->sleeping[i / 64]) >> (i % 64) & 1) != 0 && kin__load64(&t->lock) == wanted->lock->kin__o.id;
        count += sleeps && kin__load64(&t->edge) >> 32 == (kin__load32(&t->wake) | 1);
    }
    return count >= wanted->count;
}

bool crash_until_surely_asleep(const kin_lock *lock, int count)
{
    return crash_until(enough_are_asleep, &(sleepers){lock, count});
}

bool crash_until_sleeping(const kin_lock *lock)
{
    return crash_until_sleepers(lock, 1);
}

int crash_asleep(int64_t pid)
{
    const kin__session *s = kin__my.session;
    uint32_t used = kin__load32(&s->threads_used);
    int count = 0;
    for (uint32_t i = 0; i < used && i < KIN__THREADS; i++) {
        const kin__thread *t = &s->threads[i];
        bool visible = (kin__load64(&s->sleeping[i / 64]) >> (i % 64) & 1) != 0, woken = (kin__load32(&t->wake) & 1) != 0;
        uint64_t word = kin__process_word(kin__load64(&t->process));
        count += visible && !woken && (uint32_t)kin__load64(&t->claim) != 0 && kin__word_state(word) == KIN__RUNNING &&
                 kin__word_low(word) == (uint32_t)pid;
    }
    return count;
}

static bool enough_asleep(void *arg)
{
    return crash_asleep(kin_current_pid()) >= *(int *)arg;
}

bool crash_until_asleep(int count)
{
    return crash_until(enough_asleep, &count);
}

typedef struct file_waiters {
    unsigned long long inode;
    int count;
} file_waiters;

/* A line of /proc/locks of one who waits: "1: -> FLOCK  ADVISORY  WRITE 31387 fe:00:10952782 0 EOF". */
static bool enough_wait_for_file(void *arg)
{
    const file_waiters *wanted = arg;
    char line[256], inode[32];
    int count = 0;
    FILE *f = fopen("/proc/locks", "r");
    if (f == NULL)
        return false;
    (void)snprintf(inode, sizeof inode, ":%llu ", wanted->inode);
    while (fgets(line, sizeof line, f) != NULL)
        count += strstr(line, "-> FLOCK") != NULL && strstr(line, inode) != NULL;
    (void)fclose(f);
    return count >= wanted->count;
}

bool crash_until_file_waiters(const char *path, int count)
{
    uv_fs_t request;
    bool found = uv_fs_stat(NULL, &request, path, NULL) == 0;
    file_waiters wanted = {found ? (unsigned long long)request.statbuf.st_ino : 0, count};
    uv_fs_req_cleanup(&request);
    FILE *f = test_on_windows() ? NULL : fopen("/proc/locks", "r");
    if (f == NULL) {
        crash_spin_us(20000);
        return found;
    }
    (void)fclose(f);
    return found && crash_until(enough_wait_for_file, &wanted);
}

uint32_t crash_seed(void)
{
    const char *text = getenv("KIN_TEST_SEED");
    uint32_t seed = text != NULL ? (uint32_t)strtoul(text, NULL, 10) : (uint32_t)uv_hrtime() | 1;
    printf("seed %lu (KIN_TEST_SEED)\n", (unsigned long)seed);
    return seed;
}

uint32_t crash_random(uint32_t *state, uint32_t below)
{
    uint32_t x = *state != 0 ? *state : 1;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    *state = x;
    return below != 0 ? x % below : 0;
}

void crash_spin_us(uint32_t us)
{
    uint64_t end = uv_hrtime() + (uint64_t)us * 1000u;
    while (uv_hrtime() < end) {
    }
}

static crash_passed *record;

static void note_point(const char *name)
{
    for (int i = 0; i < CRASH_PASSED; i++) {
        if (record[i].name[0] == 0)
            (void)snprintf(record[i].name, sizeof record[i].name, "%s", name);
        if (strcmp(record[i].name, name) == 0) {
            record[i].count++;
            return;
        }
    }
}

void crash_record(crash_passed passed[CRASH_PASSED])
{
    record = passed;
    kin__at_crash_point = note_point;
}

static struct pause_at {
    char name[80];
    uint32_t left;
    uint32_t *paused;
    const uint32_t *resume;
} pause_at;

static void pause_here(const char *name)
{
    if (strcmp(name, pause_at.name) != 0 || kin__add32(&pause_at.left, UINT32_MAX) != 1)
        return;
    kin__store32(pause_at.paused, 1);
    while (kin__load32(pause_at.resume) == 0)
        uv_sleep(1);
    kin__at_crash_point = NULL;
}

void crash_pause_at(const char *point, uint32_t *paused, const uint32_t *resume)
{
    (void)snprintf(pause_at.name, sizeof pause_at.name, "%s", point);
    char *nth = strchr(pause_at.name, ':');
    pause_at.left = nth != NULL ? (uint32_t)strtoul(nth + 1, NULL, 10) : 1;
    if (nth != NULL)
        *nth = 0;
    pause_at.paused = paused;
    pause_at.resume = resume;
    kin__at_crash_point = pause_here;
}

void crash_go_on(void)
{
    kin__at_crash_point = NULL;
}

void crash_end(int code)
{
    os_process_exit(code);
}

int crash_join(kin_process *process)
{
    int code = CRASH_LOST;
    kin_err err = kin_process_join(process, test_ms(UNTIL_MS / 2));
    if (err == KIN_ETIMEDOUT) /* or did the machine stand still? */
        err = kin_process_join(process, test_ms(UNTIL_MS / 2));
    if (err == KIN_ETIMEDOUT) {
        code = CRASH_HANGS;
        print_error("%s\n", kin_last_error());
        (void)kin_process_kill(process);
    } else if (err == KIN_OK) {
        (void)kin_process_exit_code(process, &code);
    }
    kin_process_close(process);
    return code;
}

int64_t crash_server(void)
{
    const kin__session *s = kin__my.session;
    uint64_t word = kin__process_word(kin__load64(&s->info[kin__my.place].server));
    return kin__word_state(word) == KIN__RUNNING && !OS_WINDOWS ? kin__word_low(word) : 0;
}

void crash_kill(int64_t pid)
{
    if (pid > 1) /* lower numbers mean more than one process */
        test_process_kill(pid);
}

bool crash_is_root(void)
{
    return getenv("KIN_BIRTH") == NULL;
}

int crash_places(void)
{
    int count = 0;
    for (uint32_t i = 0; i < KIN__PROCESSES; i++)
        count += kin__word_state(kin__load64(&kin__my.session->words[i])) != KIN__FREE;
    return count;
}

static bool always(void *object)
{
    (void)object;
    return true;
}

/* Who never sleeps need not notice that anybody has died. */
static void sleep_as_kin_does(void)
{
    if (kin__thread_me() != 0)
        (void)kin__park(kin__unique(), always, NULL, kin__deadline(1));
}

static bool few_places(void *arg)
{
    sleep_as_kin_does();
    return crash_places() <= *(int *)arg;
}

static void print_places(void)
{
    static const char *const states[] = {"free", "starting", "claimed", "running", "dying", "dead"};
    const kin__session *s = kin__my.session;
    for (uint32_t i = 0; i < KIN__PROCESSES; i++) {
        uint64_t word = kin__load64(&s->words[i]);
        uint32_t state = kin__word_state(word);
        if (state != KIN__FREE)
            print_error("place %lu: '%s' %s %ld, keeper %#llx, parent %#llx, detached %lu, %s\n", (unsigned long)i, s->info[i].name,
                        state <= KIN__DEAD ? states[state] : "?", (long)(int32_t)kin__word_low(word), (unsigned long long)s->info[i].keeper,
                        (unsigned long long)s->info[i].parent, (unsigned long)s->info[i].detached,
                        test_process_exists(kin__word_low(word)) ? "exists" : "does not exist");
    }
}

bool crash_until_places(int most)
{
    if (crash_until(few_places, &most))
        return true;
    print_error("%d places expected:\n", most);
    print_places();
    return false;
}

static bool is_gone(void *arg)
{
    sleep_as_kin_does();
    uint32_t pid = (uint32_t)*(int64_t *)arg;
    for (uint32_t i = 0; i < KIN__PROCESSES; i++) {
        uint64_t word = kin__load64(&kin__my.session->words[i]);
        uint32_t state = kin__word_state(word);
        if (state == KIN__DYING || ((state == KIN__CLAIMED || state == KIN__RUNNING) && kin__word_low(word) == pid))
            return false;
    }
    return true;
}

bool crash_until_gone(int64_t pid)
{
    return crash_until(is_gone, &pid);
}

void crash_print_threads(const kin_lock *lock)
{
    const kin__session *s = kin__my.session;
    if (lock != NULL)
        print_error("lock: word %#llx, id %#llx\n", (unsigned long long)lock->kin__o.word, (unsigned long long)lock->kin__o.id);
    for (uint32_t i = 0; i < KIN__THREADS; i++) {
        const kin__thread *t = &s->threads[i];
        bool sleeping = (s->sleeping[i / 64] >> (i % 64) & 1) != 0;
        if ((uint32_t)t->claim != 0 || sleeping)
            print_error("thread %lu: claim %#llx, key %#llx, holder %#llx, wake %lu%s\n", (unsigned long)i, (unsigned long long)t->claim,
                        (unsigned long long)t->key, (unsigned long long)t->edge, (unsigned long)t->wake, sleeping ? ", sleeps" : "");
    }
    print_places();
}
