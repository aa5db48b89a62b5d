"""What nvcc made of the kernels for Hopper, read from their cubins and PTX without a disassembler:
registers, local memory, the width of loads, tensor cores, and what is loaded ahead of the wait for
the kernel before (griddepcontrol.wait).

  machine_code.py FILE.cubin FILE.ptx ...

Prints TAP. A cubin is an ELF file; .text.KERNEL holds instructions of 16 bytes whose opcode is the
low 12 bits; the opcodes are those that nvcc 13.0 was seen to use.
"""

import collections
import os
import re
import struct
import sys

LDG, LDL, STL = 0x981, 0x983, 0x387
ASYNC_COPY = 0xFAE  # LDGSTS
HMMA, IMMA = 0x23C, 0x237
WAIT, RELEASE = 0x82E, 0x82D
STORES = (0x986, 0x985)  # STG, ST
GENERIC_LOAD = 0x980
WIDE = 6  # bits 9 to 11 of the upper word: 128 bits

# Of a thread, where 256 of them have a multiprocessor for themselves (kernels/cuda/mega.cuh).
MEGA_REGISTERS = 255
# Bytes: the kernels have no register left for their last thirteen numbers.
MEGA_LOCAL = 56

# By beginning of the file's name, the longest that fits:
#   registers  at most
#   wide       wide loads ahead of the wait in the kernel that has most of them, at least
#   weights    the file multiplies by weights: loads of 128 bits, and these may lead the wait
#   early      may load what describes the step and the cache of earlier steps ahead of the wait
#   states     and loads what a sequence carries ahead of the wait, to which no more than .cs points
#   tensor     opcodes one of which must be there
#   local      bytes of local memory at most, and words stored and loaded there; else none
#   alone      is launched as an ordinary kernel: it waits for nobody and releases nobody
BUDGETS = {
    "": {"registers": 128},
    "few": {"registers": 128, "weights": True, "wide": 2},
    "latent": {"registers": 255, "early": True, "tensor": (HMMA,)},
    "latent_store": {"registers": 64},
    "lora": {"registers": 128, "weights": True, "early": True, "wide": 2},
    "lora_tile": {"registers": 128, "weights": True, "early": True, "tensor": (HMMA,)},
    "many": {"registers": 255, "weights": True, "tensor": (HMMA, IMMA)},
    "many_f8": {"registers": 168, "weights": True, "tensor": (HMMA,), "wide": 12},
    "attn_decode": {"registers": 255, "early": True, "tensor": (HMMA,)},
    "attn_prefill": {"registers": 255, "early": True, "tensor": (HMMA,)},
    "attn_text": {"registers": 224, "tensor": (HMMA,)},
    "attn_wide": {"registers": 255, "early": True, "tensor": (HMMA,)},
    "recur_delta": {"registers": 224, "early": True, "states": True},
    "recur_scan": {"registers": 168, "early": True, "states": True},
    "sample": {"registers": 64},
    "store": {"registers": 128, "early": True},
    "vector_scan": {"registers": 255, "tensor": (HMMA, IMMA)},
    "mega": {"registers": MEGA_REGISTERS, "weights": True, "tensor": (HMMA,), "alone": True,
             "local": MEGA_LOCAL},
}

# Exact angles of far positions: the reduction by pi of CUDA's double sine keeps a table there.
LOCAL_MEMORY = ("rope",)

Kernel = collections.namedtuple("Kernel", "name registers frame code")


def sections(data):
    header = struct.unpack_from("<16sHHIQQQIHHHHHH", data, 0)
    at, size, n, names = header[6], header[11], header[12], header[13]
    table = [struct.unpack_from("<IIQQQQIIQQ", data, at + i * size) for i in range(n)]

    def name(offset, strings):
        begin = table[strings][4] + offset
        return data[begin : data.index(b"\0", begin)].decode()

    return {name(s[0], names): data[s[4] : s[4] + s[5]] for s in table if s[1] != 8}, table, name


def attributes(info):
    """(kind, payload) of each entry of .nv.info."""
    at = 0
    while at + 4 <= len(info):
        form, kind = info[at], info[at + 1]
        size = struct.unpack_from("<H", info, at + 2)[0] if form == 4 else 0
        yield kind, info[at + 4 : at + 4 + size]
        at += 4 + size


def kernels(path):
    with open(path, "rb") as file:
        data = file.read()
    by_name, table, name = sections(data)
    symbols = next(s for s in table if s[1] == 2)
    values = collections.defaultdict(dict)
    for kind, payload in attributes(by_name.get(".nv.info", b"")):
        if kind in (0x2F, 0x11) and len(payload) == 8:
            index, value = struct.unpack("<II", payload)
            entry = struct.unpack_from("<I", data, symbols[4] + index * 24)[0]
            values[name(entry, symbols[6])][kind] = value
    for section, code in by_name.items():
        if section.startswith(".text."):
            symbol = section[len(".text.") :]
            found = values[symbol]
            words = [struct.unpack_from("<QQ", code, i) for i in range(0, len(code) - 15, 16)]
            yield Kernel(symbol, found.get(0x2F), found.get(0x11), words)


def opcodes(words):
    return collections.Counter(low & 0xFFF for low, _ in words)


def before_wait(words):
    for i, (low, _) in enumerate(words):
        if low & 0xFFF == WAIT:
            return words[:i]
    return words


def is_wide(word):
    """A load of 128 bits, or a copy of as many to shared memory: no kernel copies less at once."""
    op = word[0] & 0xFFF
    return op == ASYNC_COPY or op == LDG and word[1] >> 9 & 7 == WIDE


def wide_ahead(words):
    """Wide loads in front of a wait. A kernel may wait in two branches, one of them before it knows
    which weights it reads, and the compiler puts either first: the fewest that are any count."""
    seen, found = 0, []
    for word in words:
        seen += is_wide(word)
        if word[0] & 0xFFF == WAIT and seen:
            found.append(seen)
    return min(found, default=0)


def budget_of(stem):
    fits = [key for key in BUDGETS if (stem + ".").startswith(key)]
    return BUDGETS[max(fits, key=len)]


def check_kernel(kernel, budget):
    """Sentences on what is wrong."""
    counts = opcodes(kernel.code)
    ahead = before_wait(kernel.code)
    if kernel.registers is None:
        yield "has no count of registers: the format of cubins has changed"
        return
    if kernel.registers > budget["registers"]:
        yield f"uses {kernel.registers} registers, {budget['registers']} are planned"
    if not any(word in kernel.name for word in LOCAL_MEMORY):
        local = budget.get("local", 0)
        if kernel.frame > local:
            yield f"has a stack of {kernel.frame} bytes"
        if counts[LDL] > local or counts[STL] > local:
            yield f"spills: {counts[LDL]} loads and {counts[STL]} stores of local memory"
    if budget.get("alone"):
        return
    if not counts[WAIT]:
        yield "does not wait for the kernel before it"
    if not counts[RELEASE]:
        yield "does not release the kernel behind it"
    early = opcodes(ahead)
    if any(early[op] for op in STORES):
        yield "stores ahead of the wait"
    may_load = budget.get("weights") or budget.get("early")
    if not may_load and (early[LDG] or early[ASYNC_COPY] or early[GENERIC_LOAD]):
        yield "loads ahead of the wait, and has no weights that it might"


def check_file(path):
    """Problems of the file and the sum of what was seen."""
    stem = os.path.basename(path).removesuffix(".cubin")
    budget = budget_of(stem)
    found = list(kernels(path))
    counts = collections.Counter()
    for kernel in found:
        counts.update(opcodes(kernel.code))
        for problem in check_kernel(kernel, budget):
            yield f"{kernel.name} {problem}"
    if found and "tensor" in budget and not any(counts[op] for op in budget["tensor"]):
        yield "tensor cores are not used"
    if found and budget.get("weights"):
        wide = sum(is_wide(word) for kernel in found for word in kernel.code)
        if wide == 0:
            yield "no load of 128 bits"
    most = max((wide_ahead(kernel.code) for kernel in found), default=0)
    if found and most < budget.get("wide", 0):
        yield f"at most {most} loads of 128 bits are ahead of the wait, {budget['wide']} are planned"


def check_ptx(path):
    """In PTX, what stands ahead of the wait was put there by the source or by the first half of the
    compiler; only weights, which no kernel writes, are loaded through .nc there, and only integers
    are loaded of what describes a step."""
    stem = os.path.basename(path).removesuffix(".ptx")
    weights = budget_of(stem).get("weights")
    early = budget_of(stem).get("early")
    states = budget_of(stem).get("states")
    if budget_of(stem).get("alone"):
        return
    with open(path) as file:
        text = file.read()
    for entry in re.finditer(r"\.entry\s+(\w+)\(.*?^\}", text, re.S | re.M):
        head = entry.group(0).split("griddepcontrol.wait")[0]
        loads = re.findall(r"\bld\.global[\w.:]*", head)
        if weights:
            loads = [load for load in loads if ".nc" not in load and ".cs" not in load]
        if states:
            loads = [load for load in loads if ".cs" not in load]
        if early:
            loads = [load for load in loads if not re.search(r"global\.[us]32$", load)]
        if loads:
            yield f"{entry.group(1)} has {loads[0]} ahead of griddepcontrol.wait"


def main(paths):
    print(f"1..{len(paths)}")
    failed = 0
    for i, path in enumerate(paths, 1):
        problems = list(check_ptx(path) if path.endswith(".ptx") else check_file(path))
        for problem in problems[:20]:
            print(f"# {problem}")
        print(f"{'not ok' if problems else 'ok'} {i} - {os.path.basename(path)}")
        failed += bool(problems)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
