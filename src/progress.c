/* Progress of a map: figures for a callback, and a bar on a terminal (or lines where stderr is none). About ten
 * times a second. */
#include "pool.h"

#include "session.h"

#define TELL_NS 100000000u
#define LINE_NS 5000000000u
#define BAR_WIDTH 24

void kin__progress_begin(kin__progress *p, size_t total)
{
    *p = (kin__progress){.now = {.total = total, .remaining = -1}, .began = kin__now_ns()};
    p->last_ns = p->last_line_ns = p->began;
}

static void format_time(char *text, size_t size, double seconds)
{
    long long s = seconds < 0 || seconds > 3.6e9 ? -1 : (long long)(seconds + 0.5);
    if (s < 0)
        (void)snprintf(text, size, "--:--");
    else if (s < 3600)
        (void)snprintf(text, size, "%lld:%02lld", s / 60, s % 60);
    else
        (void)snprintf(text, size, "%lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
}

static void draw(kin__progress *p, const char *label, bool end)
{
    const kin_progress *now = &p->now;
    bool terminal = os_is_terminal(stderr);
    if (!terminal && !end && kin__now_ns() - p->last_line_ns < LINE_NS)
        return;
    p->last_line_ns = kin__now_ns();
    char left[32], bar[BAR_WIDTH + 1];
    format_time(left, sizeof left, end ? now->seconds : now->remaining);
    size_t full = now->total != 0 ? (size_t)((double)now->done / (double)now->total * BAR_WIDTH) : BAR_WIDTH;
    for (size_t i = 0; i < BAR_WIDTH; i++)
        bar[i] = i < full ? '#' : '.';
    bar[BAR_WIDTH] = 0;
    (void)fprintf(stderr, "%s%s [%s] %zu/%zu  %.0f/s  %s %s  failed %zu%s", terminal ? "\r" : "", label, bar, now->done, now->total, now->rate,
                  end ? "took" : "left", left, now->failed, terminal ? (end ? "\x1b[K\n" : "\x1b[K") : "\n");
    (void)fflush(stderr);
}

void kin__progress_tell(kin__progress *p, const kin_map_options *options, size_t done, size_t failed, bool end)
{
    if (options->progress == NULL && options->bar == NULL)
        return;
    uint64_t ns = kin__now_ns();
    if (!end && ns - p->last_ns < TELL_NS)
        return;
    kin_progress *now = &p->now;
    double since = (double)(ns - p->last_ns) / 1e9, lately = since > 0 ? (double)(done - p->last_done) / since : 0;
    now->seconds = (double)(ns - p->began) / 1e9;
    now->rate = end ? (now->seconds > 0 ? (double)done / now->seconds : 0) : now->rate > 0 ? now->rate * 0.8 + lately * 0.2 : lately;
    now->done = done;
    now->failed = failed;
    now->remaining = end ? 0 : now->rate > 0 ? (double)(now->total - done) / now->rate : -1;
    p->last_ns = ns;
    p->last_done = done;
    if (options->progress != NULL)
        options->progress(now, options->progress_data);
    if (options->bar != NULL)
        draw(p, options->bar, end);
}
