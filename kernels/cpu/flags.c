/* What the processor offers and the operating system saves across switches. */
#include "kernels/kernels.h"

#if defined(__x86_64__)

#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

struct cpuid {
    uint32_t a, b, c, d;
};

/* All zero for a leaf the processor does not have. */
static struct cpuid cpuid(uint32_t leaf, uint32_t subleaf)
{
    struct cpuid r = {0, 0, 0, 0};
    __get_cpuid_count(leaf, subleaf, &r.a, &r.b, &r.c, &r.d);
    return r;
}

/* The register state the operating system has enabled (XCR0). */
static uint32_t xcr0(void)
{
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return lo;
}

enum {
    LEAF1_C_FMA = 1 << 12,
    LEAF1_C_OSXSAVE = 1 << 27,
    LEAF1_C_F16C = 1 << 29,
    LEAF7_B_AVX2 = 1 << 5,
    LEAF7_B_AVX512F = 1 << 16,
    LEAF7_B_AVX512DQ = 1 << 17,
    LEAF7_B_AVX512BW = 1 << 30,
    LEAF7_C_AVX512VNNI = 1 << 11,
    LEAF7_1_A_AVX512BF16 = 1 << 5,
    LEAF7_D_AMX = 1 << 22 | 1 << 24 | 1 << 25, /* BF16, TILE, INT8 */
    XCR0_YMM = 0x06,                           /* SSE and AVX state */
    XCR0_ZMM = 0xe6,                           /* and opmask and both halves of the ZMM state */
    XCR0_TILES = 3 << 17                       /* their shapes and their data */
};
#define LEAF7_B_AVX512VL (1u << 31)

static int has(uint32_t word, uint32_t bits)
{
    return (word & bits) == bits;
}

/* Whether the system saves tiles for processes that ask. */
static int has_tiles(void)
{
#if defined(__linux__)
    enum { ARCH_GET_XCOMP_SUPP = 0x1021, XFEATURE_XTILEDATA = 18 };
    uint64_t features = 0;

    return syscall(SYS_arch_prctl, ARCH_GET_XCOMP_SUPP, &features) == 0 &&
           (features >> XFEATURE_XTILEDATA & 1);
#else
    return 0;
#endif
}

int kern_cpu_ask_for_tiles(void)
{
#if defined(__linux__)
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };

    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
#else
    return 0;
#endif
}

uint32_t kern_cpu_flags(void)
{
    const struct cpuid one = cpuid(1, 0);
    const struct cpuid seven = cpuid(7, 0);
    uint32_t flags = 0;
    uint32_t state;

    if (!has(one.c, LEAF1_C_OSXSAVE)) {
        return 0;
    }
    state = xcr0();
    if (!has(state, XCR0_YMM) || !has(one.c, LEAF1_C_FMA | LEAF1_C_F16C) ||
        !has(seven.b, LEAF7_B_AVX2)) {
        return 0;
    }
    flags |= KERN_CPU_AVX2;
    if (!has(state, XCR0_ZMM) ||
        !has(seven.b, LEAF7_B_AVX512F | LEAF7_B_AVX512DQ | LEAF7_B_AVX512BW | LEAF7_B_AVX512VL)) {
        return flags;
    }
    flags |= KERN_CPU_AVX512;
    if (has(seven.c, LEAF7_C_AVX512VNNI)) {
        flags |= KERN_CPU_AVX512VNNI;
    }
    if (has(cpuid(7, 1).a, LEAF7_1_A_AVX512BF16)) {
        flags |= KERN_CPU_AVX512BF16;
    }
    if (has(seven.d, LEAF7_D_AMX) && has(state, XCR0_TILES) && has_tiles()) {
        flags |= KERN_CPU_AMX;
    }
    return flags;
}

#else

int kern_cpu_ask_for_tiles(void)
{
    return 0;
}

#if defined(__aarch64__)

#include <sys/auxv.h>

enum {
    HWCAP_DOTPROD = 1 << 20, /* Linux calls it ASIMDDP */
    HWCAP2_MATMUL = 1 << 13  /* and this I8MM */
};

uint32_t kern_cpu_flags(void)
{
    uint32_t flags = KERN_CPU_NEON; /* part of the base instruction set */

    if (getauxval(AT_HWCAP) & HWCAP_DOTPROD) {
        flags |= KERN_CPU_NEON_DOTPROD;
    }
    if (getauxval(AT_HWCAP2) & HWCAP2_MATMUL) {
        flags |= KERN_CPU_NEON_I8MM;
    }
    return flags;
}

#else

uint32_t kern_cpu_flags(void)
{
    return 0;
}

#endif

#endif
