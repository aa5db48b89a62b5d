"""Encoding against Hugging Face's `tokenizers`, in turns on the same text:

    python3 benchmarks/tokenizers_peer.py BUILD DATA [ROUNDS]

BUILD is a build folder, DATA the test data. Both sides encode one megabyte, as one text and as
one a line, on one thread, and count processor time; the table has medians and the spread of all
rounds. The peer's results hold texts and places of the tokens besides their ids. Needs the Python
package `tokenizers`."""

import os
import statistics
import subprocess
import sys
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
import tokenizers  # noqa: E402

MEGABYTE = 1 << 20
TEXTS = [  # and whether each line is a text
    ("text/gutenberg/war-and-peace.txt", False),
    ("text/gutenberg/war-and-peace.txt", True),
    ("text/gutenberg/wagahaiwa_nekodearu.ja.txt", False),
]
# ours, theirs (None: the peer does not read it)
TOKENIZERS = [
    ("byte-level BPE, phi-2", "tokenizers/phi-2/tokenizer.json", "same"),
    ("byte-level BPE, falcon", "tokenizers/falcon/tokenizer.json", "same"),
    ("byte-level BPE, roberta", "tokenizers/roberta-base/tokenizer.json", "same"),
    ("byte-level BPE, cl100k", "tokenizers/tiktoken/cl100k_base.tiktoken", None),
    ("byte-level BPE, o200k", "tokenizers/tiktoken/o200k_base.tiktoken", None),
    ("BPE of characters, phi-3", "tokenizers/phi-3-mini/tokenizer.json", "same"),
    ("SentencePiece BPE, llama 2", "tokenizers/llama2/tokenizer.model", None),
    ("unigram, t5", "tokenizers/t5/tokenizer.json", "same"),
    ("WordPiece, MiniLM", "tokenizers/all-MiniLM-L6-v2/tokenizer.json", "same"),
]


def peer_round(tokenizer, texts):
    start = time.thread_time()
    n = 0
    for text in texts:
        n += len(tokenizer.encode(text, add_special_tokens=False).ids)
    return time.thread_time() - start, n


def load_peer(path):
    tokenizer = tokenizers.Tokenizer.from_file(path)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def rate(seconds, size):
    mb = size * 1e-6
    return "%7.2f (%.2f to %.2f)" % (mb / statistics.median(seconds), mb / max(seconds),
                                     mb / min(seconds))


def run(build, data, name, ours, theirs, text, lines, rounds):
    path = os.path.join(data, text)
    with open(path, "rb") as f:
        raw = f.read(MEGABYTE)
    decoded = raw.decode("utf-8", "ignore")
    texts = decoded.split("\n") if lines else [decoded]
    child = subprocess.Popen(
        [os.path.join(build, "benchmarks/tokenize"), os.path.join(data, ours), path, "--wait"] +
        (["--lines"] if lines else []),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    peer = load_peer(os.path.join(data, ours)) if theirs else None
    a, b, n_ours, n_theirs = [], [], 0, 0
    for i in range(rounds + 1):  # the first one warms up both
        child.stdin.write("go\n")
        child.stdin.flush()
        seconds, n_ours = child.stdout.readline().split()
        if i:
            a.append(float(seconds))
        if peer:
            seconds, n_theirs = peer_round(peer, texts)
            if i:
                b.append(seconds)
    child.stdin.close()
    child.wait()
    versus = rate(b, len(raw)) if peer else "-"
    times = "%.1f" % (statistics.median(b) / statistics.median(a)) if peer else "-"
    print("| %s | %s | %s | %s | %s | %s | %s |" % (
        name, os.path.basename(text) + (", by lines" if lines else ""), rate(a, len(raw)), versus, times, n_ours,
        n_theirs if peer else "-"), flush=True)


def main():
    build, data = sys.argv[1], sys.argv[2]
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 9
    print("| vocabulary | text | MB/s (spread) | tokenizers %s | times | tokens | theirs |" %
          tokenizers.__version__)
    print("|---|---|---|---|---|---|---|")
    for name, ours, theirs in TOKENIZERS:
        for text, lines in TEXTS:
            run(build, data, name, ours, theirs, text, lines, rounds)


if __name__ == "__main__":
    main()
