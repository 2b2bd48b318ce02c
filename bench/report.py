"""Reduces the lines that run.sh collected to a report in markdown.

    report.py DIRECTORY        with the files raw, failed and about that run.sh wrote there

All ratios are of times, kin's by the other's or the other way round, computed from the medians; what the single rounds
gave is beside them. The goals are in GOALS; nothing else here knows a figure.
"""
import os
import statistics
import sys

# text, (group, parameter, subject) above the line, the same below it, "<=" or ">=", the goal
GOALS = [
    ("start+join, small parent: time / fork+_exit+wait",
     ("start", "0MB", "kin-fork"), ("start", "0MB", "fork"), "<=", 1.5),
    ("start+join, small parent: times as fast as posix_spawn",
     ("start", "0MB", "posix_spawn"), ("start", "0MB", "kin-fork"), ">=", 3.0),
    ("start+join, 4 GB parent: time / its own with a small parent",
     ("start", "4000MB", "kin-fork"), ("start", "0MB", "kin-fork"), "<=", 1.2),
    ("lock+unlock, uncontended: time / robust pthread mutex",
     ("lock", "pair", "kin"), ("lock", "pair", "robust"), "<=", 0.7),
    ("map, trivial task, default chunk: times as many tasks/s as Python's Pool",
     ("map", "default", "python"), ("map", "default", "kin"), ">=", 20.0),
    ("map, trivial task, default chunk: time per item / libgomp dynamic,1",
     ("map", "default", "kin"), ("map", "default", "libgomp"), "<=", 1.5),
    ("map, trivial task, chunk 1: times as many tasks/s as Python's Pool, chunksize 1",
     ("map", "chunk1", "python"), ("map", "chunk1", "kin"), ">=", 100.0),
    ("map, 100 µs task, 2 workers: times as fast as one process (or the next line)",
     ("map", "100us", "one"), ("map", "100us", "kin"), ">=", 1.9),
    ("map, 100 µs task, 2 workers: share of what two independent processes reach (or the line before)",
     ("map", "100us", "two"), ("map", "100us", "kin"), ">=", 0.95),
]
# These two are one goal: either is enough.
EITHER = (7, 8)

TITLES = {
    "start": "start: one process started and joined",
    "lock": "lock: one uncontended lock and unlock, in shared memory",
    "map": "map: time per item with 2 workers",
    "crunch": "crunch: a whole program, wall time",
}
PARAMETERS = {
    "default": "trivial, default chunk",
    "chunk1": "trivial, chunk 1",
    "100us": "100 µs task",
    "pair": "",
    "program": "whole program",
    "pool": "the pool alone",
}
# What the others of a group are compared with.
REFERENCE = {"start": "kin-fork", "lock": "kin", "map": "kin", "crunch": "workers-2"}
NAMES = {
    "kin": "kin", "kin-fork": "kin, fork server", "kin-spawn": "kin, spawn", "fork": "fork + _exit + waitpid",
    "posix_spawn": "posix_spawn (static program) + waitpid", "python-fork": "Python Process, fork",
    "python-forkserver": "Python Process, forkserver", "python-spawn": "Python Process, spawn",
    "normal": "pthread mutex, process-shared", "adaptive": "pthread mutex, process-shared, adaptive",
    "robust": "pthread mutex, process-shared, robust", "semaphore": "POSIX semaphore, process-shared",
    "libgomp": "libgomp, schedule(dynamic,1), 2 threads", "libgomp-static": "libgomp, schedule(static), 2 threads",
    "one": "one process, a loop", "two": "two independent processes, half each",
    "python": "Python Pool(2).map", "python-chunk1": "Python Pool(2).map, chunksize 1",
    "workers-1": "kin, 1 worker", "workers-2": "kin, 2 workers",
}
NOTES = {
    "start": "The parent's memory is allocated after `kin_init` and touched page by page, in 4 KB pages. Mean of up to "
             "{start_n} starts per round (Python: {python_start_n}), at most 3 s, one after the other without a pause: what "
             "kin's fork server does ahead of the next start is paid for in the same time.",
    "lock": "Mean of {lock_n} pairs per round, one process, nobody else wants the lock.",
    "map": "Items of 8 bytes in, 8 bytes out; 1 000 000 of them, 200 000 with chunk 1 (Python: 20 000), 2 000 of 100 µs. "
           "Pools and threads exist before the clock starts. kin's time includes copying the items into and out of "
           "shared memory; threads need no copies, Python's objects are pickled. The 100 µs task is a fixed chain of "
           "multiplications, the same machine code for every subject, Python's included (by ctypes). Every result is "
           "checked.",
    "crunch": "`examples/crunch --quiet` on {rows} rows of its built-in input. The whole program makes its input and writes "
              "its output in one process; the pool alone is from `kin_pool_create` to the last result, in its own words. "
              "Per second: rows.",
}


def read_raw(path):
    """{(group, parameter): {subject: {round: value}}}, the units by group, everything in the order of its first line."""
    data, units = {}, {}
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            number, group, subject, parameter, value, unit = line.split()
            data.setdefault((group, parameter), {}).setdefault(subject, {})[int(number)] = float(value)
            units[group] = unit
    return data, units


def figure(x):
    """Three significant digits, no exponent: 0.0123, 1.23, 123, 12 300, 1.23 M."""
    if x >= 1e6:
        return f"{x / 1e6:.3g} M" if x < 1e9 else f"{x / 1e6:.0f} M"
    if x >= 1000:
        return f"{round(x, 3 - len(str(int(x)))):,.0f}".replace(",", " ")
    return f"{x:.1f}" if x >= 100 else f"{x:.3g}"


def per_second(value, unit, about):
    each = {"us": 1e6, "ns": 1e9, "ns/item": 1e9, "s": float(about["rows"])}
    return each[unit] / value


def span(values, shape=figure):
    return f"{shape(min(values))} – {shape(max(values))}"


def ratio(x):
    return f"{x:.0f}" if x >= 100 else f"{x:.1f}" if x >= 10 else f"{x:.2f}" if x >= 0.1 else f"{x:.2g}"


def compare(above, below):
    """The ratio of the medians, and of each round both took part in."""
    both = sorted(set(above) & set(below))
    median = statistics.median(above.values()) / statistics.median(below.values())
    return median, [above[r] / below[r] for r in both]


def find(data, key):
    group, parameter, subject = key
    return data.get((group, parameter), {}).get(subject)


def goals(data):
    rows, met = [], {}
    for i, (text, above, below, sign, goal) in enumerate(GOALS):
        a, b = find(data, above), find(data, below)
        if not a or not b:
            continue
        median, rounds = compare(a, b)
        met[i] = median <= goal if sign == "<=" else median >= goal
        rows.append((i, text, sign.replace("<=", "≤").replace(">=", "≥"), goal, median, rounds))
    if not rows:
        return
    print("## Goals\n\n| goal | wanted | measured | single rounds | met |\n|---|---|---|---|---|")
    for i, text, sign, goal, median, rounds in rows:
        answer = "yes" if met[i] else "by the other line" if i in EITHER and any(met.get(j) for j in EITHER) else "**no**"
        print(f"| {text} | {sign} {goal:g} | {ratio(median)} | {span(rounds, ratio)} | {answer} |")
    print("\nRatios are of medians; *single rounds* is the smallest and the largest ratio of one round.\n")
    one, two = find(data, ("map", "100us", "one")), find(data, ("map", "100us", "two"))
    if one and two:
        median, rounds = compare(one, two)
        print(f"What the machine had to give: two independent processes were {ratio(median)} times as fast as one "
              f"({span(rounds, ratio)}).")
        if median < 1.8:
            print("**That is much less than 2: something else was running, or the two cores are one. Do not trust figures "
                  "that need both.**")
        print()


def group_table(data, units, group, about):
    unit = units[group]
    short = "µs" if unit == "us" else unit
    print(f"## {TITLES[group]}\n\n{NOTES[group].format(**about)}\n")
    reference = REFERENCE[group]
    print(f"| | subject | median, {short} | min – max | per second | time / {NAMES[reference]} | single rounds |")
    print("|---|---|---|---|---|---|---|")
    for (g, parameter), subjects in data.items():
        if g != group:
            continue
        for subject, values in subjects.items():
            median, shown = statistics.median(values.values()), PARAMETERS.get(parameter, parameter.replace("MB", " MB"))
            against = "| 1 | |"
            if subject != reference and reference in subjects:
                r, rounds = compare(values, subjects[reference])
                against = f"| {ratio(r)} | {span(rounds, ratio)} |"
            print(f"| {shown} | {NAMES.get(subject, subject)} | {figure(median)} | {span(values.values())} "
                  f"| {figure(per_second(median, unit, about))} {against}")
    print()


def head(about):
    print("# kin beside its peers\n")
    print(f"`{about['command']}`, {about['date']}: {about['rounds']} rounds; in each, every subject of a group ran once, in "
          "turn, alone. Optimisation -O2 for everything compiled; nothing is pinned to a CPU.\n")
    if about["quick"] == "1" or int(about["rounds"]) < 7:
        print("**A short run, to see that everything works: not for figures.**\n")
    if float(about["load"].split()[0]) > 0.5:
        print("**The machine was not idle when this began: do not trust the figures.**\n")
    for key, name in (("kin", "kin"), ("cpu", "CPU"), ("cores", "usable cores"), ("memory", "memory"), ("kernel", "kernel"),
                      ("virtual", "virtual machine"), ("hugepages", "transparent huge pages"), ("gcc", "gcc"),
                      ("glibc", "C library"), ("libgomp", "libgomp"), ("python", "Python"),
                      ("load", "load average before"), ("stolen", "CPU time stolen by the host")):
        if about.get(key):
            print(f"- {name}: {about[key]}")
    print()


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    directory = sys.argv[1]
    with open(os.path.join(directory, "about"), encoding="utf-8") as lines:
        about = dict(line.rstrip("\n").split("=", 1) for line in lines)
    data, units = read_raw(os.path.join(directory, "raw"))
    head(about)
    goals(data)
    for group in units:
        group_table(data, units, group, about)
    with open(os.path.join(directory, "failed"), encoding="utf-8") as lines:
        failed = lines.read().splitlines()
    if failed:
        print("## Failed\n")
        print("\n".join(f"- round {line}" for line in failed))


if __name__ == "__main__":
    main()
