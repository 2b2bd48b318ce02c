/* The flight of a sphere through air: the physics of crunch, pure functions without any process in them.
 *
 * A sphere is launched from the ground. Gravity pulls it down, and the air slows it with a force that
 * grows with the square of its speed (Newton's drag). There is no formula for that path, so it is followed
 * in steps of a hundredth of a second with the classical Runge-Kutta method of the fourth order.
 *
 * The same numbers give the same flight, bit for bit, on every system and with every compiler. C promises
 * that for + - * / and sqrt of a double, as IEEE 754 rounds them correctly, but not for sin and cos, which
 * differ in the last bit from one C library to the next, and not where a compiler fuses a * b + c into one
 * rounding. So there is a sine of our own below, and fusing is switched off: here, and for GCC by
 * -ffp-contract=off.
 */
#ifndef CRUNCH_FLIGHT_H
#define CRUNCH_FLIGHT_H

#include <float.h>
#include <math.h>
#include <stddef.h>

#if !defined(__GNUC__) || defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif

#define PI 3.14159265358979323846
#define GRAVITY 9.80665        /* m/s², the standard value                   */
#define AIR_DENSITY 1.225      /* kg/m³, at sea level and 15 °C              */
#define DRAG_COEFFICIENT 0.47  /* of a smooth sphere at such speeds          */
#define TIME_STEP 0.01         /* seconds                                    */
#define MOST_STEPS 2000000     /* 20 000 seconds: nothing real flies longer */

struct shot {
    double speed;    /* m/s                       */
    double angle;    /* degrees above the horizon */
    double mass;     /* kg                        */
    double diameter; /* m                         */
};

struct landing {
    double range;  /* metres from the launch                     */
    double height; /* metres, the greatest                       */
    double time;   /* seconds in the air; negative: did not land */
};

struct motion {
    double x, y, vx, vy;
};

/* Sine and cosine of an angle from 0 to 90 degrees, to about one unit in the last place. Above 45 degrees
 * the two change places, as sin a = cos(90 - a), and 90 - a is exact there: so cos 90 is exactly 0. What
 * is left, 0 to pi/4, is the Taylor series up to x^17, written from its last term: 1 - x²/(2·3) · (1 -
 * x²/(4·5) · (1 - …)). */
static inline void sine_and_cosine(double degrees, double *sine, double *cosine)
{
    int swap = degrees > 45;
    double x = (swap ? 90 - degrees : degrees) * (PI / 180);
    double square = x * x;
    double s = 1, c = 1;
    for (int n = 16; n > 0; n -= 2) {
        s = 1 - square * s / (n * (n + 1));
        c = 1 - square * c / (n * (n - 1));
    }
    s *= x;
    *sine = swap ? c : s;
    *cosine = swap ? s : c;
}

/* How the motion changes in a second: the velocity, and the acceleration by drag and gravity. */
static inline struct motion change(struct motion m, double drag)
{
    double speed = sqrt(m.vx * m.vx + m.vy * m.vy);
    struct motion rate = {m.vx, m.vy, -drag * speed * m.vx, -drag * speed * m.vy - GRAVITY};
    return rate;
}

/* The motion after `seconds` at a rate that stays the same. */
static inline struct motion advance(struct motion m, struct motion rate, double seconds)
{
    struct motion next = {m.x + seconds * rate.x, m.y + seconds * rate.y, m.vx + seconds * rate.vx,
                          m.vy + seconds * rate.vy};
    return next;
}

/* One Runge-Kutta step: the rate at the beginning, twice in the middle and at the end, weighted 1 2 2 1. */
static inline struct motion runge_kutta(struct motion m, double drag, double step)
{
    struct motion a = change(m, drag);
    struct motion b = change(advance(m, a, step / 2), drag);
    struct motion c = change(advance(m, b, step / 2), drag);
    struct motion d = change(advance(m, c, step), drag);
    struct motion mean = {(a.x + 2 * b.x + 2 * c.x + d.x) / 6, (a.y + 2 * b.y + 2 * c.y + d.y) / 6,
                          (a.vx + 2 * b.vx + 2 * c.vx + d.vx) / 6, (a.vy + 2 * b.vy + 2 * c.vy + d.vy) / 6};
    return advance(m, mean, step);
}

/* Follows the flight to the ground, in steps of `step` seconds. Returns NULL and fills *landing, or says
 * why not.
 *
 * The landing point lies on the straight line between the last step that is not below the ground and the
 * first that is. So a shot at 0 degrees, or one too slow to be in the air for a whole step, has range,
 * height and time 0.
 *
 * drag × speed × step is the part of its speed that the sphere loses in one step. The method needs it to
 * be small, and runs away when it is not. Energy is only lost, so the speed is never greater than at the
 * launch: looking once will do. */
static inline const char *fly(const struct shot *shot, double step, struct landing *landing)
{
    double radius = shot->diameter / 2;
    double drag = AIR_DENSITY * DRAG_COEFFICIENT * (PI * radius * radius) / 2 / shot->mass;
    if (!(drag * shot->speed * step <= 0.5))
        return "too light for its size and speed: the air stops it within a few steps";

    double sine, cosine;
    sine_and_cosine(shot->angle, &sine, &cosine);
    struct motion now = {0, 0, shot->speed * cosine, shot->speed * sine};
    double height = 0;

    for (int steps = 0; steps < MOST_STEPS; steps++) {
        struct motion next = runge_kutta(now, drag, step);
        if (!(next.y >= 0)) { /* below the ground, or not a number */
            double part = now.y / (now.y - next.y);
            double range = now.x + part * (next.x - now.x);
            if (!(range <= DBL_MAX && height <= DBL_MAX)) /* nor if they are not numbers */
                return "numbers beyond those of a double";
            landing->range = range;
            landing->height = height;
            landing->time = (steps + part) * step;
            return NULL;
        }
        if (next.y > height)
            height = next.y;
        now = next;
    }
    return "did not land within 20000 s";
}

#endif
