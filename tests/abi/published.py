"""What the public headers publish: functions, struct fields and constants. They are regular
enough (one declaration a line or two, no macros that declare) to be read by pattern."""

import os
import re


def _text(include):
    folder = os.path.join(include, "infer")
    parts = []
    for name in sorted(os.listdir(folder)):
        if name.endswith(".h"):
            with open(os.path.join(folder, name), encoding="utf-8") as f:
                parts.append(f.read())
    return re.sub(r"/\*.*?\*/", " ", "\n".join(parts), flags=re.S)


def functions(include):
    """Names of all exported functions."""
    names = re.findall(r"^INFER_API\b[^;]*?\b(infer_\w+)\s*\(", _text(include), re.M)
    assert len(names) == len(set(names)), "a function is declared twice"
    return sorted(names)


def structs(include):
    """{struct: [field, ...]} in order."""
    found = {}
    for name, body in re.findall(r"^typedef struct (\w+) \{\n(.*?)^\} \1;", _text(include),
                                 re.M | re.S):
        fields = []
        for declaration in body.split(";"):
            declaration = " ".join(declaration.split())
            if not declaration:
                continue
            pointer = re.match(r".*?\(\*(\w+)\)\(", declaration)
            if pointer:
                fields.append(pointer.group(1))
                continue
            for part in declaration.split(","):
                fields.append(re.search(r"(\w+)(?:\[\d+\])?$", part).group(1))
        found[name] = fields
    return found


def constants(include):
    """Names of all enumeration constants."""
    names = []
    for body in re.findall(r"^enum \{(.*?)\};", _text(include), re.M | re.S):
        names += [re.match(r"\s*(\w+)", part).group(1) for part in body.split(",") if part.strip()]
    return names
