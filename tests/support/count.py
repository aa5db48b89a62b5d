"""Adds up what test runs report, case by case.

usage: count.py [--fuzz NAME=ok|failed]... BUILD_DIR...

Reads each build's meson-logs (JUnit for the cases, JSON for programs that died) and prints
the cases that failed or were skipped, then "N passed, N failed, N skipped". The exit status
is 1 after a failure, or where CI=true after a skip whose name does not speak of a GPU."""

import json
import os
import sys
import xml.etree.ElementTree


def cases(build):
    """(test, case, verdict) of each case."""
    logs = os.path.join(build, "meson-logs")
    tree = xml.etree.ElementTree.parse(os.path.join(logs, "testlog.junit.xml"))
    for case in tree.iter("testcase"):
        verdict = "passed"
        if case.find("skipped") is not None:
            verdict = "skipped"
        elif case.find("failure") is not None or case.find("error") is not None:
            verdict = "failed"
        yield case.get("classname") or "", case.get("name") or "", verdict


def dead_programs(build):
    """Tests that failed as a whole: a crash after good cases shows only here."""
    with open(os.path.join(build, "meson-logs", "testlog.json"), encoding="utf-8") as f:
        for line in f:
            run = json.loads(line)
            if run["result"] not in ("OK", "SKIP", "EXPECTEDFAIL"):
                yield run["name"], run["result"], run.get("returncode")


def about_gpu(name):
    return any(word in name.lower() for word in ("gpu", "cuda"))


def count(build, totals, notes):
    failed_here = 0
    bad_skips = 0
    for test, case, verdict in cases(build):
        totals[verdict] += 1
        failed_here += verdict == "failed"
        if verdict != "passed":
            notes.append(f"{verdict}: {os.path.basename(build)}: {test} {case}".rstrip())
        bad_skips += verdict == "skipped" and not about_gpu(f"{test} {case}")
    for name, result, status in dead_programs(build):
        notes.append(f"{name} ended with {result}, status {status}: {build}/meson-logs/testlog.txt")
        if failed_here == 0:
            totals["failed"] += 1
    return bad_skips


def main():
    totals = {"passed": 0, "failed": 0, "skipped": 0}
    notes = []
    bad_skips = 0
    arguments = iter(sys.argv[1:])
    for argument in arguments:
        if argument == "--fuzz":
            name, verdict = next(arguments).split("=")
            totals["passed" if verdict == "ok" else "failed"] += 1
            if verdict != "ok":
                notes.append(f"failed: {name}")
        else:
            bad_skips += count(argument, totals, notes)
    print("\n".join(notes))
    print(", ".join(f"{n} {verdict}" for verdict, n in totals.items()))
    ci = os.environ.get("CI", "").lower() == "true"
    sys.exit(1 if totals["failed"] or not totals["passed"] or (ci and bad_skips) else 0)


main()
