"""infer convert: what it writes and prints, and what it leaves alone.

usage: convert.py SOURCE_ROOT INFER_COMMAND MODEL"""

import os
import signal
import subprocess
import tempfile
import time

from command import FAILED, INFER, MODEL, ROOT, USAGE, Tap, ask, data, infer, refuse, succeed


def in_folder(case):
    def run():
        with tempfile.TemporaryDirectory() as folder:
            case(lambda name: os.path.join(folder, name), folder)
    run.__name__ = case.__name__
    return run


def contents(path):
    with open(path, "rb") as f:
        return f.read()


@in_folder
def writes_a_model_that_runs(path, folder):
    out = path("q4.gguf")
    got = ask("convert", MODEL, out, "--type", "q4_k_m", "--allow-requantize")
    assert got == {"bytes": os.path.getsize(out), "tensors": 47, "resumed": 0, "fallback": 0}, got
    assert os.listdir(folder) == ["q4.gguf"]
    shown = ask("inspect", "--model", out)
    assert {t["name"]: t["type"] for t in shown["tensors"]}["blk.0.attn_q.weight"] == "Q4_K"
    run = ask("run", "--model", out, "--prompt", "Hello", "--max-tokens", "4", "--temperature", "0")
    assert len(run["tokens"]) <= 4
    text = succeed("convert", MODEL, path("kept.gguf"))
    assert text.decode().startswith(path("kept.gguf") + ": ") and b"47 tensors" in text, text


@in_folder
def refuses(path, folder):
    refuse(USAGE, "SRC and DST are needed, 1 paths", "convert", MODEL)
    refuse(USAGE, "SRC and DST are needed, 3 paths", "convert", MODEL, "a", "b")
    refuse(FAILED, "is Q8_0 already", "convert", MODEL, path("a"), "--type", "Q4_0")
    refuse(FAILED, '"Q9" is not known', "convert", MODEL, path("a"), "--type", "Q9")
    refuse(FAILED, "read, but not written", "convert", MODEL, path("a"), "--type", "IQ1_S")
    refuse(FAILED, "/nowhere.gguf", "convert", "/nowhere.gguf", path("a"), "--json")
    refuse(FAILED, "/nowhere/a.part", "convert", MODEL, "/nowhere/a")
    refuse(FAILED, "README.md", "convert", os.path.join(ROOT, "README.md"), path("a"))
    assert os.listdir(folder) == []


@in_folder
def replaces_only_if_told(path, folder):
    out = path("out.gguf")
    with open(out, "w", encoding="utf-8") as f:
        f.write("mine")
    refuse(FAILED, "exists (--force replaces it)", "convert", MODEL, out)
    assert contents(out) == b"mine"
    succeed("convert", MODEL, out, "--force")
    assert contents(out)[:4] == b"GGUF"
    succeed("convert", out, out, "--force", "--type", "F16", "--allow-requantize")
    assert os.listdir(folder) == ["out.gguf"]


@in_folder
def smaller_blocks_are_said(path, _):
    model = data("llm", "stories260K", "stories260K.f32.gguf")
    status, _, err = infer("convert", model, path("a"), "--type", "Q4_K_M", "--verbose")
    assert status == 0
    assert 'info: tensor "blk.0.attn_q.weight": rows of 64 elements are not whole blocks of Q4_K: ' \
        "Q5_0 instead" in err, err
    assert ask("convert", model, path("b"), "--type", "Q4_K_M")["fallback"] > 30


@in_folder
def killed_and_continued(path, folder):
    """Killed at some moment, the next run finishes; the bytes are those of a run alone."""
    def args(name):
        return ["convert", path("f32"), path(name), "--type", "IQ4_XS", "--threads", "1"]
    succeed("convert", MODEL, path("f32"), "--type", "F32")
    begin = time.monotonic()
    succeed(*args("want"))
    whole = time.monotonic() - begin
    want = contents(path("want"))
    for i in range(4):
        run = subprocess.Popen([INFER, *args("out")], stdout=subprocess.DEVNULL)
        time.sleep(whole * i / 4)
        run.send_signal(signal.SIGKILL)
        run.wait()
        if os.path.exists(path("out")):
            continue # it was faster this time
        got = ask(*args("out"))
        assert got["tensors"] == 47 and contents(path("out")) == want, got
        os.remove(path("out"))
    assert "out.part" not in os.listdir(folder)


def main():
    tap = Tap()
    for case in (writes_a_model_that_runs, refuses, replaces_only_if_told,
                 smaller_blocks_are_said, killed_and_continued):
        tap.run(case.__name__.replace("_", " "), case)
    tap.done()


main()
