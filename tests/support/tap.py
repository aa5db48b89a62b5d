"""Test Anything Protocol for the tests that are scripts: one line a case."""

import sys
import traceback


class Tap:
    """Counts cases and prints them; the plan comes last, so nothing must be counted before."""

    def __init__(self):
        self.n = 0
        self.failed = 0

    def case(self, name, problems=()):
        """A case fails where there are problems; each is printed below it."""
        problems = list(problems)  # may raise, before the case is counted
        self.n += 1
        if problems:
            self.failed += 1
        print(f"{'not ok' if problems else 'ok'} {self.n} - {name}")
        for problem in problems:
            for line in str(problem).splitlines():
                print(f"#   {line}")
                print(f"{name}: {line}", file=sys.stderr)  # what meson shows of a failed test
        sys.stdout.flush()

    def skip(self, name, why):
        self.n += 1
        print(f"ok {self.n} - {name} # SKIP {why}", flush=True)

    def run(self, name, function, *args):
        """A case that is a function: it passes unless it raises."""
        try:
            function(*args)
        except Skip as skip:
            self.skip(name, skip)
        except AssertionError as error:
            self.case(name, [error or "assertion failed"] + traceback.format_exc().splitlines()[-4:-1])
        except Exception:  # a broken test is a failed test, and the next ones still run
            self.case(name, [traceback.format_exc()])
        else:
            self.case(name)

    def done(self):
        print(f"1..{self.n}")
        sys.exit(1 if self.failed else 0)


class Skip(Exception):
    """Raised by a case that cannot run here; says what is missing."""
