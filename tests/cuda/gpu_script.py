"""tests/gpu.sh gives the right verdict on programs that pass, fail, skip and hang.

usage: gpu_script.py SOURCE_ROOT"""

import os
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
from tap import Tap

# Program: what it prints and does. All others pass.
FAKES = {
    "cuda/card_rows": "echo '# [  FAILED  ] rows'; echo '# [       OK ] norms'; exit 1",
    "cuda/card_few": "echo '# [       OK ] few'; echo '# [  SKIPPED ] other'; echo '[  SKIPPED ] other' >&2",
    "cuda/card_many": "echo '# skipped: no GPU for many'; echo '# [  SKIPPED ] many'",
    "cuda/card_store": "echo '[  PASSED  ] 0 test(s).' >&2",
    "cuda/card_attn": "kill -SEGV $$",
}
PASSES = "echo '# [ RUN      ] one'; echo '# [       OK ] one'; echo '# [       OK ] two'"
EXPECTED = {
    "cuda/card_rows": ("1", "0", "failed (exit 1)"),
    "cuda/card_few": ("1", "1", "passed"),
    "cuda/card_many": ("0", "1", "failed (GPU not found)"),
    "cuda/card_store": ("0", "0", "failed (nothing was tested)"),
    "cuda/card_attn": ("0", "0", "failed (exit 139)"),
    "cuda/card_moe": ("0", "0", "failed (not built)"),
}


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        f.write("#!/bin/sh\n" + text + "\n")
    os.chmod(path, 0o755)


def run(root, folder, fakes, left_out):
    """The exit status, and (passed, skipped, verdict) of each program."""
    script = os.path.join(root, "tests", "gpu.sh")
    with open(script, encoding="utf-8") as f:
        programs = re.findall(r"^((?:unit|cuda|model)/\w+) \d+$", f.read(), re.M)
    for program in programs:
        if program not in left_out:
            write(os.path.join(folder, "build", "tests", program), fakes.get(program, PASSES))
    write(os.path.join(folder, "bin", "nvidia-smi"), "echo a card")
    path = os.path.join(folder, "bin") + os.pathsep + os.environ["PATH"]
    done = subprocess.run(["sh", script, "-n", os.path.join(folder, "build"),
                           os.path.join(folder, "logs")],
                          env=dict(os.environ, PATH=path), capture_output=True, text=True,
                          check=False)
    row = re.compile(r"^(\S+) +(\d+) passed +(\d+) skipped +\d+ s  (.*)$", re.M)
    return done.returncode, {m[0]: m[1:] for m in row.findall(done.stdout)}, programs


def main():
    tap = Tap()
    with tempfile.TemporaryDirectory() as folder:
        status, rows, programs = run(sys.argv[1], folder, {}, ())
        tap.case("all passed", [f"{p}: {rows.get(p)}" for p in programs
                                if rows.get(p) != ("2", "0", "passed")] + ["status"] * (status != 0))
    with tempfile.TemporaryDirectory() as folder:
        status, rows, _ = run(sys.argv[1], folder, FAKES, ("cuda/card_moe",))
        tap.case("each verdict is right", [f"{p}: {rows.get(p)}, expected {e}"
                                           for p, e in EXPECTED.items() if rows.get(p) != e])
        tap.case("one failure is a failure of all", ["status"] * (status != 1))
    tap.done()


main()
