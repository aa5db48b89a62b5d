"""Writes the corpora of fuzz_vector_file, fuzz_vector_log and fuzz_vector_rows. Checksums are left
out, the targets put them right.

usage: make_corpus_vector.py FOLDER"""

import os
import struct
import sys


def up(data, align):
    return data + bytes(-len(data) % align)


def sections(kind, parts, format=1):
    """A file of sections: lib/vector/file.h."""
    data, entries, n_blocks = bytes(128), b"", 0
    for name, content, align in parts:
        data = up(data, align)
        entries += struct.pack("<32sQQ16s", name.encode(), len(data), len(content), b"")
        data += content
        n_blocks += -(-len(content) // 65536)
    data = up(data, 64)
    table = entries + bytes(8 * n_blocks)
    head = struct.pack("<8sIIII32sQQQ16s32s", b"INFERVF\n", format, 1000, 65536, len(parts),
                       kind.encode(), len(data) + len(table), len(data), len(table), b"", b"")
    return head + data[128:] + table


def manifest(segments, fields, first_log=1, dims=384):
    numbers = struct.pack("<6i5Q", dims, 0, 0, 32, 200, 1, 5, max(segments + [0]) + 1, first_log,
                          len(segments), len(fields))
    texts = b"".join(t.encode() + b"\0" for t in ["sha256:abc", "mean"] + fields)
    return sections("manifest", [("numbers", numbers, 64),
                                 ("segments", struct.pack(f"<{len(segments)}Q", *segments), 64),
                                 ("texts", texts, 64)])


def partitions(begin, rows, reach=-0.25, n_read=3):
    """Partitions of five rows with codes of 64 bytes: lib/vector/partitions.c."""
    n = len(begin) - 1
    head = struct.pack("<iifI", n, 5, 1.5, 0) + struct.pack("<fi", reach, n_read) * 16
    return sections("segment", [("partitions.head", head, 64),
                                ("partitions.begin", struct.pack(f"<{n + 1}I", *begin), 64),
                                ("partitions.rows", struct.pack(f"<{len(rows)}I", *rows), 64),
                                ("partitions.radius", struct.pack("<f", 0.5) * n, 64),
                                ("partitions.codes", bytes(64 * n), 64)])


def log(records, format=1):
    """A log: lib/vector/log.h. Records are (type, data, sum, synced); a sum of 2 stays wrong."""
    data = up(struct.pack("<8sIIQ", b"INFERVL\n", format, 1000, 42), 64)
    for kind, content, checksum, synced in records:
        data += struct.pack("<4sIQQQQQQ", b"rec\n", kind, len(data), len(content), synced,
                            checksum, 0, 0)
        data += up(content, 8)
    return data


def npy(descr, shape, data, version=1, order=False):
    text = f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}".encode()
    before = struct.pack("<6sBB", b"\x93NUMPY", version, 0)
    return before + struct.pack("<H" if version == 1 else "<I", len(text) + 1) + text + b"\n" + data


def main():
    short = [("a", b"hello", 64), ("b", bytes(range(100)), 4096)]
    floats = struct.pack("<4f", 1, -0.5, 0, 3e-5)
    files = {
        "vector_file/two": sections("segment", short),
        "vector_file/newer": sections("segment", short, format=2),
        "vector_file/none": sections("segment", []),
        "vector_file/empty": sections("segment", [("a", b"", 64), ("b", b"", 64)]),
        "vector_file/manifest": manifest([7, 3, 9], ["author.name", "year"], 10),
        "vector_file/manifest_new": manifest([], []),
        "vector_file/manifest_odd": manifest([7, 7], ["year"], dims=9000),
        "vector_file/partitions": partitions([0, 2, 5], [1, 4, 0, 2, 3]),
        "vector_file/partitions_odd": partitions([0, 3, 2, 5], [1, 4, 0, 2, 2], float("inf"), 9),
        "vector_log/none": log([]),
        "vector_log/newer": log([], format=2),
        "vector_log/three": log([(1, b"one", 0, 64), (2, b"two" * 20, 0, 128), (3, b"", 0, 128)]),
        "vector_log/closed": log([(1, b"one", 0, 64), (0xffffffff, b"", 0, 128)]),
        "vector_log/torn": log([(1, b"one", 0, 64), (2, b"two" * 20, 0, 64)])[:-9],
        "vector_log/damaged": log([(1, b"one", 2, 64), (2, b"two", 0, 64)]),
        "vector_log/known": log([(1, b"one", 2, 64), (2, b"two", 0, 256)]),
        "vector_log/hole": log([(1, bytes(1024), 2, 64), (2, b"two", 0, 64)]),
        # the first byte chooses the format, as the target reads it
        "vector_rows/fvecs": b"0" + (struct.pack("<i", 4) + floats) * 2,
        "vector_rows/bvecs": b"1" + struct.pack("<i3B", 3, 1, 2, 255) * 3,
        "vector_rows/ivecs": b"2" + struct.pack("<i2i", 2, 7, -9),
        "vector_rows/npy_f4": b"3" + npy("<f4", (2, 2), floats),
        "vector_rows/npy_f2": b"3" + npy("<f2", (2, 4), floats, 2),
        "vector_rows/npy_u1": b"3" + npy("|u1", (4, 4), floats, 3),
        "vector_rows/npy_order": b"3" + npy("<f8", (1, 2), floats, order=True),
        "vector_rows/jsonl": b'4{"id":"a","ns":"b","vector":[1,-2.5e-3],"metadata":{"c":[1]}}\n\n'
                             b'{"vector":[1,0],"id":12}',
    }
    for name, data in files.items():
        path = os.path.join(sys.argv[1], name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(data)


main()
