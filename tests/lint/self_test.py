"""The lint finds what it shall find: each rule is tried on a small tree that breaks it.

usage: self_test.py"""

import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "support"))
from tap import Tap

FINE = "/* Says what it is. */\nint f(void);\n"
LONG = "/* Long. */\nint f(void)\n{\n" + "    g();\n" * 99 + "}\n"

# (what the lint shall say, path, text)
BROKEN = [
    ("text may include base", "lib/text/a.c", '/* A. */\n#include "model/model.h"\n'),
    ("public interfaces are implemented in lib", "lib/base/a.c",
     "/* A. */\n#include <infer/api.h>\n"),
    ("kernels may include base/types.h", "kernels/a.c", '/* A. */\n#include "base/error.h"\n'),
    ("is no floor", "lib/attic/a.c", '/* A. */\n#include "base/error.h"\n'),
    ("an example includes <infer/*.h>", "examples/a.c", '/* A. */\n#include "base/error.h"\n'),
    ("infer_model_options is for lib/*.c alone", "lib/model/a.c",
     "/* A. */\nint f(infer_model_options *o);\n"),
    ("601 lines, at most 600", "lib/text/a.c", "/* A. */\n" + "\n" * 600),
    ("301 lines, at most 300", "lib/a.c", "/* A. */\n" + "\n" * 300),
    ("121 lines, at most 120", "lib/model/arch/a.c", "/* A. */\n" + "\n" * 120),
    ("121 lines, at most 120", "examples/a.c", "/* A. */\n" + "\n" * 120),
    ("351 lines, at most 350", "include/infer/a.h", "/* A. */\n" + "\n" * 350),
    ("f has 101 lines", "lib/text/a.c", LONG),
    ("over 60: lib/text/a.c:3: f has 70 lines", "lib/text/a.c",
     LONG.replace("    g();\n" * 31, "", 1)),
    ("calls malloc()", "lib/text/a.c", "/* A. */\nvoid *p = malloc(1);\n"),
    ("calls exit()", "kernels/a.c", "/* A. */\nvoid f(void)\n{\n    exit(1);\n}\n"),
    ("calls getenv()", "lib/a.c", "/* A. */\nchar *p = getenv(name);\n"),
    ("the first line does not say", "lib/text/a.c", "#include <math.h>\n"),
    ("no include guard", "lib/text/a.h", FINE),
    ("names a path of one machine", "doc/a.md", "Look at /ho" + "me/me/file.\n"),
    ("is unfinished", "lib/text/a.c", "/* A. */\n/* TO" + "DO: all */\n"),
    ("ends in a space", "doc/a.md", "words \n"),
    ("has a tab", "lib/text/a.c", "/* A. */\n\tint x;\n"),
    ("no newline at the end", "doc/a.md", "words"),
    ("does not belong at the top level", "notes.md", "words\n"),
]

# What must pass although it looks alike.
FINE_FILES = [
    ("lib/text/a.c", "/* Uses malloc(1) and exit(2) in words alone. */\nint f(void);\n"),
    ("lib/text/b.c", "/* B. */\nvoid f(struct a *a)\n{\n    a->free(\"printf(1)\");\n}\n"),
    ("lib/base/alloc.c", "/* The allocator. */\nvoid *p = malloc(1);\n"),
    ("lib/text/table.h", "/* Generated from a table. */\n#ifndef T_H\n#define T_H\n" + "\n" * 700
     + "#endif\n"),
    ("lib/engine/a.c", '/* A. */\n#include "model/model.h"\n#include "engine/a.h"\n'),
]


def lint(files):
    with tempfile.TemporaryDirectory() as root:
        for path, text in files:
            full = os.path.join(root, path)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full, "w", encoding="utf-8") as f:
                f.write(text)
        run = subprocess.run([sys.executable, os.path.join(HERE, "lint.py"), root],
                             capture_output=True, text=True, check=False)
    # How small trees are formatted is not the matter here.
    return re.sub(r"not ok \d+ - clang-format.*?(?=\nok|\nnot ok|\n1\.\.)", "", run.stdout,
                  flags=re.S) + run.stderr


def main():
    tap = Tap()
    for words, path, text in BROKEN:
        said = lint([(path, text)])
        tap.case(f"finds: {words}", [] if words in said else [said])
    said = lint(FINE_FILES)
    tap.case("is content with what is fine", [said] if "not ok" in said else [])
    tap.done()


main()
