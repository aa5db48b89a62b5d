"""Running the infer command, for the tests of it.

usage of a test: TEST.py SOURCE_ROOT INFER_COMMAND MODEL"""

import json
import os
import pty
import struct
import subprocess
import sys

ROOT, INFER, MODEL = sys.argv[1:4]
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))
from tap import Skip, Tap

DATA = os.environ.get("INFER_TEST_DATA", os.path.join(ROOT, "..", "shared", "data"))
OK, FAILED, USAGE = 0, 1, 2
TIMEOUT_S = 60


def data(*path):
    full = os.path.join(DATA, *path)
    if not os.path.exists(full):
        raise Skip("test data " + "/".join(path) + " is absent")
    return full


def infer(*args, stdin=b"", env=None):
    """Runs the command; returns (status, stdout, stderr)."""
    run = subprocess.run([INFER, *args], input=stdin, capture_output=True, timeout=TIMEOUT_S,
                         env={**os.environ, **(env or {})}, check=False)
    return run.returncode, run.stdout, run.stderr.decode()


def succeed(*args, stdin=b""):
    status, out, err = infer(*args, stdin=stdin)
    assert status == OK, f"{args} gave {status}: {err}"
    assert err == "", f"{args} wrote to stderr: {err}"
    return out


def ask(*args, stdin=b""):
    """The one JSON object of a command that succeeds."""
    out = succeed(*args, "--json", stdin=stdin).decode()
    assert out.endswith("\n") and out.count("\n") == 1, f"not one line: {out!r}"
    return json.loads(out)


def refuse(expected, words, *args, stdin=b""):
    """A failure: its exit status, nothing on stdout, the reason on stderr."""
    status, out, err = infer(*args, stdin=stdin)
    assert status == expected, f"{args} gave {status}, expected {expected}: {err}"
    assert out == b"", f"{args} wrote to stdout: {out!r}"
    assert words in err, f"{args} said {err!r}, expected {words!r}"
    assert err.startswith("infer: error: "), err


def on_terminal(*args, **env):
    """What a terminal on all three streams shows."""
    parent, child = pty.openpty()
    with subprocess.Popen([INFER, *args], stdin=child, stdout=child, stderr=child,
                          env={**os.environ, "TERM": "xterm", **env}) as process:
        os.close(child)
        shown = b""
        try:
            while chunk := os.read(parent, 4096):
                shown += chunk
        except OSError:  # how Linux says that the other side has closed
            pass
        process.wait(TIMEOUT_S)
    os.close(parent)
    return shown


def write_adapter(folder, value):
    """A PEFT folder for the values of the first layer: rank 1, B all `value`."""
    info = ask("inspect", "--model", MODEL)
    n, rows = info["n_embedding"], info["n_heads_kv"] * info["head_dim"]
    tensors, data = {}, b""
    for half, shape, x in (("A", [1, n], 0.02), ("B", [rows, 1], value)):
        begin = len(data)
        data += struct.pack("<f", x) * (shape[0] * shape[1])
        name = f"base_model.model.model.layers.0.self_attn.v_proj.lora_{half}.weight"
        tensors[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, len(data)]}
    header = json.dumps(tensors).encode()
    with open(os.path.join(folder, "adapter_model.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header + data)
    with open(os.path.join(folder, "adapter_config.json"), "w", encoding="utf-8") as file:
        json.dump({"peft_type": "LORA", "r": 1, "lora_alpha": 1}, file)
