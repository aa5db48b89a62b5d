"""The generated parts of doc/models.md are what the library's tables say.

usage: models.py SOURCE_ROOT LIST_MODELS [--write]"""

import difflib
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
from tap import Tap

BLOCK = "<!-- generated: {} -->\n{}<!-- end -->"
PART = re.compile(r"^<!-- generated: ([\w -]+) -->\n(.*?)^<!-- end -->$", re.M | re.S)


def differences(want, have):
    if have is None:
        yield "doc/models.md has no such part"
    elif want != have:
        yield "write it anew with tests/doc/models.py --write:"
        yield from difflib.unified_diff(have.splitlines(), want.splitlines(), "doc/models.md",
                                        "the tables", lineterm="", n=0)


def main():
    root, program = sys.argv[1:3]
    path = os.path.join(root, "doc", "models.md")
    with open(path, encoding="utf-8") as f:
        text = f.read()
    out = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    parts = dict(PART.findall(out))
    assert parts, "the program lists nothing"
    if sys.argv[3:] == ["--write"]:
        with open(path, "w", encoding="utf-8") as f:
            f.write(PART.sub(lambda m: BLOCK.format(m.group(1), parts[m.group(1)]), text))
        return
    written = dict(PART.findall(text))
    tap = Tap()
    for name, want in parts.items():
        tap.case(f"{name} are those of the tables", differences(want, written.get(name)))
    tap.done()


main()
