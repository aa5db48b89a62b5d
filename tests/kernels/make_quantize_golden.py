#!/usr/bin/env python3
"""Prints the tables of quantize_golden.h: what other quantisers make of the same rows.

Needs numpy, PyTorch (F8_128), gguf (hashes of types whose blocks the format's reference defines)
and the shared library of ggml that is given as the argument (errors of types whose scales are
searched)."""
import ctypes
import sys

import gguf
import numpy as np
import torch

ROWS, K = 32, 1024
EXACT = 'Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 TQ1_0 TQ2_0 MXFP4'.split()
SEARCHED = 'Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS NVFP4'.split()


def rows():
    """As input() in quantize.c: bell-shaped, every eighth row shifted, exact in float32."""
    state, out = 1, np.zeros(ROWS * K, np.float32)
    for i in range(ROWS * K):
        total = 0
        for _ in range(4):
            state = (state * 1664525 + 1013904223) & 0xffffffff
            total += (state >> 12) - (1 << 19)
        out[i] = total
    out = out.reshape(ROWS, K) * np.float32(2.0 ** -23)
    out[::8] += np.float32(0.125)
    return out


def fnv1a(data):
    h = 0xcbf29ce484222325
    for byte in data:
        h = ((h ^ byte) * 0x100000001b3) & 0xffffffffffffffff
    return h


def f8_128(x):
    x = torch.from_numpy(x).view(-1, 128)
    d = x.abs().amax(1, keepdim=True) / 448
    q = (x / d).clamp(-448, 448).to(torch.float8_e4m3fn).view(torch.uint8)
    return torch.cat([d.view(torch.uint8), q], 1).numpy()


def main():
    x = rows()
    print(f'    {{INFER_DTYPE_F8_128, UINT64_C(0x{fnv1a(f8_128(x).tobytes()):016x})}},')
    for name in EXACT:
        blocks = gguf.quants.quantize(x, gguf.GGMLQuantizationType[name])
        print(f'    {{INFER_DTYPE_{name}, UINT64_C(0x{fnv1a(blocks.tobytes()):016x})}},')
    ggml = ctypes.CDLL(sys.argv[1])
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    for name in SEARCHED:
        kind = gguf.GGMLQuantizationType[name]
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        blocks = np.zeros((ROWS, K // elements * size), np.uint8)
        ggml.ggml_quantize_chunk(int(kind), x.ctypes.data_as(ctypes.c_void_p),
                                 blocks.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(0),
                                 ctypes.c_int64(ROWS), ctypes.c_int64(K), None)
        error = gguf.quants.dequantize(blocks, kind).astype(np.float64) - x
        print(f'    {{INFER_DTYPE_{name}, {np.sqrt((error ** 2).mean()):.9f}}},')


main()
