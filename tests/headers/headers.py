"""Every public header compiles alone, in every dialect that a host may use.

usage: headers.py INCLUDE_DIR"""

import concurrent.futures
import os
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
from tap import Tap

DIALECTS = [
    ("gcc", "c", ["c99", "c11", "c17", "c2x"]),
    ("g++", "c++", ["c++98", "c++11", "c++17", "c++20"]),
    ("clang", "c", ["c99", "c11", "c17", "c2x"]),
    ("clang++", "c++", ["c++98", "c++11", "c++17", "c++20"]),
]


def compile_alone(include, header, compiler, language, standard):
    """The header twice, so that its guard is tried too; nothing before it, and after it one
    declaration, as C forbids a program of macros alone."""
    source = f"#include <infer/{header}>\n#include <infer/{header}>\ntypedef int not_empty;\n"
    run = subprocess.run(
        [compiler, f"-std={standard}", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I", include,
         "-fsyntax-only", "-x", language, "-"],
        input=source, capture_output=True, text=True, check=False)
    return [run.stderr] if run.returncode else []


def main():
    include = sys.argv[1]
    headers = sorted(n for n in os.listdir(os.path.join(include, "infer")) if n.endswith(".h"))
    tap = Tap()
    jobs = []
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for compiler, language, standards in DIALECTS:
            for standard in standards:
                for header in headers:
                    name = f"{header} as {standard} with {compiler}"
                    if shutil.which(compiler):
                        jobs.append((name, pool.submit(compile_alone, include, header, compiler,
                                                       language, standard)))
                    else:
                        tap.skip(name, f"{compiler} is absent")
        for name, job in jobs:
            tap.case(name, job.result())
    with open(os.path.join(include, "infer", "infer.h"), encoding="utf-8") as f:
        included = set(re.findall(r"#include <infer/(\w+\.h)>", f.read()))
    tap.case("infer.h includes all others",
             [f"{h} is missing" for h in headers if h not in included and h != "infer.h"])
    tap.done()


main()
