/* The example crunch: its physics beside formulas that do not come from it, and its reading of CSV. */
#include "../../examples/crunch_csv.h"
#include "../../examples/crunch_flight.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static struct landing landing_of(double speed, double angle, double mass, double diameter, double step)
{
    struct shot shot = {speed, angle, mass, diameter};
    struct landing landing = {-1, -1, -1};
    const char *problem = fly(&shot, step, &landing);
    if (problem)
        fail_msg("%g m/s, %g degrees, %g kg, %g m: %s", speed, angle, mass, diameter, problem);
    return landing;
}

static void check_near(const char *what, double is, double should, double relative)
{
    if (!(fabs(is - should) <= relative * fabs(should)))
        fail_msg("%s is %.17g, not %.17g", what, is, should);
}

/* Without air: range v² sin 2a / g, height (v sin a)² / 2g, time 2 v sin a / g. */
static void vacuum(void **state)
{
    (void)state;
    for (int speed = 20; speed <= 300; speed += 40) {
        for (int angle = 20; angle <= 80; angle += 10) {
            double up = speed * sin(angle * PI / 180);
            struct landing landing = landing_of(speed, angle, 1e6, 1e-3, TIME_STEP);
            check_near("range", landing.range, speed * speed * sin(2 * angle * PI / 180) / GRAVITY, 1e-4);
            check_near("height", landing.height, up * up / 2 / GRAVITY, 1e-4);
            check_near("time", landing.time, 2 * up / GRAVITY, 1e-4);
        }
    }
}

/* Straight up the drag has a solution: with k the drag and w = sqrt(g/k) the speed of fall that it allows at most, the
 * height is ln(1 + v²/w²) / 2k, the way up takes atan(v/w) / (kw), the way down acosh(e^(k height)) / (kw). */
static void straight_up(void **state)
{
    static const double mass[] = {0.0459, 0.2, 7.26}, diameter[] = {0.0427, 0.22, 0.125};
    (void)state;
    for (int ball = 0; ball < 3; ball++) {
        for (double speed = 20; speed <= 100; speed += 20) {
            double radius = diameter[ball] / 2;
            double k = 0.5 * AIR_DENSITY * DRAG_COEFFICIENT * PI * radius * radius / mass[ball];
            double w = sqrt(GRAVITY / k);
            double height = log(1 + speed * speed / (w * w)) / (2 * k);
            double time = (atan(speed / w) + acosh(exp(k * height))) / (k * w);
            struct landing landing = landing_of(speed, 90, mass[ball], diameter[ball], TIME_STEP);
            check_near("height", landing.height, height, 1e-4);
            check_near("time", landing.time, time, 1e-4);
            assert_true(landing.range == 0);
        }
    }
}

/* Smaller steps come closer to one result, and the step that is used is close to it. */
static void convergence(void **state)
{
    (void)state;
    struct landing best = landing_of(150, 40, 0.5, 0.08, TIME_STEP / 1024);
    double last = 1;
    for (double step = TIME_STEP * 4; step >= TIME_STEP / 16; step /= 4) {
        double error = fabs(landing_of(150, 40, 0.5, 0.08, step).range / best.range - 1);
        assert_true(error < last);
        last = error;
    }
    check_near("range", landing_of(150, 40, 0.5, 0.08, TIME_STEP).range, best.range, 1e-6);
}

/* Air only ever shortens the flight. */
static void drag_shortens(void **state)
{
    (void)state;
    double before = 1e9;
    for (double diameter = 0.01; diameter < 0.2; diameter += 0.01) {
        struct landing landing = landing_of(80, 45, 0.5, diameter, TIME_STEP);
        assert_true(landing.range < before && landing.range > 0);
        before = landing.range;
    }
}

static void shortest_flights(void **state)
{
    static const double shots[][2] = {{100, 0}, {0, 45}, {0, 0}, {0, 90}, {0.01, 45}, {0.04, 90}};
    (void)state;
    for (size_t i = 0; i < sizeof shots / sizeof shots[0]; i++) {
        struct landing landing = landing_of(shots[i][0], shots[i][1], 1, 0.1, TIME_STEP);
        assert_true(landing.range == 0 && landing.height == 0 && landing.time == 0);
    }
}

static void flights_without_end(void **state)
{
    static const struct {
        struct shot shot;
        const char *problem;
    } cases[] = {
        {{1e10, 45, 1e30, 0.1}, "did not land"},
        {{1e300, 45, 1e308, 0.1}, "numbers beyond"},
        {{1e308, 45, 1e-300, 1e-300}, "numbers beyond"},
        {{50, 45, 1e-9, 0.1}, "too light"},
        {{50, 45, DBL_TRUE_MIN, 0.1}, "too light"},
        {{50, 45, 1, 1e200}, "too light"},
        {{DBL_MAX, 90, DBL_MAX, DBL_TRUE_MIN}, "numbers beyond"},
        {{DBL_MAX, 45, DBL_MAX, DBL_MAX}, "too light"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct landing landing;
        const char *problem = fly(&cases[i].shot, TIME_STEP, &landing);
        assert_non_null(problem);
        if (strncmp(problem, cases[i].problem, strlen(cases[i].problem)) != 0)
            fail_msg("case %d: %s", (int)i, problem);
    }
}

static void sines(void **state)
{
    double sine, cosine;
    (void)state;
    sine_and_cosine(0, &sine, &cosine);
    assert_true(sine == 0 && cosine == 1);
    sine_and_cosine(90, &sine, &cosine);
    assert_true(sine == 1 && cosine == 0);
    for (int i = 1; i < 9000; i++) {
        double degrees = i / 100.0;
        sine_and_cosine(degrees, &sine, &cosine);
        /* The C library's, of the smaller angle: near 90 degrees the rounding of the angle itself would show. */
        double small = (degrees > 45 ? 90 - degrees : degrees) * (PI / 180);
        check_near("sin", sine, degrees > 45 ? cos(small) : sin(small), DBL_EPSILON);
        check_near("cos", cosine, degrees > 45 ? sin(small) : cos(small), DBL_EPSILON);
    }
}

/* ---- CSV ------------------------------------------------------------------------------------------------------------- */

static struct table table_of(const char *text, size_t size)
{
    struct table table;
    char *copy = malloc(size + 1);
    assert_non_null(copy);
    memcpy(copy, text, size);
    assert_true(table_parse(&table, copy, size));
    return table;
}

#define TABLE(text) table_of(text, sizeof(text) - 1)

static void good_lines(void **state)
{
    (void)state;
    struct table table = TABLE("\xEF\xBB\xBF" HEADER "\r\n"
                               "a,1,2,3,4\r\n"
                               "\r\n"
                               " \t\n"
                               "\"b, \"\"c\"\"\", 1e1 ,\t+2.5,.5,5.\n"
                               "d,0,90,1,1");
    assert_int_equal(table.row_count, 3);
    assert_int_equal(table.shot_count, 3);
    assert_int_equal(table.rows[0].number, 2);
    assert_int_equal(table.rows[1].number, 5);
    assert_int_equal(table.rows[2].number, 6);
    assert_int_equal(table.rows[0].length, 9); /* without the CR */
    assert_int_equal(table.rows[1].id_length, 10);
    assert_memory_equal(table.rows[1].line, "\"b, \"\"c\"\"\"", 10);
    assert_true(table.shots[1].speed == 10 && table.shots[1].angle == 2.5);
    assert_true(table.shots[1].mass == 0.5 && table.shots[1].diameter == 5);
    table_free(&table);
}

static void bad_lines(void **state)
{
    static const char *const cases[][2] = {
        {"a,1,2,3", "there are not 5"},
        {"a,1,2,3,4,5", "there are not 5"},
        {"a,1,2,3,4,", "there are not 5"},
        {"a", "there are not 5"},
        {",1,2,3,4", "the id is empty"},
        {"\"\",1,2,3,4", "the id is empty"},
        {"\"a,1,2,3,4", "the quote"},
        {"\"a\"\",1,2,3,4", "the quote"},
        {"\"", "the quote"},
        {"\"a\"b,1,2,3,4", "there is text"},
        {"a,,2,3,4", "speed is not"},
        {"a,x,2,3,4", "speed is not"},
        {"a,1e,2,3,4", "speed is not"},
        {"a,nan,2,3,4", "speed is not"},
        {"a,1,inf,3,4", "angle is not"},
        {"a,0x1,2,3,4", "speed is not"},
        {"a,1 1,2,3,4", "speed is not"},
        {"a,1\r,2,3,4", "speed is not"},
        {"a,-1,2,3,4", "speed must"},
        {"a,1e999,2,3,4", "speed must"},
        {"a,1,-1e-9,3,4", "angle must"},
        {"a,1,90.1,3,4", "angle must"},
        {"a,1,2,0,4", "mass must"},
        {"a,1,2,-3,4", "mass must"},
        {"a,1,2,1e-999,4", "mass must"},
        {"a,1,2,1e999,4", "mass must"},
        {"a,1,2,3,0", "diameter must"},
        {"a,1,2,3,-0.0", "diameter must"},
        {HEADER, ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[200];
        int size = snprintf(text, sizeof text, "first,1,2,3,4\n%s\nlast,1,2,3,4\n", cases[i][0]);
        struct table table = table_of(text, (size_t)size);
        assert_int_equal(table.row_count, 3);
        assert_int_equal(table.shot_count, 2);
        assert_null(table.rows[0].problem);
        assert_null(table.rows[2].problem);
        const char *problem = table.rows[1].problem;
        assert_non_null(problem);
        if (strncmp(problem, cases[i][1], strlen(cases[i][1])) != 0)
            fail_msg("%s: %s", cases[i][0], problem);
        table_free(&table);
    }
}

static void odd_texts(void **state)
{
    static const char *const nothing[] = {"", "\n", "\r\n", "\n\n\n", HEADER, HEADER "\n", "\xEF\xBB\xBF", " "};
    (void)state;
    for (size_t i = 0; i < sizeof nothing / sizeof nothing[0]; i++) {
        struct table table = table_of(nothing[i], strlen(nothing[i]));
        assert_int_equal(table.row_count, 0);
        table_free(&table);
    }

    struct table table = TABLE("a\0b,1,2,3,4\n");
    assert_int_equal(table.row_count, 1);
    assert_int_equal(table.shot_count, 0);
    table_free(&table);

    /* Every beginning of a text is a text: nothing is read beyond its end (for AddressSanitizer). */
    static const char text[] = "\xEF\xBB\xBF" HEADER "\n\"a\"\"\",1,2,3,4\r\nb,+1e-3,2,3,4\n";
    for (size_t size = 0; size < sizeof text; size++) {
        char *copy = malloc(size ? size : 1);
        assert_non_null(copy);
        memcpy(copy, text, size);
        assert_true(table_parse(&table, copy, size));
        table_free(&table);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vacuum),
        cmocka_unit_test(straight_up),
        cmocka_unit_test(convergence),
        cmocka_unit_test(drag_shortens),
        cmocka_unit_test(shortest_flights),
        cmocka_unit_test(flights_without_end),
        cmocka_unit_test(sines),
        cmocka_unit_test(good_lines),
        cmocka_unit_test(bad_lines),
        cmocka_unit_test(odd_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
