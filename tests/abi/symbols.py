"""What the library exports, what the headers declare, what the version map lists and what
the function table holds is one and the same set.

usage: symbols.py LIBRARY SOURCE_ROOT"""

import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "support")]
from published import constants, functions, structs
from tap import Tap


def exported(library):
    """Defined dynamic symbols with their version nodes; the nodes themselves are absolute."""
    out = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True,
                         check=True).stdout
    return {line.split()[-1] for line in out.splitlines() if line.split()[-2] != "A"}


def mapped(path):
    """{symbol: node} of a version script; a second node inherits from the first."""
    with open(path, encoding="utf-8") as f:
        text = f.read()
    nodes = {}
    for node, body in re.findall(r"^(INFER_\d+\.\d+) \{(.*?)^\}", text, re.M | re.S):
        for name in re.findall(r"(\w+);", body.split("local:")[0].replace("global:", "")):
            assert name not in nodes, f"{name} is listed twice"
            nodes[name] = node
    return nodes


def differences(a, b, name_a, name_b):
    for name in sorted(set(a) ^ set(b)):
        yield f"{name} is only in {name_a if name in a else name_b}"


def unlisted(include, layout):
    """Published fields and constants without a line in layout.c."""
    with open(layout, encoding="utf-8") as f:
        lines = f.read()
    for struct, fields in structs(include).items():
        if f"SIZE({struct}, " not in lines:
            yield f"SIZE of {struct} is missing"
        for field in fields:
            if f"FIELD({struct}, {field}, " not in lines:
                yield f"FIELD {struct}.{field} is missing"
    for name in constants(include):
        if f"VALUE({name}, " not in lines:
            yield f"VALUE {name} is missing"


def main():
    library, root = sys.argv[1:3]
    include = os.path.join(root, "include")
    declared = functions(include)
    nodes = mapped(os.path.join(root, "lib", "libinfer.map"))
    symbols = exported(library)
    table = [f for f in structs(include)["infer_api"] if f not in ("struct_size", "api_version")]
    tap = Tap()
    tap.case("headers and map agree", differences(declared, nodes, "the headers", "the map"))
    tap.case("library and map agree, with version nodes",
             differences(symbols, {f"{s}@@{n}" for s, n in nodes.items()}, "the library",
                         "the map"))
    tap.case("the function table holds every function",
             differences([f"infer_{m}" for m in table] + ["infer_get_api"], declared, "the table",
                         "the headers"))
    tap.case("layout.c holds every published field and constant",
             unlisted(include, os.path.join(HERE, "layout.c")))
    tap.done()


main()
