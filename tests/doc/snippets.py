"""The C in the guides compiles: all blocks of a document in a row, as one file.

usage: snippets.py SOURCE_ROOT COMPILER..."""

import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
from tap import Tap

HEADERS = ["infer/infer.h", "math.h", "stdio.h", "stdlib.h", "string.h"]
FLAGS = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function", "-fsyntax-only"]


def program(name, text):
    """The blocks with a #line before each, so that errors name the document's lines."""
    parts = [f"#include <{header}>" for header in HEADERS]
    for match in re.finditer(r"^```c\n(.*?)^```$", text, re.M | re.S):
        line = text.count("\n", 0, match.start(1)) + 1
        parts.append(f'#line {line} "{name}"\n{match.group(1)}')
    return "\n".join(parts) if len(parts) > len(HEADERS) else None


def errors(compiler, include, source):
    run = subprocess.run(compiler + FLAGS + ["-I", include, "-x", "c", "-"], input=source,
                         capture_output=True, text=True, check=False)
    return [run.stderr] if run.returncode else []


def main():
    root, compiler = sys.argv[1], sys.argv[2:]
    tap = Tap()
    folder = os.path.join(root, "doc")
    for name in sorted(n for n in os.listdir(folder) if n.endswith(".md")):
        with open(os.path.join(folder, name), encoding="utf-8") as f:
            source = program(name, f.read())
        if source:
            tap.case(f"C in doc/{name}", errors(compiler, os.path.join(root, "include"), source))
    tap.done()


main()
