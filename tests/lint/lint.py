"""Rules that no compiler checks: floors, sizes, forbidden calls, layout, format.

usage: lint.py SOURCE_ROOT"""

import os
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
from tap import Tap

TOP_LEVEL = {
    "meson.build", "meson_options.txt", "README.md", "COPYING", "include", "lib", "kernels",
    "examples", "tests", "benchmarks", "doc", "subprojects",
}

# doc/architecture.md: who may include whom. A floor may always include itself.
BACK_END = {"device", "kernels", "base"}
FLOORS = {
    "base": set(),
    "kernels": {"base/types.h", "cuda/emulate.h"},  # in place of nvcc, for tests without a GPU
    "device": {"kernels", "base"},
    "format": {"base"},
    "text": {"base"},
    "sample": BACK_END | {"text"},
    "cache": BACK_END,
    "vector": BACK_END,
    "model": BACK_END | {"format", "text"},  # it reads the vocabulary of its file
    "onnx": BACK_END | {"format"},
    "engine": BACK_END | {"model", "cache", "sample", "text"},
    "gateway": {"base"},
    "cluster": {"base", "model/arch.h"},
}
# The public interface of others, which these use like any host.
HOSTS = {"gateway", "cluster"}
# Who may use CUDA itself.
CUDA = ("kernels/cuda/", "lib/device/")
# What the floors may see of the public headers: values, never option structs.
PUBLIC_VALUES = {"types.h", "log.h", "index.h", "embed.h", "request.h", "device.h", "kv_cache.h", "session.h", "model.h",
                 "sampling.h", "self_test.h", "tokenizer.h", "version.h"}

LINES = [  # first pattern that matches holds
    (re.compile(r"include/infer/.*\.h$"), 350),
    (re.compile(r"lib/[^/]+\.c$"), 300),
    (re.compile(r"lib/model/arch/.*\.c$"), 120),
    (re.compile(r"examples/hello\.c$"), 25),
    (re.compile(r"examples/[^/]+\.c$"), 120),
    (re.compile(r".*\.(c|cpp|cu|cuh|h|py|sh|rs|go)$"), 600),
]
FUNCTION_LINES = 100
FUNCTION_LINES_SOFT = 60

# Memory comes from struct base_alloc, messages go to the log sink, the process is the host's.
FORBIDDEN = """malloc calloc realloc free aligned_alloc posix_memalign strdup strndup asprintf alloca
    printf fprintf vprintf vfprintf puts fputs putchar perror abort exit _exit quick_exit getenv
    setenv system fork signal sigaction raise rand srand setlocale strtok sleep usleep""".split()
FORBIDDEN_CALL = re.compile(r"(?<![\w.>])(" + "|".join(FORBIDDEN) + r")\s*\(")
FORBIDDEN_EXEMPT = {"lib/base/alloc.c"}  # the default allocator is the C library's

SOURCES = (".c", ".h", ".cpp", ".cu", ".cuh")
TEXTS = SOURCES + (".py", ".sh", ".md", ".build", ".txt", ".map", ".rs", ".go", ".1", ".3", ".mod")


def files_of(root):
    """Relative paths of all files but those that git would ignore."""
    found = []
    for folder, folders, names in os.walk(root):
        inside = os.path.relpath(folder, root)
        folders[:] = sorted(
            d for d in folders
            if not d.startswith(".") and d != "__pycache__"
            and not (inside == "." and d.startswith("build")))
        found += [os.path.normpath(os.path.join(inside, n)) for n in sorted(names)]
    return found


def read(root, path):
    with open(os.path.join(root, path), encoding="utf-8") as f:
        return f.read()


def is_generated(text):
    return text.split("\n", 1)[0].startswith("/* Generated ")


def without_comments(text):
    """Comments and the insides of literals become spaces; lines stay where they are."""
    def blank(match):
        s = match.group(0)
        if s.startswith(("/*", "//")):
            return re.sub(r"[^\n]", " ", s)
        return s[0] + " " * (len(s) - 2) + s[-1]
    pattern = r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
    return re.sub(pattern, blank, text, flags=re.S)


def functions(text):
    """(name, first line, lines) of each function: in the house style the braces of a
    function, and only these, stand alone at the start of a line."""
    lines = without_comments(text).split("\n")
    begin = None
    for i, line in enumerate(lines):
        if line.rstrip() == "{":
            begin = i
        elif line.rstrip() in ("}", "};") and begin is not None:
            head = ""
            j = begin - 1
            while j >= 0 and lines[j].strip() and not lines[j].rstrip().endswith((";", "}")):
                head = lines[j] + " " + head
                j -= 1
            name = re.search(r"(\w+)\s*\(", head)
            yield (name.group(1) if name else "?"), begin + 1, i - begin + 1
            begin = None


def floor_of(path):
    parts = path.split("/")
    if parts[0] == "kernels":
        return "kernels"
    if parts[0] == "lib" and len(parts) > 2:
        return parts[1]
    return None


def check_floors(root, sources):
    for path in sources:
        floor = floor_of(path)
        for n, line in enumerate(read(root, path).split("\n"), 1):
            match = re.match(r'\s*#\s*include\s+(["<])([^">]+)[">]', line)
            if not match:
                continue
            where, name = f"{path}:{n}: includes {match.group(2)}", match.group(2)
            if path.startswith("examples/"):
                if match.group(1) == '"' and not os.path.exists(
                        os.path.join(root, os.path.dirname(path), name)):
                    yield f"{where}: an example includes <infer/*.h> and its own headers only"
                continue
            if floor is None:
                continue
            if floor not in FLOORS:
                yield f"{path}: {floor} is no floor that doc/architecture.md names"
            elif match.group(1) == "<":
                if name.startswith("infer/") and floor not in HOSTS and (
                        floor == "kernels" or name[6:] not in PUBLIC_VALUES):
                    yield f"{where}: public interfaces are implemented in lib/*.c"
                elif name.startswith("cu") and not path.startswith(CUDA):
                    yield f"{where}: CUDA's headers are for {' and '.join(CUDA)}"
            elif name.split("/")[0] != floor and name.split("/")[0] not in FLOORS[floor] \
                    and name not in FLOORS[floor]:
                allowed = ", ".join(sorted(FLOORS[floor])) or "nothing"
                yield f"{where}: {floor} may include {allowed}"


def check_option_structs(root, sources):
    for path in sources:
        if floor_of(path) is None or floor_of(path) in HOSTS:
            continue
        for n, line in enumerate(without_comments(read(root, path)).split("\n"), 1):
            for name in re.findall(r"\binfer_\w+_options\b", line):
                yield f"{path}:{n}: {name} is for lib/*.c alone"


def check_sizes(root, sources):
    for path in sources:
        text = read(root, path)
        limit = next((limit for pattern, limit in LINES if pattern.match(path)), None)
        n = text.count("\n")
        if limit and n > limit and not is_generated(text):
            yield f"{path}: {n} lines, at most {limit}"


def check_functions(root, sources, long_ones):
    for path in sources:
        text = read(root, path)
        if is_generated(text) or not path.endswith(SOURCES):
            continue
        for name, line, lines in functions(text):
            if lines > FUNCTION_LINES:
                yield f"{path}:{line}: {name} has {lines} lines, at most {FUNCTION_LINES}"
            elif lines > FUNCTION_LINES_SOFT:
                long_ones.append(f"{path}:{line}: {name} has {lines} lines")


def check_calls(root, sources):
    for path in sources:
        if not path.startswith(("lib/", "kernels/")) or path in FORBIDDEN_EXEMPT:
            continue
        for n, line in enumerate(without_comments(read(root, path)).split("\n"), 1):
            for name in FORBIDDEN_CALL.findall(line):
                yield f"{path}:{n}: calls {name}()"


def check_first_lines(root, sources):
    for path in sources:
        text = read(root, path)
        if path == "examples/hello.c":  # README's first block, as it is
            continue
        if not text.startswith(("/* ", "/**\n", "/**\r\n")):
            yield f"{path}: the first line does not say what the file is"


def check_guards(root, sources):
    for path in sources:
        if not path.endswith((".h", ".cuh")) or path.endswith("_tmpl.h") or path.endswith("list.h"):
            continue
        names = re.findall(r"^#\s*ifndef (\w+_(?:H|CUH))\n#\s*define (\w+_(?:H|CUH))$", read(root, path), re.M)
        if not names or names[0][0] != names[0][1]:
            yield f"{path}: no include guard"


def check_texts(root, texts):
    machine = re.compile(r"(?<![\w.}$)\"'])/(?:home|root|work)/\w")
    unfinished = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    for path in texts:
        if path == "tests/lint/lint.py":
            continue
        text = read(root, path)
        if text and not text.endswith("\n"):
            yield f"{path}: no newline at the end"
        for n, line in enumerate(text.split("\n"), 1):
            if line != line.rstrip():
                yield f"{path}:{n}: ends in a space"
            if "\t" in line and path.endswith(SOURCES + (".py", ".build")):
                yield f"{path}:{n}: has a tab"
            if machine.search(line):
                yield f"{path}:{n}: names a path of one machine"
            if unfinished.search(line):
                yield f"{path}:{n}: is unfinished"


def check_top_level(root):
    for name in sorted(os.listdir(root)):
        if not name.startswith((".", "build")) and name not in TOP_LEVEL:
            yield f"{name} does not belong at the top level"


def check_format(root, sources):
    ours = [p for p in sources if not is_generated(read(root, p))]
    run = subprocess.run(["clang-format", "--dry-run", "--ferror-limit=1"] + ours, cwd=root,
                         capture_output=True, text=True, check=False)
    wrong = sorted(set(re.findall(r"^([^:\n]+):\d+:\d+: warning", run.stderr, re.M)))
    for path in wrong:
        yield f"{path}: clang-format -i would change it"
    if run.returncode != 0 and not wrong:
        yield run.stderr


def has_clang_format():
    if not shutil.which("clang-format"):
        return False
    out = subprocess.run(["clang-format", "--version"], capture_output=True, text=True, check=False)
    return "version 14." in out.stdout  # others format a little differently


def main():
    root = sys.argv[1]
    tap = Tap()
    files = files_of(root)
    sources = [p for p in files if p.endswith(SOURCES) and not p.startswith("tests/abi/headers-")]
    code = [p for p in files if p.endswith(SOURCES + (".py", ".sh", ".rs", ".go"))]
    long_ones = []
    tap.case("includes go down the floors", check_floors(root, sources))
    tap.case("option structs stay in the public layer", check_option_structs(root, sources))
    tap.case("files are short", check_sizes(root, code))
    tap.case("functions are short", check_functions(root, sources, long_ones))
    for line in long_ones:
        print(f"# over {FUNCTION_LINES_SOFT}: {line}")
    tap.case("the library leaves memory, output and process to the host",
             check_calls(root, sources))
    tap.case("first lines say what a file is", check_first_lines(root, sources))
    tap.case("headers have guards", check_guards(root, sources))
    tap.case("texts are clean", check_texts(root, [p for p in files if p.endswith(TEXTS)]))
    tap.case("the top level is the design's", check_top_level(root))
    if has_clang_format():
        tap.case("clang-format agrees", check_format(root, sources))
    else:
        tap.skip("clang-format agrees", "clang-format 14 is absent")
    tap.done()


main()
