"""Writes the corpus of fuzz_snapshot: snapshots for the cache that the target has. Checksums are
left out, the target puts them right.

usage: make_corpus_snapshot.py FOLDER"""

import os
import struct
import sys


def section(name, data, group=0, index=0):
    return name.encode() + struct.pack("<IIIQ", group, index, 0, len(data)) + bytes(16) + data


def blocks(n_tokens):
    n = (n_tokens + 15) // 16
    return b"".join(section("BLCK", bytes(127) + b"\n", 0, k) for k in range(n))


def head(kind, size, n_tokens, version):
    return struct.pack("<8sIIQIIQQQIII20s16s", b"INFERKV\n", version, kind, size, 0x000100, 0, 1, 2, 0, 16,
                       0, n_tokens, b"", b"")


def groups():
    return section("GRPS", struct.pack("<8Q", 0, 1, 1, 0, 0, 64, 128, 128))


def snapshot(kind, body, n_tokens, version=1):
    body += blocks(n_tokens)
    return head(kind, 104 + len(body), n_tokens, version) + body


def more(n_said=0, speculation=0, n_min=0):
    """What version 2 added."""
    numbers = struct.pack("<qiiiiii", n_min, 1, speculation, 8, 2, 5, 0)
    return section("MORE", numbers + struct.pack("<iiIIQQ", 1, n_said, 1, 0, 11, 12))


def request(n_prompt, answer, n_computed, stop=b"", text=b"", bias=b"", n_stop=0, n_top=0, want=0,
            scored=0, version=1, also=b""):
    n = len(answer)
    numbers = struct.pack("<6i", n_prompt, n, n_computed, 0, 0, n_stop)
    numbers += struct.pack("<qQQQd", 20, 0, len(text), 0, -1.5)
    numbers += struct.pack("<8i4s", 0, 1, 1, n_top, want, scored, 0, 1 if n else 0, b"\xc3")
    numbers += struct.pack("<fifffffi", 0.8, 0, 0.9, 0, 1.1, 0, 0, -1)
    numbers += struct.pack("<QQii", 7, 0, n_top, 0)
    tokens = struct.pack(f"<{n_prompt + n}i", *range(n_prompt), *answer)
    reported = b"".join(struct.pack("<fQ", -0.5, min(i + 1, len(text))) for i in range(n))
    top = b"".join(struct.pack("<if", i, -1) for i in range(n * n_top))
    body = groups() + section("REQS", numbers) + section("TOKS", tokens) + section("BIAS", bias)
    body += section("STOP", stop) + section("TEXT", text) + section("REPT", reported)
    body += section("TOPS", top) + section("SCOR", bytes(4 * n_prompt if scored else 0))
    body += section("LOGI", bytes(4 * 3 * n if want else 0))
    return snapshot(1, body + also, n_computed, version)


def main():
    folder = sys.argv[1]
    files = {
        "prefix": snapshot(2, groups() + section("TOKS", struct.pack("<32i", *range(32))), 32),
        "in_the_prompt": request(20, [], 17, scored=1),
        "answering": request(5, [3, 1, 4], 7, b"END\0\nUser\0", b"a b", struct.pack("<if", 3, 0.5),
                             2, 2, 1),
        "under_a_grammar": request(6, [3, 1, 4], 8, text=b"{ a", version=2, also=more(2, 2, 9)),
        "version_2_in_the_prompt": request(5, [], 3, version=2, also=more()),
        "long": request(18, list(range(20)), 37, text=b"words of an answer  "),
    }
    for name, data in files.items():
        with open(os.path.join(folder, name), "wb") as f:
            f.write(data)


main()
