/* crunch: computes the flights of many spheres on all cores, from CSV to CSV.
 *
 *     crunch --workers 8 --input shots.csv --output landings.csv
 *
 * What to learn: a program for one core becomes one for all of them by a single call. fly() in
 * crunch_flight.h knows nothing of processes; compute() below calls it for one row; kin_pool_map calls
 * that for all rows, keeps them in order, draws the progress bar and says which rows failed and why. The
 * output is the same, byte for byte, with any number of workers, on Linux and on Windows.
 */
#include "crunch_csv.h"
#include "crunch_flight.h"

#include <errno.h>
#include <kin.h>

enum { ALL_DONE = 0, SOME_ROWS_FAILED = 1, NOTHING_DONE = 2 }; /* exit status */
enum { BUILT_IN_ROWS = 300000, MOST_ROWS = 100000000 };
enum { SAMPLE_ROWS = 2000, SAMPLE_MS = 500 }; /* for the rate of one process */
enum { MOST_ERRORS = 10000 };                 /* reasons that are kept       */

struct options {
    const char *input;  /* NULL: the built-in rows; "-": standard input */
    const char *output; /* "-": standard output                         */
    long workers;       /* 0: one for each core                         */
    long rows;          /* of the built-in input                        */
    bool quiet;
};

static const char usage[] =
    "Usage: crunch [options]\n"
    "Computes where spheres land that are shot through the air.\n"
    "\n"
    "  --input FILE    rows of id,speed,angle,mass,diameter: text, m/s, degrees above the horizon, kg, m;\n"
    "                  - is standard input. A first line of these names is skipped. Without this\n"
    "                  option a built-in input is computed, the same on every system\n"
    "  --output FILE   rows of id,range,height,time: text, m, m, s; - is standard output (default)\n"
    "  --workers N     processes that compute, 1 to 1024 (default: one for each core)\n"
    "  --rows N        size of the built-in input (default: 300000)\n"
    "  --quiet         no progress bar, and no comparison with one process\n"
    "  --help          this text\n"
    "\n"
    "A row that is malformed or cannot be computed is reported with its line number, and left out.\n"
    "Exit status: 0 all is well, 1 some rows failed, 2 the options, the input or the output are no good.\n";

/* ---- the work ------------------------------------------------------------------------------------------ */

/* One task of the pool, run in a worker: the flight of one row. */
static int compute(kin_task *task, const void *in, void *out)
{
    struct landing landing;
    const char *problem = fly(in, TIME_STEP, &landing);
    if (problem)
        return kin_task_fail(task, 1, "%s", problem);
    *(struct landing *)out = landing;
    return 0;
}

/* Row `index` of the built-in input: some ball of wood, stone or iron. Made of whole numbers from a mixer
 * of bits (splitmix64, Sebastiano Vigna), so that every system has the same. */
static struct shot built_in_shot(size_t index)
{
    uint64_t draws[4];
    for (int i = 0; i < 4; i++) {
        uint64_t z = ((uint64_t)index * 4 + (uint64_t)i + 1) * UINT64_C(0x9E3779B97F4A7C15);
        z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
        draws[i] = z ^ (z >> 31);
    }
    struct shot shot;
    shot.speed = (double)(2000 + draws[0] % 28001) / 100; /* 20 to 300 m/s     */
    shot.angle = (double)(500 + draws[1] % 8001) / 100;   /* 5 to 85 degrees   */
    shot.diameter = (double)(20 + draws[2] % 281) / 1000; /* 2 to 30 cm        */
    double density = (double)(500 + draws[3] % 7501);     /* 500 to 8000 kg/m³ */
    shot.mass = density * PI / 6 * shot.diameter * shot.diameter * shot.diameter;
    return shot;
}

static bool built_in_table(struct table *table, size_t count)
{
    memset(table, 0, sizeof *table);
    table->rows = calloc(count + 1, sizeof *table->rows); /* + 1: calloc(0) may be NULL */
    table->shots = calloc(count + 1, sizeof *table->shots);
    if (!table->rows || !table->shots) {
        table_free(table);
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        table->rows[i].number = i + 1;
        table->shots[i] = built_in_shot(i);
    }
    table->row_count = table->shot_count = count;
    return true;
}

/* Rows per second of one process, measured here on rows from all over the table; 0 if there are too few to
 * tell. */
static double rate_of_one_process(const struct table *table)
{
    size_t stride = table->shot_count / SAMPLE_ROWS + 1, done = 0;
    int64_t began = kin_now(), passed = 0;
    for (size_t i = 0; i < table->shot_count && passed < SAMPLE_MS; i += stride) {
        struct landing landing;
        fly(&table->shots[i], TIME_STEP, &landing);
        done++;
        passed = kin_now() - began;
    }
    return passed >= 20 ? (double)done * 1000 / (double)passed : 0;
}

/* ---- saying what happened ------------------------------------------------------------------------------ */

static int give_up(const char *what, const char *name, const char *why)
{
    fprintf(stderr, "crunch: %s%s%s: %s\n", what, name ? " " : "", name ? name : "", why);
    return NOTHING_DONE;
}

/* "line 3: mass is not a number: ball-7,10,45,heavy,1": the beginning of the line, without what could
 * upset a terminal. */
static void report_row(const struct row *row, const char *problem)
{
    char shown[61];
    size_t length = row->length < sizeof shown ? row->length : sizeof shown - 1;
    for (size_t i = 0; i < length; i++)
        shown[i] = row->line[i] >= ' ' && row->line[i] <= '~' ? row->line[i] : '?';
    shown[length] = '\0';
    fprintf(stderr, "crunch: line %llu: %s%s%s%s\n", (unsigned long long)row->number, problem,
            length > 0 ? ": " : "", shown, length < row->length ? "..." : "");
}

/* Reports the rows without a landing, in the order of the input, and returns how many they are. */
static size_t report_failures(const struct table *table, const struct landing *landings,
                              const kin_task_error *errors, size_t error_count)
{
    size_t failed = 0, shot = 0, error = 0;
    for (size_t i = 0; i < table->row_count; i++) {
        const char *problem = table->rows[i].problem;
        if (!problem) {
            if (error < error_count && errors[error].index == shot)
                problem = errors[error++].message;
            else if (landings[shot].time < 0)
                problem = "could not be computed"; /* the reasons of the first MOST_ERRORS are kept */
            shot++;
        }
        if (problem) {
            report_row(&table->rows[i], problem);
            failed++;
        }
    }
    return failed;
}

static void report_speed(const struct table *table, size_t failed, double seconds, int workers, double single)
{
    double rate = seconds > 0 ? (double)table->shot_count / seconds : 0;
    fprintf(stderr, "crunch: %llu rows, %llu failed, %.2f s, %.0f rows/s, %d worker%s",
            (unsigned long long)table->row_count, (unsigned long long)failed, seconds, rate, workers,
            workers == 1 ? "" : "s");
    if (rate > 0 && single > 0)
        fprintf(stderr, ", %.2f times one process", rate / single);
    fputc('\n', stderr);
}

/* ---- in and out ---------------------------------------------------------------------------------------- */

static bool load(struct table *table, const struct options *options)
{
    if (!options->input) {
        if (built_in_table(table, (size_t)options->rows))
            return true;
        give_up("cannot make the built-in input", NULL, "not enough memory");
        return false;
    }
    bool standard = strcmp(options->input, "-") == 0;
    size_t size = 0;
    errno = 0;
    FILE *file = standard ? stdin : fopen(options->input, "rb"); /* Windows alters what is not "b" */
    char *text = file ? read_all(file, &size) : NULL;
    if (!text)
        give_up("cannot read", standard ? "standard input" : options->input, strerror(errno));
    if (file && !standard)
        fclose(file);
    if (text && !table_parse(table, text, size)) {
        give_up("cannot read", options->input, "not enough memory");
        return false;
    }
    return text != NULL;
}

/* Writes the rows that have landed. 17 digits are what it takes to give every double back exactly. */
static bool write_landings(FILE *file, const struct table *table, const struct landing *landings)
{
    size_t shot = 0;
    fputs("id,range,height,time\n", file);
    for (size_t i = 0; i < table->row_count && !ferror(file); i++) {
        const struct row *row = &table->rows[i];
        if (row->problem)
            continue;
        const struct landing *landing = &landings[shot++];
        if (landing->time < 0)
            continue;
        if (row->line)
            fwrite(row->line, 1, row->id_length, file);
        else
            fprintf(file, "%llu", (unsigned long long)row->number);
        fprintf(file, ",%.17g,%.17g,%.17g\n", landing->range, landing->height, landing->time);
    }
    return fflush(file) == 0 && !ferror(file);
}

/* ---- all together -------------------------------------------------------------------------------------- */

/* Computes all landings on a pool of workers; the rows that failed are reported and counted in *failed.
 * Returns false, and has said why, if nothing could be computed. */
static bool compute_all(const struct table *table, struct landing *landings, const struct options *options,
                        size_t *failed)
{
    size_t errors_max = table->shot_count < MOST_ERRORS ? table->shot_count : MOST_ERRORS, errors_found = 0;
    kin_task_error *errors = calloc(errors_max + 1, sizeof *errors);
    if (!errors) {
        give_up("cannot compute", NULL, "not enough memory");
        return false;
    }
    for (size_t i = 0; i < table->shot_count; i++)
        landings[i].time = -1; /* stays so where a task fails */

    kin_pool_options pool_options = {.workers = (int)options->workers, .name = "crunch"};
    kin_map_options map_options = {
        .bar = options->quiet ? NULL : "crunch",
        .retries = 1, /* a row whose worker was killed is given another chance */
        .errors = errors,
        .errors_max = errors_max,
        .failed = &errors_found,
    };
    /* One process is measured before and after: the machine may be busier now than it will be then. */
    double single = options->quiet ? 0 : rate_of_one_process(table) / 2;

    kin_pool *pool = NULL;
    int64_t began = kin_now();
    kin_err error = kin_pool_create(&pool, &pool_options);
    if (error == KIN_OK)
        error = kin_pool_map(pool, compute, table->shots, sizeof *table->shots, landings, sizeof *landings,
                             table->shot_count, &map_options);
    double seconds = (double)(kin_now() - began) / 1000;

    bool done = error == KIN_OK || error == KIN_ETASK; /* KIN_ETASK: all but the rows in errors */
    if (done) {
        single += options->quiet ? 0 : rate_of_one_process(table) / 2;
        size_t kept = errors_found < errors_max ? errors_found : errors_max;
        *failed = report_failures(table, landings, errors, kept);
        report_speed(table, *failed, seconds, kin_pool_workers(pool), single);
    } else {
        give_up("cannot compute", NULL, kin_last_error());
    }
    kin_pool_close(pool);
    free(errors);
    return done;
}

/* The value of an option that is a whole number within bounds; -1 if it is not. */
static long number_of(const char *text, long least, long most)
{
    char *end = NULL;
    errno = 0;
    long number = strtol(text, &end, 10);
    return end != text && *end == '\0' && errno == 0 && number >= least && number <= most ? number : -1;
}

/* Returns what is wrong with the options, or NULL. */
static const char *parse_options(int argc, char **argv, struct options *options)
{
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(name, "--quiet") == 0) {
            options->quiet = true;
            continue;
        }
        if (strcmp(name, "--input") == 0)
            options->input = value;
        else if (strcmp(name, "--output") == 0)
            options->output = value;
        else if (strcmp(name, "--workers") == 0)
            options->workers = value ? number_of(value, 1, 1024) : 0;
        else if (strcmp(name, "--rows") == 0)
            options->rows = value ? number_of(value, 0, MOST_ROWS) : 0;
        else
            return "unknown option";
        if (!value)
            return "an option lacks its value";
        if (options->workers < 0)
            return "--workers must be a number from 1 to 1024";
        if (options->rows < 0)
            return "--rows must be a number from 0 to 100000000";
        i++;
    }
    return NULL;
}

/* Computes the table and writes the result. Returns the exit status. */
static int run(const struct table *table, const struct options *options)
{
    /* Opened before the work, so that a wrong name is told now; after reading, as it may be the input's. */
    bool to_file = strcmp(options->output, "-") != 0;
    const char *name = to_file ? options->output : "standard output";
    errno = 0;
    FILE *output = to_file ? fopen(options->output, "wb") : stdout;
    if (!output)
        return give_up("cannot write", name, strerror(errno));

    size_t failed = 0;
    int status = NOTHING_DONE;
    struct landing *landings = calloc(table->shot_count + 1, sizeof *landings);
    if (!landings) {
        give_up("cannot compute", NULL, "not enough memory");
    } else if (compute_all(table, landings, options, &failed)) {
        errno = 0;
        status = failed > 0 ? SOME_ROWS_FAILED : ALL_DONE;
        if (!write_landings(output, table, landings))
            status = give_up("cannot write", name, strerror(errno));
    }
    free(landings);
    errno = 0;
    if (to_file && fclose(output) != 0 && status != NOTHING_DONE)
        status = give_up("cannot write", name, strerror(errno));
    return status;
}

int main(int argc, char **argv)
{
    if (kin_init(argc, argv) != KIN_OK)
        return give_up("cannot start", NULL, kin_last_error());

    struct options options = {.output = "-", .rows = BUILT_IN_ROWS};
    if (argc == 2 && strcmp(argv[1], "--help") == 0)
        return fputs(usage, stdout) < 0 || fflush(stdout) != 0 ? NOTHING_DONE : ALL_DONE;
    const char *wrong = parse_options(argc, argv, &options);
    if (wrong) {
        fprintf(stderr, "crunch: %s\n\n%s", wrong, usage);
        return NOTHING_DONE;
    }

    struct table table;
    if (!load(&table, &options))
        return NOTHING_DONE;
    int status = run(&table, &options);
    table_free(&table);
    return status;
}
