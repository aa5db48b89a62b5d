"""infer batch: its results against infer run, what bad lines and full disks do, and what a killed
run leaves to the next.

usage: batch.py SOURCE_ROOT INFER_COMMAND MODEL"""

import fcntl
import json
import os
import re
import select
import signal
import subprocess
import tempfile
import time

from command import FAILED, INFER, MODEL, OK, ROOT, TIMEOUT_S, USAGE, Tap, ask, data, infer, \
    on_terminal, refuse, write_adapter

TIMES = ("queue_ms", "prefill_ms", "decode_ms")


def in_folder(case):
    def run():
        with tempfile.TemporaryDirectory() as folder:
            case(lambda name: os.path.join(folder, name))
    run.__name__ = case.__name__
    return run


def stories():
    return data("llm", "stories260K", "stories260K.f32.gguf")


def as_lines(requests):
    return b"".join(json.dumps(r).encode() + b"\n" for r in requests)


def write(path, content):
    with open(path, "wb") as f:
        f.write(content)


def contents(path):
    with open(path, "rb") as f:
        return f.read()


def results(out):
    assert out == b"" or out.endswith(b"\n"), out[-100:]
    return [json.loads(line) for line in out.splitlines()]


def batch(requests, *args, model=MODEL, status=OK):
    """Results of a batch over stdin and stdout, in their order."""
    stdin = requests if isinstance(requests, bytes) else as_lines(requests)
    got, out, err = infer("batch", "--model", model, "--json", *args, stdin=stdin)
    assert got == status, f"{got}: {err}"
    assert (err == "") == (status == OK), err
    return results(out)


def key(result):
    return (str(result.get("id")), result["line"])


def lasting(result):
    """Without what may differ from run to run."""
    return {k: v for k, v in result.items() if k not in TIMES and k != "cached_tokens"}


def same(a, b):
    a, b = (sorted(map(lasting, x), key=key) for x in (a, b))
    assert a == b, [(x, y) for x, y in zip(a, b) if x != y][:2] or (len(a), len(b))


# --- what a request gives -----------------------------------------------------------------

FLAGS = {"prompt": "--prompt", "prompt_ids": "--prompt-ids", "max_tokens": "--max-tokens",
         "temperature": "--temperature", "top_k": "--top-k", "top_p": "--top-p",
         "min_p": "--min-p", "seed": "--seed", "stop": "--stop", "regex": "--regex",
         "choice": "--choice", "repetition_penalty": "--repeat-penalty",
         "frequency_penalty": "--frequency-penalty", "presence_penalty": "--presence-penalty"}


def run_alone(model, request, path):
    args = []
    for name, value in request.items():
        if name in ("schema", "grammar"):
            write(path(name), (json.dumps(value) if name == "schema" else value).encode())
            args += ["--" + name, path(name)]
        elif name in ("ignore_eos", "parse_special"):
            args += {"ignore_eos": ["--ignore-eos"], "parse_special": ["--special"]}[name]
        elif name == "prompt_ids":
            args += [FLAGS[name], ",".join(map(str, value))]
        elif name in FLAGS:
            for one in value if isinstance(value, list) else [value]:
                args += [FLAGS[name], str(one)]
    return ask("run", "--model", model, *args)


MIXED = [
    {"prompt": "Once upon a time", "max_tokens": 30},
    {"prompt": "Once upon a time", "max_tokens": 30, "temperature": 0.9, "seed": 7},
    {"prompt": "The dog", "max_tokens": 20, "temperature": 1.2, "seed": 2**64 - 1, "top_k": 20,
     "top_p": 0.9, "min_p": 0.05},
    {"prompt_ids": [1, 403, 407], "max_tokens": 12},
    {"prompt": "Tom and", "max_tokens": 25, "stop": ["ing", "\u00e9\u4e2d"],
     "repetition_penalty": 1.3, "frequency_penalty": 0.25, "presence_penalty": 0.5},
    {"prompt": "Say", "max_tokens": 40, "ignore_eos": True, "stop": "."},
    {"prompt": "A number:", "schema": {"type": "integer", "minimum": 10, "maximum": 99},
     "temperature": 1, "seed": 3},
    {"prompt": "Well?", "choice": ["yes", "no", "\"perhaps\""]},
    {"prompt": "Day", "regex": "[0-9]{4}-[01][0-9]", "temperature": 2, "seed": 11},
    {"prompt": "x", "grammar": "root ::= \"a\" [b-d]{3,5} \"!\"", "temperature": 1.5},
    {"prompt": "caf\u00e9 \U0001f600 \u4e2d\t\"quoted\\\"", "max_tokens": 9},
]


@in_folder
def equals_infer_run(path):
    for model in (MODEL, stories()):
        requests = [{"id": f"r{i}", "logprobs": True, **r} for i, r in enumerate(MIXED)]
        for result in batch(requests, model=model):
            alone = run_alone(model, MIXED[result["line"] - 1], path)
            assert result["id"] == f"r{result['line'] - 1}"
            assert result["prompt_tokens"] == len(alone["prompt_tokens"]), (result, alone)
            for name in ("tokens", "text", "finish_reason", "logprobs"):
                assert result[name] == alone[name], (name, result, alone)
            for name in TIMES:
                assert result[name] >= 0, result


def does_not_depend_on_what_runs_beside():
    requests = [{"id": i, **MIXED[i % len(MIXED)], "seed": i} for i in range(60)]
    want = batch(requests, model=stories())
    for args in (["--max-requests", "1"], ["--max-requests", "7", "--threads", "1"],
                 ["--kv-tokens", "200", "--threads", "2"], ["--max-requests", "300"]):
        same(batch(requests, *args, model=stories()), want)


@in_folder
def conversations(path):
    tools = [{"type": "function", "function": {
        "name": "weather", "description": "Tells it.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}]
    write(path("tools"), json.dumps(tools).encode())
    question = "What is the capital of France?"
    plain, = batch([{"messages": [{"role": "user", "content": question}], "max_tokens": 30}])
    want = ask("chat", "--model", MODEL, "--max-tokens", "30", stdin=question.encode() + b"\n")
    for name in ("text", "finish_reason", "prompt_tokens"):
        assert plain[name] == want[name], (name, plain, want)
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": "Paris."},
             {"role": "user", "content": "And of Spain?"}]
    got = batch([{"messages": turns, "tools": tools, "max_tokens": 3},
                 {"messages": turns, "context": {"tools": tools}, "max_tokens": 3},
                 {"context": {"messages": turns, "tools": tools}, "max_tokens": 3}])
    assert len({(r["text"], r["prompt_tokens"]) for r in got}) == 1, got
    bad, = batch([{"tools": tools}], status=FAILED)
    assert "messages" in bad["error"], bad


def reports_what_is_asked_for():
    base = {"prompt": "Once upon a time", "max_tokens": 4}
    got = {r["id"]: r for r in batch([
        {"id": "plain", **base}, {"id": "top", "top_logprobs": 3, **base},
        {"id": "score", **base, "prefill_only": True, "prompt_logprobs": True},
        {"id": "banned", **base, "logit_bias": {"432": -1000}},
        {"id": "null", **base, "temperature": None, "schema": None, "stop": None}],
        model=stories())}
    assert "logprobs" not in got["plain"] and "top_logprobs" not in got["plain"]
    for token, top in zip(got["top"]["tokens"], got["top"]["top_logprobs"]):
        assert len(top) == 3 and top[0]["token"] == token, top
        assert top[0]["logprob"] >= top[1]["logprob"] >= top[2]["logprob"], top
    score = got["score"]
    assert score["tokens"] == [] and score["finish_reason"] == "length", score
    assert len(score["prompt_logprobs"]) == score["prompt_tokens"] == 5, score
    assert 432 == got["plain"]["tokens"][0] != got["banned"]["tokens"][0]
    assert got["null"]["tokens"] == got["plain"]["tokens"]


def namespaces_part_the_cache():
    text = "Once upon a time there was a little girl named Lily. She liked to play. " * 3
    lines = [{"id": i, "prompt": text, "max_tokens": 1, "namespace": n}
             for i, n in enumerate(("a", "a", "b"))]
    got = {r["id"]: r["cached_tokens"]
           for r in batch(lines, "--max-requests", "1", model=stories())}
    assert got[0] == 0 and got[1] >= 16 and got[2] == 0, got


@in_folder
def options_are_defaults(path):
    write(path("schema"), b'{"type": "integer", "minimum": 0, "maximum": 9}')
    got = {r["id"]: r for r in batch(
        [{"id": 1, "prompt": "x"}, {"id": 2, "prompt": "x", "choice": ["yes", "yes"]},
         {"id": 3, "prompt": "x", "regex": "a{9}", "max_tokens": 1, "temperature": 0}],
        "--schema", path("schema"), "--max-tokens", "2", "--temperature", "0.5", "--seed", "4")}
    assert got[1]["text"].strip() in list("0123456789"), got
    assert got[2]["text"] == "yes" and len(got[3]["tokens"]) == 1, got


def priorities_and_deadlines():
    lines = [{"id": i, "prompt": "Once", "max_tokens": 20, "ignore_eos": True, "priority": -i,
              "tenant": f"t{i % 3}"} for i in range(12)]
    got = batch(lines, "--max-requests", "12", "--kv-tokens", "32", model=stories())
    assert [r["id"] for r in got][0] == 11, got # blocks for one: the most urgent begins
    late, = batch([{"prompt": "Once", "ignore_eos": True, "max_tokens": 500, "deadline_ms": 0.5}],
                  model=stories())
    assert late["finish_reason"] == "deadline" and len(late["tokens"]) < 500, late


@in_folder
def adapters(path):
    os.mkdir(path("lora"))
    write_adapter(path("lora"), 4.0)
    line = {"prompt": "Once", "max_tokens": 8, "ignore_eos": True, "logprobs": True}
    for adapter in ([], ["--adapter", path("lora")], ["--adapter", path("lora") + "=0.5"]):
        got, = batch([line], *adapter)
        want = ask("run", "--model", MODEL, "--prompt", "Once", "--max-tokens", "8",
                   "--ignore-eos", *adapter)
        assert got["tokens"] == want["tokens"] and got["logprobs"] == want["logprobs"], adapter


def in_order_of_completion():
    requests = [{"id": n, "prompt": "Once", "max_tokens": n, "ignore_eos": True}
                for n in (200, 5, 100, 20)]
    got = batch(requests, model=stories())
    assert [r["id"] for r in got] == [5, 20, 100, 200], [r["id"] for r in got]
    assert [r["line"] for r in got] == [2, 4, 3, 1]


# --- lines that are no requests -----------------------------------------------------------

BAD = [
    (b"not json", "column 1: a value is expected"),
    (b'{"id":"b1","prompt":"x"', "a comma or } is expected"),
    (b'{"id":"b2","prompt":"x"} {}', "something follows"),
    (b'[1]', "expected an object"),
    (b'{"id":"b4","prompt":"\xff\xfe"}', "no UTF-8"),
    (b'{"id":"b5","prompt":"\xed\xa0\x80"}', "no UTF-8"),
    (b'{"id":"b6","prompt":"\\ud800"}', "surrogate"),
    (b'{"id":"b7","prompt":"a\x01"}', "control character"),
    (b'{"id":"b8","prompt":"x","temprature":1}', 'no field "temprature"'),
    (b'{"prompt":"x","id":"b9","prompt":"y"}', '"prompt" is given twice'),
    (b'{"id":"b10"}', '"prompt", "prompt_ids" and "messages" is needed'),
    (b'{"id":"b11","prompt":"x","prompt_ids":[1]}', "only one of"),
    (b'{"temperature":"hot","prompt":"x","id":"b12"}', '"temperature" is "hot", expected a number'),
    (b'{"id":"b13","prompt":"x","temperature":-1}', "temperature is -1"),
    (b'{"id":"b14","prompt":"x","temperature":1e39}', "expected a number"),
    (b'{"id":"b15","prompt":"x","top_k":1.5}', "expected a whole number"),
    (b'{"id":"b16","prompt":"x","seed":-1}', "from 0 to 2^64 - 1"),
    (b'{"id":"b17","prompt":"x","seed":18446744073709551616}', "from 0 to 2^64 - 1"),
    (b'{"id":"b18","prompt":"x","max_tokens":-5}', "max_tokens is -5"),
    (b'{"id":"b19","prompt_ids":[]}', "list of token ids"),
    (b'{"id":"b20","prompt_ids":[1,"2"]}', "expected token ids"),
    (b'{"id":"b21","prompt_ids":[99999999]}', "99999999"),
    (b'{"id":"b22","prompt":"x","stop":[1]}', "list of strings"),
    (b'{"id":"b23","prompt":"x","stop":"a\\u0000b"}', "without U+0000"),
    (b'{"id":"b24","prompt":"x","schema":{"type":"colour"}}', "colour"),
    (b'{"id":"b25","prompt":"x","schema":{"not":{}}}', "not"),
    (b'{"id":"b26","prompt":"x","regex":"("}', "regular expression"),
    (b'{"id":"b27","prompt":"x","regex":"a","choice":["b"]}', "only one of"),
    (b'{"id":"b28","prompt":"x","choice":"b"}', "list of strings"),
    (b'{"id":"b29","prompt":"x","compact":true}', '"schema", which is not given'),
    (b'{"id":"b30","prompt":"x","logit_bias":{"a":1}}', '{"42":-1.5}'),
    (b'{"id":"b31","prompt":"x","logprobs":1}', "true or false"),
    (b'{"id":"b32","prompt":"x","top_logprobs":65}', "65"),
    (b'{"id":"b39","prompt":"x","deadline_ms":-1}', "milliseconds from 0"),
    (b'{"id":[],"prompt":"x"}', "a string or a number"),
    (b'{"id":"b34","context":[]}', "variables"),
    (b'{"id":"b35","messages":[{"role":"user"}],"context":{"messages":[]}}', "duplicate"),
    (b'{"id":"b36","prompt":' + b"[" * 300 + b"]" * 300 + b"}", "nested too deep"),
    (b'{"id":"b37","prompt":01}', "a comma or } is expected"),
    (b'{"id":"b38","prompt":"\x00"}', "control character"),
    (b'\x00', "a value is expected"),
]


def bad_lines_do_not_stop_the_rest():
    good = b'{"id":"good","prompt":"Once","max_tokens":3}\r\n'
    lines = b"".join(good + bad + b"\n" for bad, _ in BAD) + b"\n  \t\n" + good.strip()
    got = {r["line"]: r for r in batch(lines, status=FAILED)}
    assert len(got) == 2 * len(BAD) + 1, len(got)
    for i, (line, words) in enumerate(BAD):
        good, bad = got[2 * i + 1], got[2 * i + 2]
        assert len(good["tokens"]) == 3 and good["id"] == "good", good
        assert words in bad.get("error", ""), (line, bad)
        assert set(bad) <= {"id", "line", "error"}, bad
        try:
            assert bad.get("id") == json.loads(line)["id"] or bad.get("id") is None
        except (ValueError, TypeError):
            assert "id" not in bad, bad
    status, _, err = infer("batch", "--model", MODEL, stdin=lines)
    assert status == FAILED and f"{len(BAD)} of {2 * len(BAD) + 1} requests failed" in err, err


def huge_lines():
    words = "word " * 200000
    long_ids = json.dumps({"id": "ids", "prompt_ids": [1] * 100000}).encode()
    lines = b"\n".join([
        json.dumps({"id": "text", "prompt": words}).encode(), long_ids,
        b'{"id":"beyond","prompt":"' + b"x" * (17 << 20) + b'"}',
        b'{"id":"good","prompt":"Once","max_tokens":2}',
        b'{"id":"last","prompt":"' + b"x" * (17 << 20)])
    got = {r["line"]: r for r in batch(lines, status=FAILED)}
    assert got[1]["id"] == "text" and "tokens" in got[1]["error"], got[1]
    assert got[2]["id"] == "ids" and "100000" in got[2]["error"], got[2]
    assert got[3] == {"line": 3, "error": "the line is longer than 16 MiB"}, got[3]
    assert got[4]["id"] == "good" and len(got[4]["tokens"]) == 2, got[4]
    assert got[5] == {"line": 5, "error": "the line is longer than 16 MiB"}, got[5]
    ids = {json.dumps(r) for r in batch(b"\n\n", status=OK)}
    assert ids == set()


# --- files --------------------------------------------------------------------------------

def work(n, tokens=24):
    return [{"id": f"r{i}", "prompt": f"Once upon a time {i}", "max_tokens": tokens, "seed": i,
             "temperature": 0.8} for i in range(n)] + [{"id": "bad", "prompt": 5}, {"prompt": "x",
             "max_tokens": 2}]


def run_files(path, *args, name="out"):
    status, out, err = infer("batch", "--model", stories(), "--in", path("in"), "--out", path(name),
                             *args)
    assert out == b""
    return status, err


@in_folder
def killed_and_resumed(path):
    """Killed at some moments; all that the runs wrote together is what one alone writes."""
    write(path("in"), as_lines(work(120)))
    begin = time.monotonic()
    status, err = run_files(path, name="want")
    whole = time.monotonic() - begin
    assert status == FAILED and "1 of 122 requests failed" in err, err
    want = results(contents(path("want")))
    n_kills = 0
    for i in range(1, 7):
        run = subprocess.Popen([INFER, "batch", "--model", stories(), "--in", path("in"), "--out",
                                path("out"), "--resume"], stderr=subprocess.DEVNULL)
        time.sleep(whole * i / 7)
        run.send_signal(signal.SIGKILL)
        n_kills += run.wait() == -signal.SIGKILL
    status, err = run_files(path, "--resume")
    assert status == FAILED and "1 of 122 requests failed" in err, err
    same(results(contents(path("out"))), want)
    assert n_kills > 0


@in_folder
def torn_and_whole_files(path):
    write(path("in"), as_lines(work(10, 3)))
    run_files(path)
    whole = contents(path("out"))
    want = results(whole)
    status, err = run_files(path, "--resume")
    assert status == FAILED and contents(path("out")) == whole, err
    for cut in (1, 2, 30, len(whole) // 2, len(whole) // 3, len(whole) - 5):
        write(path("out"), whole[:-cut])
        run_files(path, "--resume")
        same(results(contents(path("out"))), want)
    write(path("new"), b"")
    run_files(path, "--resume", name="new") # nothing to go on with is no error
    same(results(contents(path("new"))), want)


@in_folder
def equal_ids_are_counted(path):
    lines = [{"id": "a", "prompt": "Once", "max_tokens": n} for n in (1, 2, 3)] + [
        {"id": 1, "prompt": "Once", "max_tokens": 1}, {"id": "1", "prompt": "Once", "max_tokens": 1}]
    write(path("in"), as_lines(lines))
    write(path("out"), b'{"id":"\\u0061","line":1,"finish_reason":"stop"}\n'
                       b'{"id":1,"line":4,"finish_reason":"stop"}\n')
    assert run_files(path, "--resume") == (OK, "")
    got = results(contents(path("out")))[2:]
    assert sorted(key(r) for r in got) == [("1", 5), ("a", 2), ("a", 3)], got


@in_folder
def interrupted(path):
    """The first signal lets what is in flight end, and the file can be resumed."""
    write(path("in"), as_lines(work(400, 60)))
    for signals in (1, 2): # the second drops what is in flight
        if os.path.exists(path("out")):
            os.remove(path("out"))
        run = subprocess.Popen([INFER, "batch", "--model", stories(), "--in", path("in"), "--out",
                                path("out"), "--max-requests", "8"],
                               stderr=subprocess.PIPE)
        until = time.monotonic() + TIMEOUT_S
        while not os.path.exists(path("out")) or os.path.getsize(path("out")) == 0:
            assert run.poll() is None and time.monotonic() < until
            time.sleep(0.005)
        for _ in range(signals):
            run.send_signal(signal.SIGINT if signals == 1 else signal.SIGTERM)
            time.sleep(0.02)
        _, err = run.communicate(timeout=TIMEOUT_S)
        if signals == 1:
            assert run.returncode == FAILED and b"--resume goes on" in err, (run.returncode, err)
        assert run.returncode == FAILED, (run.returncode, err)
        got = results(contents(path("out")))
        assert 0 < len(got) < 400 and len({key(r) for r in got}) == len(got)
        assert all(r.get("finish_reason") != "cancelled" for r in got)
    status, _ = run_files(path, "--resume")
    assert status == FAILED # of the bad line
    got = results(contents(path("out")))
    assert len({key(r) for r in got}) == len(got) == 402, len(got)
    same(got, batch(work(400, 60), model=stories(), status=FAILED))


@in_folder
def full_disks_and_closed_pipes(path):
    write(path("in"), as_lines(work(20, 4)))
    for out in (["--out", "/dev/full"], []):
        with open("/dev/full", "wb") as full:
            run = subprocess.run([INFER, "batch", "--model", stories(), "--in", path("in"), *out],
                                 stdout=full, stderr=subprocess.PIPE, timeout=TIMEOUT_S,
                                 check=False)
        assert run.returncode == FAILED and b"No space left on device" in run.stderr, run
    refuse(FAILED, "/nowhere/out", "batch", "--model", stories(), "--in", path("in"), "--out",
           "/nowhere/out")
    refuse(FAILED, "/nowhere/in", "batch", "--model", stories(), "--in", "/nowhere/in")
    refuse(FAILED, "cannot read", "batch", "--model", stories(), "--in", ROOT)


@in_folder
def keeps_what_is_not_its_own(path):
    write(path("in"), as_lines(work(2, 2)))
    base = ["batch", "--model", stories(), "--in", path("in"), "--out"]
    refuse(USAGE, "one file", *base, path("in"), "--force")
    refuse(USAGE, "only one of", *base, path("out"), "--force", "--resume")
    refuse(USAGE, "--out FILE", "batch", "--model", stories(), "--resume")
    for text in (b"mine\n", b'{"id":"a","prompt":"x"}\n', b'{"line":1,"error":"e"}\n{}\ntorn'):
        write(path("out"), text)
        refuse(FAILED, "exists (--resume goes on with it, --force", *base, path("out"))
        refuse(FAILED, "is no result of infer batch", *base, path("out"), "--resume")
        assert contents(path("out")) == text
    with open(path("out"), "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        refuse(FAILED, "another program is writing", *base, path("out"), "--force")
    run_files(path, "--force")
    assert len(results(contents(path("out")))) == 4


def answers_while_the_input_is_open():
    """A line's result comes though the next line has not: as for a program at the other end."""
    with subprocess.Popen([INFER, "batch", "--model", MODEL], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as run:
        for i in range(3):
            run.stdin.write(as_lines([{"id": i, "prompt": "Hi", "max_tokens": 2}]))
            run.stdin.flush()
            assert select.select([run.stdout], [], [], TIMEOUT_S)[0], "no answer"
            assert json.loads(run.stdout.readline())["id"] == i
        run.stdin.close()
        assert run.wait(timeout=TIMEOUT_S) == OK


@in_folder
def bar_on_terminals(path):
    write(path("in"), as_lines([{"prompt": "Hi", "max_tokens": 1}, {}]))
    shown = on_terminal("batch", "--model", MODEL, "--in", path("in"), "--out", path("out"))
    assert b"100% 2 done, 1 failed" in shown and b"1 of 2 requests failed" in shown, shown
    args = ["batch", "--model", MODEL, "--in", path("in")]
    lines = re.sub(rb"\r[^\r\n]*\x1b\[K", b"", on_terminal(*args)).splitlines()
    assert sorted(json.loads(line)["line"] for line in lines[:2]) == [1, 2], lines


def peak_kib(path, n):
    """Of a batch whose input is still open when all its results are there."""
    write(path("in"), b"".join(
        b'{"id":"r%d","prompt":"%s","max_tokens":2}\n' % (i, b"One day a cat sat. " * 20)
        for i in range(n)))
    out = path(f"out{n}")
    if os.path.exists(out): # what is in it would not be done again
        os.remove(out)
    # The address sanitizer keeps what is freed for a while.
    env = {**os.environ, "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") +
           ":quarantine_size_mb=0:thread_local_quarantine_size_kb=0"}
    with subprocess.Popen([INFER, "batch", "--model", stories(), "--out", out, "--max-requests",
                           "16"], stdin=subprocess.PIPE, env=env) as run:
        run.stdin.write(contents(path("in")))
        run.stdin.flush()
        until = time.monotonic() + TIMEOUT_S
        while not os.path.exists(out) or contents(out).count(b"\n") < n:
            assert run.poll() is None and time.monotonic() < until
            time.sleep(0.02)
        status = contents(f"/proc/{run.pid}/status").decode()
        run.stdin.close()
        assert run.wait(timeout=TIMEOUT_S) == OK
    return int(re.search(r"VmHWM:\s*(\d+) kB", status).group(1))


@in_folder
def memory_is_flat(path):
    # What lines leave behind is there in every run; what threads happen to do at once is not.
    for _ in range(3):
        few, many = peak_kib(path, 300), peak_kib(path, 6000) # 130 KB and 2.6 MB of lines
        print(f"# peak of 300 lines: {few} KiB, of 6000: {many} KiB")
        if many < few + 1024:
            return
    raise AssertionError((few, many))


def main():
    tap = Tap()
    for case in (equals_infer_run, does_not_depend_on_what_runs_beside, conversations,
                 reports_what_is_asked_for, namespaces_part_the_cache, options_are_defaults,
                 priorities_and_deadlines, adapters, in_order_of_completion, bad_lines_do_not_stop_the_rest, huge_lines,
                 killed_and_resumed, torn_and_whole_files, equal_ids_are_counted, interrupted,
                 full_disks_and_closed_pipes, keeps_what_is_not_its_own,
                 answers_while_the_input_is_open, bar_on_terminals, memory_is_flat):
        tap.run(case.__name__.replace("_", " "), case)
    tap.done()


main()
