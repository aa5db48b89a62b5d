"""The contract of the infer command: options, JSON, exit status, what goes to which stream.

usage: cli.py SOURCE_ROOT INFER_COMMAND MODEL"""

import json
import math
import os
import re
import signal
import subprocess
import tempfile

from command import FAILED, INFER, MODEL, OK, ROOT, TIMEOUT_S, USAGE, Tap, ask, data, infer, \
    on_terminal, refuse, succeed, write_adapter

COMMANDS = ["run", "batch", "chat", "template", "tokenize", "detokenize", "score", "inspect", "bench",
            "self-test", "convert", "models", "devices"]


def run_ids(model, prompt, n, *more):
    ids = ",".join(map(str, prompt))
    return ask("run", "--model", model, "--prompt-ids", ids, "--max-tokens", str(n),
               "--temperature", "0", *more)


# --- the command line ---------------------------------------------------------------------

def help_is_no_error():
    out = succeed("--help").decode()
    for name in COMMANDS:
        assert f"  {name} " in out, name
        assert succeed(name, "--help").decode().startswith(f"usage: infer {name}")
    assert succeed("--version").startswith(b"infer 0.")


def wrong_commands():
    refuse(USAGE, 'no command "rnu"', "rnu")
    status, out, err = infer()
    assert status == USAGE and out == b"" and err.startswith("usage: infer")


def wrong_options():
    for name in COMMANDS:
        refuse(USAGE, "no option --surprise", name, "--surprise")
    refuse(USAGE, "--prompt?", "run", "--promt", "x")
    refuse(USAGE, '"loose" belongs to no option', "run", "loose")
    refuse(USAGE, "--model needs a value", "run", "--model")
    refuse(USAGE, "--prompt needs a value", "run", "--prompt", "--json")
    refuse(USAGE, "--json takes no value", "run", "--json=1")
    for name in COMMANDS[:-3]:
        refuse(USAGE, "is missing", name)


def wrong_values():
    for option, value in (("--max-tokens", "-1"), ("--max-tokens", "many"), ("--max-tokens", "1.5"),
                          ("--max-tokens", "99999999999"), ("--temperature", "hot"),
                          ("--temperature", "nan"), ("--temperature", "-1"), ("--seed", "-3"),
                          ("--threads", "0"), ("--top-p", "")):
        refuse(USAGE, f"{option} is \"{value}\"", "run", "--model", MODEL, "--prompt", "x", option,
               value)
    for ids in ("1,x", "", "-1", "99999999999", "1;2"):
        refuse(USAGE, "--prompt-ids", "run", "--model", MODEL, "--prompt-ids", ids)


def one_prompt():
    refuse(USAGE, "one of --prompt,", "run", "--model", MODEL)
    refuse(USAGE, "one of --prompt,", "run", "--model", MODEL, "--prompt", "a", "--prompt-ids", "1")
    refuse(USAGE, "one of --text", "tokenize", "--model", MODEL)


def missing_files():
    for args in (("run", "--prompt", "x"), ("chat",), ("tokenize", "--text", "x"),
                 ("detokenize", "--ids", "1"), ("inspect",), ("bench",)):
        refuse(FAILED, "/nowhere.gguf", *args, "--model", "/nowhere.gguf", "--json")
    for args in (("run", "--prompt-file"), ("tokenize", "--file"), ("score", "--file")):
        refuse(FAILED, "/nowhere.txt", *args, "/nowhere.txt", "--model", MODEL, "--json")


def no_model_file():
    refuse(FAILED, "README.md", "run", "--model", os.path.join(ROOT, "README.md"), "--prompt", "x")


def full_disk():
    with open("/dev/full", "wb") as full:
        run = subprocess.run([INFER, "run", "--model", MODEL, "--prompt", "Once", "--max-tokens",
                              "4"], stdout=full, stderr=subprocess.PIPE, timeout=TIMEOUT_S,
                             check=False)
    assert run.returncode == FAILED and b"cannot write" in run.stderr, run


# --- run ----------------------------------------------------------------------------------

def run_keys():
    got = ask("run", "--model", MODEL, "--prompt", "Once upon a time", "--max-tokens", "12",
              "--temperature", "0")
    assert list(got) == ["prompt_tokens", "tokens", "text", "finish_reason", "cached_tokens",
                         "logprobs"], list(got)
    assert 0 < len(got["tokens"]) <= 12 and len(got["logprobs"]) == len(got["tokens"])
    assert all(isinstance(t, int) for t in got["prompt_tokens"] + got["tokens"])
    assert all(p <= 0 for p in got["logprobs"])
    assert got["finish_reason"] in ("stop", "length") and got["cached_tokens"] == 0
    encoded = ask("tokenize", "--model", MODEL, "--text", "Once upon a time")
    assert got["prompt_tokens"] == encoded["tokens"]


def run_streams_the_same():
    args = ("run", "--model", MODEL, "--prompt", "Once upon a time", "--max-tokens", "30",
            "--temperature", "0")
    assert succeed(*args).decode() == ask(*args)["text"] + "\n"


def run_prompt_sources():
    text = "Tell me a story.\nWith two lines."
    want = ask("run", "--model", MODEL, "--prompt", text, "--max-tokens", "8", "--temperature", "0")
    with tempfile.NamedTemporaryFile() as file:
        file.write(text.encode())
        file.flush()
        assert want == ask("run", "--model", MODEL, "--prompt-file", file.name, "--max-tokens",
                           "8", "--temperature", "0")
    assert want == ask("run", "--model", MODEL, "--prompt-file", "-", "--max-tokens", "8",
                       "--temperature", "0", stdin=text.encode())
    assert want == run_ids(MODEL, want["prompt_tokens"], 8)
    assert run_ids(MODEL, [5, 6], 1)["prompt_tokens"] == [5, 6]  # no BOS is added
    assert want == ask("run", f"--model={MODEL}", f"--prompt={text}", "--max-tokens=8",
                       "--temperature=0")


def run_limits():
    prompt = "Once upon a time"
    got = ask("run", "--model", MODEL, "--prompt", prompt, "--max-tokens", "70", "--ignore-eos",
              "--temperature", "0")
    assert len(got["tokens"]) == 70 and got["finish_reason"] == "length"
    text = got["text"]
    word = text.split()[3]
    stopped = ask("run", "--model", MODEL, "--prompt", prompt, "--max-tokens", "70",
                  "--ignore-eos", "--temperature", "0", "--stop", "\x01absent", "--stop", word)
    assert stopped["text"] == text[:text.index(word)], (stopped["text"], text, word)
    assert stopped["finish_reason"] == "stop"
    full = ask("run", "--model", MODEL, "--prompt", "Hello", "--ignore-eos", "--context", "40")
    assert full["finish_reason"] == "context", full["finish_reason"]
    assert len(full["prompt_tokens"]) + len(full["tokens"]) in (40, 41), len(full["tokens"])


def run_constrained():
    """Every way to say what the text must look like, as text and in the JSON of --json."""
    def answer(*options):
        return ask("run", "--model", MODEL, "--prompt", "The capital of France is", "--max-tokens",
                   "60", "--temperature", "2", "--seed", "3", *options)
    with tempfile.NamedTemporaryFile("w") as file:
        file.write('root ::= "It is " ("Paris" | "Rome") "."\n')
        file.flush()
        got = answer("--grammar", file.name)
        assert got["text"] in ("It is Paris.", "It is Rome.") and got["finish_reason"] == "stop"
    with tempfile.NamedTemporaryFile("w") as file:
        file.write('{"type": "object", "properties": {"city": {"enum": ["Paris", "Bern"]},'
                   ' "n": {"type": "integer", "minimum": 1, "maximum": 9}},'
                   ' "required": ["city", "n"], "additionalProperties": false}')
        file.flush()
        value = json.loads(answer("--schema", file.name)["text"])
        assert value["city"] in ("Paris", "Bern") and 1 <= value["n"] <= 9 and len(value) == 2
        refuse(FAILED, "absent", "run", "--model", MODEL, "--prompt", "x", "--schema",
               file.name + ".absent")
    assert re.fullmatch("[A-Z][a-z]{2,5}", answer("--regex", "[A-Z][a-z]{2,5}")["text"])
    assert answer("--choice", "yes", "--choice", "no")["text"] in ("yes", "no")
    chat = succeed("chat", "--model", MODEL, "--choice", "yes", "--choice", "no", stdin=b"Well?\n")
    assert chat.decode().strip() in ("yes", "no"), chat
    refuse(FAILED, "lookahead", "run", "--model", MODEL, "--prompt", "x", "--regex", "a(?=b)")
    refuse(USAGE, "only one of", "run", "--model", MODEL, "--prompt", "x", "--regex", "a",
           "--choice", "b")


def run_too_long():
    refuse(FAILED, "16", "run", "--model", MODEL, "--prompt", "word " * 100, "--context", "16",
           "--json")


def run_seed():
    def draw(seed):
        return ask("run", "--model", MODEL, "--prompt", "Once", "--max-tokens", "30",
                   "--ignore-eos", "--temperature", "1.5", "--seed", seed)["tokens"]
    assert draw("1") == draw("1")
    assert len({tuple(draw(str(seed))) for seed in range(2, 6)}) > 1
    greedy = ask("run", "--model", MODEL, "--prompt", "Once", "--max-tokens", "30", "--ignore-eos",
                 "--temperature", "0")["tokens"]
    assert greedy == ask("run", "--model", MODEL, "--prompt", "Once", "--max-tokens", "30",
                         "--ignore-eos", "--temperature", "1.5", "--top-k", "1")["tokens"]


def run_threads():
    want = ask("run", "--model", MODEL, "--prompt", "Once", "--max-tokens", "20", "--temperature",
               "0", "--threads", "1")
    assert want == ask("run", "--model", MODEL, "--prompt", "Once", "--max-tokens", "20",
                       "--temperature", "0", "--threads", "3")


def run_adapter():
    def run(*more):
        return ask("run", "--model", MODEL, "--prompt", "Once", "--max-tokens", "8", "--ignore-eos",
                   "--temperature", "0", *more)
    plain = run()
    with tempfile.TemporaryDirectory() as folder:
        write_adapter(folder, 0.0)
        assert run("--adapter", folder) == plain
        write_adapter(folder, 4.0)
        changed = run("--adapter", folder)
        assert changed["logprobs"] != plain["logprobs"]
        assert run("--adapter", folder + "=1") == changed
        assert run("--adapter", folder + "=0.5")["logprobs"] != changed["logprobs"]
        write_adapter(folder, 2.0)
        assert run("--adapter", folder + "=2") == changed
        for scale in ("0", "nan", "inf"):
            refuse(USAGE, "a scale is a number", "run", "--model", MODEL, "--prompt", "x",
                   "--adapter", folder + "=" + scale)
        os.remove(os.path.join(folder, "adapter_config.json"))
        refuse(FAILED, "adapter_config.json", "run", "--model", MODEL, "--prompt", "x", "--adapter",
               folder)
    refuse(FAILED, "/nowhere=x", "run", "--model", MODEL, "--prompt", "x", "--adapter",
           "/nowhere=x")


def run_speculation():
    def run(*more):
        return ask("run", "--model", MODEL, "--prompt", "one two three one two three one",
                   "--max-tokens", "40", "--ignore-eos", *more)
    for drawn in (("--temperature", "0"), ("--temperature", "1", "--seed", "3")):
        plain = run(*drawn)
        for how in (("--speculate", "ngram"), ("--speculate=ngram:4",), ("--draft-model", MODEL)):
            fast = run(*drawn, *how)
            drafted, accepted = fast.pop("drafted_tokens"), fast.pop("accepted_tokens")
            assert 0 <= accepted <= drafted and fast == plain, (how, fast, plain)
            assert "--draft-model" not in how or drafted > 0
    for how in ("ngrams", "ngram:0", "ngram:65", "ngram:", "ngram:x", "model"):
        refuse(USAGE, "--speculate is", "run", "--model", MODEL, "--prompt", "x", "--speculate", how)
    refuse(USAGE, "exclude", "run", "--model", MODEL, "--prompt", "x", "--speculate", "ngram",
           "--draft-model", MODEL)
    refuse(FAILED, "/nowhere", "run", "--model", MODEL, "--prompt", "x", "--draft-model", "/nowhere")


def run_special():
    info = ask("inspect", "--model", MODEL)
    name = succeed("detokenize", "--model", MODEL, "--ids", str(info["tokenizer"]["eos"]),
                   "--special").decode().strip()
    plain = ask("run", "--model", MODEL, "--prompt", name + "a", "--max-tokens", "1")
    meant = ask("run", "--model", MODEL, "--prompt", name + "a", "--max-tokens", "1", "--special")
    assert info["tokenizer"]["eos"] not in plain["prompt_tokens"], (name, plain)
    assert info["tokenizer"]["eos"] in meant["prompt_tokens"], (name, meant)


def run_invalid_utf8():
    got = ask("run", "--model", MODEL, "--prompt", b"caf\xc3 \xff\xfe \xed\xa0\x80", "--max-tokens",
              "3")
    assert got["prompt_tokens"]


def run_empty_prompt():
    status, out, err = infer("run", "--model", MODEL, "--prompt", "", "--max-tokens", "1", "--json")
    begins = ask("inspect", "--model", MODEL)["tokenizer"]["add_bos"]
    assert status == (OK if begins else FAILED), err
    assert bool(out) == bool(begins)


def run_timing():
    status, out, err = infer("run", "--model", MODEL, "--prompt", "Once", "--max-tokens", "2",
                             "--timing")
    assert status == OK and out and err.startswith("prompt: "), err


def golden_greedy(folder, name):
    """The recorded tokens; a first difference only where the recorded lead was below 1e-3."""
    model = data("llm", folder, name)
    with open(data("llm", folder, "golden_greedy_once.json"), encoding="utf-8") as f:
        golden = json.load(f)
    want = golden["greedy"]
    got = run_ids(model, golden["prompt_tokens"], len(want), "--ignore-eos")["tokens"]
    assert len(got) == len(want), (len(got), len(want))
    for i, (a, b) in enumerate(zip(got, want)):
        if a != b:
            assert golden["margin"][i] < 1e-3, f"step {i}: {a}, recorded {b}"
            return


# --- tokens, score, inspect, bench --------------------------------------------------------

def tokenize_and_back():
    for text in ("a small dog", "Zwei  Räume\n\n\tund 123", "", "日本語 👍🏽", 'quote " \\ \x07'):
        ids = ask("tokenize", "--model", MODEL, "--text", text, "--no-special")["tokens"]
        if text:
            listed = ",".join(map(str, ids))
            back = ask("detokenize", "--model", MODEL, "--ids", listed)["text"]
            assert back == text, (back, text)
            assert succeed("detokenize", "--model", MODEL, "--ids", listed).decode() == text + "\n"
        plain = succeed("tokenize", "--model", MODEL, "--text", text, "--no-special").decode()
        assert plain.split() == [str(i) for i in ids]


def tokenize_specials():
    info = ask("inspect", "--model", MODEL)["tokenizer"]
    added = ask("tokenize", "--model", MODEL, "--text", "dog")["tokens"]
    bare = ask("tokenize", "--model", MODEL, "--text", "dog", "--no-special")["tokens"]
    want = bare
    if info["add_bos"]:
        want = [info["bos"]] + want
    if info["add_eos"]:
        want = want + [info["eos"]]
    assert added == want, (added, want)


def tokenize_vocabulary_only():
    model = data("tokenizers", "llamacpp_vocab", "ggml-vocab-llama-spm.gguf")
    with open(model + ".inp", encoding="utf-8") as f:
        texts = f.read().split("\n__ggml_vocab_test__\n")
    with open(model + ".out", encoding="utf-8") as f:
        lines = f.read().splitlines()
    for text, line in list(zip(texts, lines))[::6]:
        got = ask("tokenize", "--model", model, "--file", "-", "--no-special",
                  stdin=text.encode())["tokens"]
        assert got == [int(x) for x in line.split()], text


def detokenize_wrong_ids():
    refuse(FAILED, "1000000", "detokenize", "--model", MODEL, "--ids", "1,1000000", "--json")


def golden_perplexity(folder, name):
    model = data("llm", folder, name)
    text = data("llm", "perplexity-text.txt")
    with open(data("llm", folder, "golden_perplexity.json"), encoding="utf-8") as f:
        golden = json.load(f)
    got = ask("score", "--model", model, "--file", text, "--window", str(golden["window"]),
              "--max-tokens", str(golden["scored_tokens"]))
    assert list(got) == ["window", "scored_tokens", "nll", "perplexity"], list(got)
    assert got["window"] == golden["window"] and got["scored_tokens"] == golden["scored_tokens"]
    assert abs(got["perplexity"] / golden["perplexity"] - 1) < 1e-3, (got, golden)
    assert math.isclose(math.exp(got["nll"]), got["perplexity"], rel_tol=1e-9)


def score_of_a_short_text():
    got = ask("score", "--model", MODEL, "--file", "-", stdin=b"The dog went home.")
    ids = ask("tokenize", "--model", MODEL, "--text", "The dog went home.", "--no-special")
    begins = ask("inspect", "--model", MODEL)["tokenizer"]["add_bos"]
    assert got["scored_tokens"] == len(ids["tokens"]) - (0 if begins else 1), got
    refuse(FAILED, "too few", "score", "--model", MODEL, "--file", "-", "--json", stdin=b"")


def score_windows():
    """Scoring is what run reports: a window of a text scores as its tokens do one by one."""
    text = b"The dog went home. " * 40
    whole = ask("score", "--model", MODEL, "--file", "-", "--window", "16", stdin=text)
    per = 15 if ask("inspect", "--model", MODEL)["tokenizer"]["add_bos"] else 16
    n = len(ask("tokenize", "--model", MODEL, "--file", "-", "--no-special", stdin=text)["tokens"])
    assert whole["scored_tokens"] == n // per * 15, (whole, n)


def inspect_says_all():
    got = ask("inspect", "--model", MODEL)
    assert got["architecture"] == "llama" and got["n_parameters"] > 0
    keys = {m["key"]: m for m in got["metadata"]}
    assert keys["general.architecture"]["value"] == "llama"
    names = [t["name"] for t in got["tensors"]]
    assert "token_embd.weight" in names and len(names) == len(set(names))
    assert got["weight_bytes"] == sum(t["bytes"] for t in got["tensors"])
    parts = got["estimate"]
    assert parts["total_bytes"] == sum(v for k, v in parts.items() if k != "total_bytes")
    assert got["chat_template"]
    table = succeed("inspect", "--model", MODEL).decode()
    assert all(name in table for name in names) and "\033" not in table
    more = ask("inspect", "--model", MODEL, "--kv-tokens", "100000")["estimate"]
    assert more["kv_bytes"] >= 100000 * got["kv_bytes_per_token"]


def kv_types():
    """Each type is smaller than the one before, and run, score and bench take it."""
    sizes = [ask("inspect", "--model", MODEL, "--kv-type", t)["kv_bytes_per_token"]
             for t in ("f32", "f16", "q8", "q4")]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 4, sizes
    assert ask("inspect", "--model", MODEL)["kv_bytes_per_token"] in sizes[:2]
    text = b"The dog went home. " * 20
    f32 = ask("score", "--model", MODEL, "--file", "-", "--kv-type", "f32", stdin=text)["nll"]
    q8 = ask("score", "--model", MODEL, "--file", "-", "--kv-type", "q8", stdin=text)["nll"]
    q4 = ask("score", "--model", MODEL, "--file", "-", "--kv-type", "q4", stdin=text)["nll"]
    assert len({f32, q8, q4}) == 3 and max(abs(q8 - f32), abs(q4 - f32)) < 0.1, (f32, q8, q4)
    for name in ("run", "chat", "score", "bench", "inspect"):
        assert "--kv-type TYPE" in succeed(name, "--help").decode(), name
    got = ask("run", "--model", MODEL, "--prompt", "Once", "--max-tokens", "4", "--kv-type", "q4")
    assert len(got["tokens"]) <= 4
    ask("bench", "--model", MODEL, "--prompt", "8", "--gen", "2", "--repeat", "1", "--kv-type",
        "q4")
    refuse(USAGE, '--kv-type is "q5", expected f32, f16, bf16, q8, q4 or f8', "run", "--model", MODEL,
           "--prompt", "x", "--kv-type", "q5")


def bench_keys():
    got = ask("bench", "--model", MODEL, "--prompt", "64", "--gen", "8", "--repeat", "3",
              "--threads", "1", "--depth", "20", "--batch", "3")
    assert list(got) == ["load_ms", "prefill_tps", "decode_tps", "threads", "peak_rss_bytes",
                         "kernels"], list(got)
    assert got["threads"] == 1 and got["kernels"]
    assert all(got[k] > 0 for k in ("load_ms", "prefill_tps", "decode_tps"))
    assert got["peak_rss_bytes"] > os.path.getsize(MODEL)
    assert b"tokens/s" in succeed("bench", "--model", MODEL, "--prompt", "8", "--gen", "2",
                                  "--repeat", "1")


def self_test():
    got = ask("self-test", "--model", MODEL, "--prompt", "40", "--gen", "6", "--batch", "8")
    assert got["failed"] == got["skipped"] == 0 and got["passed"] == len(got["checks"]), got
    assert got["prompt_tokens"] == 40 and got["tokens"] == 6 and got["batch"] == 8, got
    assert [c["name"] for c in got["checks"]][:3] == ["finite", "repeat", "chunks"]
    assert all(c["state"] == "passed" and c["compared"] >= 6 for c in got["checks"]), got
    table = succeed("self-test", "--model", MODEL, "--prompt", "1", "--gen", "2").decode()
    assert "prefix       skipped: nothing of the prompt was found in the cache" in table, table
    refuse(FAILED, "the context holds 512", "self-test", "--model", MODEL, "--prompt", "512")
    refuse(USAGE, "--batch", "self-test", "--model", MODEL, "--batch", "1")


def devices():
    got = ask("devices")["devices"]
    assert got[0]["kind"] == "cpu" and got[0]["threads"] >= 1
    assert succeed("devices").startswith(b"0  cpu")


# --- chat ---------------------------------------------------------------------------------

def chat_by_pipe():
    lines = b"What is 2 plus 3?\n\nTell me a short story.\n/exit\nnever asked\n"
    args = ("chat", "--model", MODEL, "--temperature", "0", "--max-tokens", "40")
    answers = [json.loads(a) for a in succeed(*args, "--json", stdin=lines).splitlines()]
    assert len(answers) == 2 and all(a["text"].strip() for a in answers), answers
    assert answers[1]["prompt_tokens"] > answers[0]["prompt_tokens"] + answers[0]["tokens"]
    text = succeed(*args, stdin=lines).decode()
    assert text == "".join(a["text"] + "\n" for a in answers)
    echoed = succeed(*args, "--echo", stdin=b"What is 2 plus 3?\n").decode()
    assert echoed == "> What is 2 plus 3?\n" + answers[0]["text"] + "\n"


def chat_forgets():
    args = ("chat", "--model", MODEL, "--temperature", "0", "--max-tokens", "20", "--json",
            "--system", "You are a small and friendly assistant.")
    first, second = succeed(*args, stdin=b"Who are you?\n/clear\nWho are you?\n").splitlines()
    assert json.loads(first)["text"] == json.loads(second)["text"]
    assert json.loads(first)["prompt_tokens"] == json.loads(second)["prompt_tokens"]


def chat_overflows():
    status, out, err = infer("chat", "--model", MODEL, "--context", "32", "--json",
                             stdin=b"word " * 200 + b"\n")
    assert status == FAILED and out == b"" and err.startswith("infer: error: "), (status, err)


def chat_interrupted():
    """Ctrl-C at the prompt leaves, without a crash."""
    with subprocess.Popen([INFER, "chat", "--model", MODEL, "--max-tokens", "4"],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as chat:
        chat.stdin.write(b"Hello\n")
        chat.stdin.flush()
        while chat.stdout.read(1) != b"\n":  # after an answer the handler is in place
            assert chat.poll() is None
        chat.send_signal(signal.SIGINT)
        chat.stdin.close()
        assert chat.wait(TIMEOUT_S) == OK


def chat_variables():
    """--tools and --set reach the template with every turn."""
    def prompt_tokens(*args):
        out = succeed("chat", "--model", MODEL, "--max-tokens", "1", "--json", *args,
                      stdin=b"Hello\n")
        return json.loads(out)["prompt_tokens"]
    whole = prompt_tokens()
    with tempfile.NamedTemporaryFile(mode="w") as tools:
        tools.write('[{"type": "function", "function": {"name": "f"}}]\n')
        tools.flush()
        assert prompt_tokens("--tools", tools.name, "--set", "x=[1, 2]") == whole
    assert prompt_tokens("--set", "add_generation_prompt=false") < whole
    for wrong in ("x", "=1", "a b=1", '"x=1'):
        refuse(USAGE, "expected NAME=JSON", "chat", "--model", MODEL, "--set", wrong)
    refuse(FAILED, "context: line 1", "chat", "--model", MODEL, "--set", "x=", stdin=b"Hello\n")
    refuse(FAILED, "two conversations", "chat", "--model", MODEL, "--set", "messages=[]",
           stdin=b"Hello\n")


# --- terminals, examples ------------------------------------------------------------------

def colours_on_terminals():
    clean = {"NO_COLOR": ""}
    assert b"\033[31m" in on_terminal("nonsense", **clean)
    assert b"\033[31m" not in on_terminal("nonsense", NO_COLOR="1")
    assert b"\033" not in on_terminal("nonsense", TERM="dumb")
    assert "\033" not in infer("nonsense")[2]


def bar_on_terminals():
    args = ("tokenize", "--model", MODEL, "--text", "dog")
    shown = on_terminal(*args)
    assert b"%" in shown and b"\r\033[K" in shown, shown
    assert infer(*args)[2] == ""


def examples_run():
    folder = os.path.join(os.path.dirname(INFER), "..")

    def example(name, *args, stdin=b""):
        run = subprocess.run([os.path.join(folder, name), *args], input=stdin, capture_output=True,
                             timeout=TIMEOUT_S, check=False)
        return run.returncode, run.stdout, run.stderr
    for name, args, stdin in (("hello", ("Once upon a time",), b""),
                              ("chat", (), b"What is 2 plus 3?\nWhat is 3 plus 4?\n"),
                              ("batch", ("Once", "The dog", "Hello"), b""),
                              ("tokens", ("a dog",), b""), ("logprobs", ("Once",), b""),
                              ("structured", (), b""),
                              ("decide", ("Is it?",), b""), ("decide", ("2 + 3?", "4", "5"), b""),
                              ("embed", ("a kite", "rice"), b""), ("embed", (), b"a kite\nrice\n")):
        status, out, err = example(name, MODEL, *args, stdin=stdin)
        assert status == 0 and out and not err, (name, status, err)
        status, out, err = example(name, "/nowhere.gguf", *args)
        assert status == 1 and b"/nowhere.gguf" in err, (name, status, err)
        status, out, err = example(name)
        assert status != 0 and err.startswith(b"usage: " + name.encode()), (name, status, err)


def main():
    tap = Tap()
    for case in (help_is_no_error, wrong_commands, wrong_options, wrong_values, one_prompt,
                 missing_files, no_model_file, full_disk, run_keys, run_streams_the_same,
                 run_prompt_sources, run_limits, run_constrained, run_too_long, run_seed,
                 run_threads, run_adapter, run_speculation, run_special, run_invalid_utf8, run_empty_prompt,
                 run_timing, tokenize_and_back,
                 tokenize_specials, tokenize_vocabulary_only, detokenize_wrong_ids,
                 score_of_a_short_text, score_windows, inspect_says_all, kv_types, bench_keys,
                 devices, self_test, chat_by_pipe, chat_forgets, chat_overflows, chat_interrupted,
                 chat_variables, colours_on_terminals, bar_on_terminals, examples_run):
        tap.run(case.__name__.replace("_", " "), case)
    for folder, name in (("stories260K", "stories260K.f32.gguf"),
                         ("TinyStories-656K", "TinyStories-656K.f32.gguf")):
        tap.run(f"greedy tokens of {folder}", golden_greedy, folder, name)
        tap.run(f"perplexity of {folder}", golden_perplexity, folder, name)
    tap.done()


main()
