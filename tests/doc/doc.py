"""The documents hold what they say.

usage: doc.py SOURCE_ROOT INFER_COMMAND"""

import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "support"))
from tap import Tap

README_LINES = 120
GUIDE_LINES = 200


def read(*path):
    with open(os.path.join(*path), encoding="utf-8") as f:
        return f.read()


def documents(root):
    yield "README.md"
    for folder, folders, names in os.walk(root):
        folders[:] = [d for d in folders if not d.startswith((".", "build"))]
        for name in sorted(names):
            path = os.path.relpath(os.path.join(folder, name), root)
            if name.endswith(".md") and path != "README.md":
                yield path


def first_block(text):
    match = re.search(r"^```c\n(.*?)^```$", text, re.M | re.S)
    return match.group(1) if match else None


def check_first_block(root):
    if first_block(read(root, "README.md")) != read(root, "examples", "hello.c"):
        yield "README.md's first C block is not examples/hello.c"


def without_code(text):
    return re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)


def anchors(text):
    """Names that a heading gets on the web: lower case, words joined by dashes."""
    found = set()
    for heading in re.findall(r"^#+ +(.*)$", without_code(text), re.M):
        plain = re.sub(r"[^\w\- ]", "", heading.lower())
        found.add(plain.strip().replace(" ", "-"))
    return found


def check_links(root):
    for path in documents(root):
        text = without_code(read(root, path))
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            file = os.path.normpath(os.path.join(root, os.path.dirname(path), name)) \
                if name else os.path.join(root, path)
            if not os.path.exists(file):
                yield f"{path}: {target} does not exist"
            elif anchor and file.endswith(".md") and anchor not in anchors(read(file)):
                yield f"{path}: {target} has no such heading"


def check_named_files(root):
    """Paths in backticks that begin with a folder of the tree exist."""
    tops = r"(?:include|lib|kernels|examples|tests|benchmarks|doc)"
    for path in documents(root):
        for name in re.findall(rf"`({tops}/[\w./\-]+)`", without_code(read(root, path))):
            if not os.path.exists(os.path.join(root, name)):
                yield f"{path}: `{name}` does not exist"


def check_lengths(root):
    for path in documents(root):
        n = read(root, path).count("\n")
        limit = README_LINES if path == "README.md" else GUIDE_LINES
        if n > limit and os.path.basename(path) != "changelog.md":
            yield f"{path}: {n} lines, at most {limit}"


def check_manual(root):
    folder = os.path.join(root, "doc", "man")
    for name in sorted(os.listdir(folder)):
        text = read(folder, name)
        if not text.startswith((".TH ", '.\\"')):
            yield f"doc/man/{name}: does not begin with .TH"


def help_of(command, *words):
    return subprocess.run([command, *words, "--help"], capture_output=True, text=True,
                          check=True).stdout


def commands_of(text):
    return re.findall(r"^  ([\w-]+) ", text, re.M)


def check_help(root, command):
    """Every option of infer's --help is in the manual page, and the other way round."""
    page = read(root, "doc", "man", "infer.1").replace("\\-", "-")
    shown = set()
    for name in commands_of(help_of(command)):
        if f".SS infer {name}\n" not in page:
            yield f"infer.1 does not describe infer {name}"
        text = help_of(command, name)
        if " COMMAND [OPTIONS]" in text:  # it has commands of its own
            text = "".join(help_of(command, name, word) for word in commands_of(text))
        shown |= set(re.findall(r"^  (--[\w-]+)", text, re.M))
    written = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", page))
    for option in sorted(shown ^ written):
        yield f"{option} is only in {'--help' if option in shown else 'infer.1'}"


def main():
    root, command = sys.argv[1:3]
    tap = Tap()
    for name, check, args in (
            ("README's first block is examples/hello.c", check_first_block, (root,)),
            ("links lead somewhere", check_links, (root,)),
            ("named files exist", check_named_files, (root,)),
            ("documents are short", check_lengths, (root,)),
            ("manual pages begin well", check_manual, (root,)),
            ("infer.1 and --help agree", check_help, (root, command))):
        try:
            tap.case(name, check(*args))
        except OSError as error:
            tap.case(name, [error])
    tap.done()


main()
