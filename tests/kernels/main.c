/* The program: levels outside, entries of kernels/list.h inside. Prints TAP. */
#include "amx_soft.h"
#include "check.h"

#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------- the entries */

typedef void any_fn(void);

struct entry {
    const char *family;
    const char *name;
    size_t offset; /* of the pointer in struct infer_kernels */
    infer_dtype dtype;
    check_fn *check, *bench;
};

#define ENTRY(family, member)                                                                      \
    {#family, #family "." #member,       offsetof(struct infer_kernels, family.member),            \
     -1,      check_##family##_##member, bench_##family##_##member},
#define ENTRY_TYPED(family, member, dtype)                                                         \
    {#family,                                                                                      \
     #family "." #member "[" #dtype "]",                                                           \
     offsetof(struct infer_kernels, family.member) + sizeof(any_fn *) * INFER_DTYPE_##dtype,       \
     INFER_DTYPE_##dtype,                                                                          \
     check_##family##_##member,                                                                    \
     bench_##family##_##member},

static const struct entry entries[] = {KERN_LIST(ENTRY, ENTRY_TYPED)};

static any_fn *entry_pointer(const struct infer_kernels *kernels, const struct entry *e)
{
    any_fn *fn;

    memcpy(&fn, (const char *)kernels + e->offset, sizeof(fn));
    return fn;
}

/* ----------------------------------------------------------- the levels */

static const struct level {
    const char *name;
    uint32_t flags;
} levels[] = {
    {"ref", 0},
#if defined(__x86_64__)
    {"avx2", KERN_CPU_AVX2},
    {"avx512", KERN_CPU_AVX2 | KERN_CPU_AVX512},
    {"avx512vnni", KERN_CPU_AVX2 | KERN_CPU_AVX512 | KERN_CPU_AVX512VNNI},
    {"avx512bf16", KERN_CPU_AVX2 | KERN_CPU_AVX512 | KERN_CPU_AVX512VNNI | KERN_CPU_AVX512BF16},
    {"avx512amx",
     KERN_CPU_AVX2 | KERN_CPU_AVX512 | KERN_CPU_AVX512VNNI | KERN_CPU_AVX512BF16 | KERN_CPU_AMX},
#elif defined(__aarch64__)
    {"neon", KERN_CPU_NEON},
    {"neon_dotprod", KERN_CPU_NEON | KERN_CPU_NEON_DOTPROD},
    {"neon_i8mm", KERN_CPU_NEON | KERN_CPU_NEON_DOTPROD | KERN_CPU_NEON_I8MM},
#endif
};

/* ---------------------------------------------------------- the verdicts */

static struct {
    int passed, failed;
} count;

static void report(int failures, const char *level, const char *what)
{
    const int number = ++count.passed + count.failed;

    if (failures) {
        count.passed--;
        count.failed++;
    }
    printf("%s %d - %s %s\n", failures ? "not ok" : "ok", number, level, what);
    fflush(stdout);
}

/* A kernel that touches a guard page or executes what the processor lacks
 * fails its entry; the program goes on with the next. */
static sigjmp_buf crash_return;
static volatile sig_atomic_t crash_expected;

static void on_crash(int signal_number)
{
    if (!crash_expected) { /* not in a kernel, or it took our own stack with it */
        signal(signal_number, SIG_DFL);
        raise(signal_number);
    }
    crash_expected = 0;
    siglongjmp(crash_return, signal_number);
}

static void catch_crashes(void)
{
    struct sigaction action;

    memset(&action, 0, sizeof(action));
    action.sa_handler = on_crash;
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGILL, &action, NULL);
    sigaction(SIGFPE, &action, NULL);
}

static void run_entry(struct check *c, const struct entry *e)
{
    const int signal_number = sigsetjmp(crash_return, 1);

    if (signal_number == 0) {
        crash_expected = 1;
        (c->options->bench ? e->bench : e->check)(c);
    } else {
        check_true(c, 0, "stopped by signal %d (%s)", signal_number, strsignal(signal_number));
    }
    crash_expected = 0;
    check_release(c);
    if (!c->options->bench) {
        report(c->failures, c->level, e->name);
    }
}

/* Entries whose pointer this level changed against the one below it. */
static void run_level(const struct level *level, const struct infer_kernels *ref,
                      const struct infer_kernels *below, const struct infer_kernels *dut,
                      const struct check_options *options)
{
    for (size_t i = 0; i < BASE_COUNT(entries); i++) {
        const struct entry *e = &entries[i];
        struct check c = {.ref = ref,
                          .dut = dut,
                          .dtype = e->dtype,
                          .rng = options->seed + i,
                          .level = level->name,
                          .entry = e->name,
                          .options = options};

        if ((options->only && !strstr(e->name, options->only)) ||
            (dut != ref && entry_pointer(dut, e) == entry_pointer(below, e))) {
            continue;
        }
        run_entry(&c, e);
    }
}

/* ------------------------------------------------------------- the table */

static int is_listed(size_t offset)
{
    for (size_t i = 0; i < BASE_COUNT(entries); i++) {
        if (entries[i].offset == offset) {
            return 1;
        }
    }
    return 0;
}

/* Words of the table that are not kernels. */
static int is_other(size_t offset)
{
    const size_t act = offsetof(struct infer_kernels, gemm.act);
    const size_t end = offsetof(struct infer_kernels, gemm) + sizeof(struct kern_gemm);

    return (offset >= act && offset < end) || offset == offsetof(struct infer_kernels, name);
}

/* Every line of the list has a pointer, every pointer has a line. */
static void check_complete(const struct infer_kernels *kernels, const char *level)
{
    int failures = 0;
    any_fn *fn;

    for (size_t i = 0; i < BASE_COUNT(entries); i++) {
        if (!entry_pointer(kernels, &entries[i])) {
            printf("#   %s %s: listed, but NULL\n", level, entries[i].name);
            failures++;
        }
    }
    for (size_t at = 0; at < sizeof(*kernels); at += sizeof(fn)) {
        memcpy(&fn, (const char *)kernels + at, sizeof(fn));
        if (fn && !is_listed(at) && !is_other(at)) {
            printf("#   %s: pointer at byte %zu of the table has no line in list.h\n", level, at);
            failures++;
        }
    }
    report(failures, level, "table complete");
}

/* A mask without a level's bit installs nothing of that level or of those above. */
static void check_masks(uint32_t available)
{
    struct infer_kernels want, got;
    int failures = 0;

    for (size_t i = 1; i < BASE_COUNT(levels); i++) {
        const uint32_t bit = levels[i].flags & ~levels[i - 1].flags;

        kern_init_cpu(&want, levels[i - 1].flags);
        kern_init_cpu(&got, ~bit);
        if (memcmp(&want, &got, sizeof(want)) != 0) {
            printf("#   mask without %s installs more than %s\n", levels[i].name,
                   levels[i - 1].name);
            failures++;
        }
    }
    kern_init_cpu(&want, available);
    kern_init_cpu(&got, ~0u);
    if (memcmp(&want, &got, sizeof(want)) != 0) {
        printf("#   flags the processor lacks are not ignored\n");
        failures++;
    }
    report(failures, "all", "masks");
}

/* Processors differ: what this one lacks is no test that was left out, but a remark. A level that
 * was asked for by name must be there. */
static void report_missing(const char *level, const struct check_options *options)
{
    if (!options->level) {
        printf("# no %s on this processor\n", level);
    } else if (strcmp(options->level, level) == 0) {
        report(1, level, "is not on this processor");
    }
}

/* The kernels for AMX once more, over tiles in software; `levels` holds what they need. */
static void run_amx_soft(const struct check_options *options, const struct infer_kernels *ref,
                         uint32_t available)
{
#if defined(__x86_64__)
    static const uint32_t need =
        KERN_CPU_AVX2 | KERN_CPU_AVX512 | KERN_CPU_AVX512VNNI | KERN_CPU_AVX512BF16;
    const struct level level = {"amx in software", need};
    struct infer_kernels below, dut;
    struct check plants = {.ref = &below, .dut = &dut, .rng = options->seed, .level = level.name};
    struct check traps = plants;

    if (need & ~available) {
        report_missing(level.name, options);
        return;
    }
    kern_init_cpu(&below, need);
    dut = below;
    amx_soft_init(&dut);
    run_level(&level, ref, &below, &dut, options);
    check_amx_plants(&plants);
    report(plants.failures, level.name, "planted mistakes are found");
    if (available & KERN_CPU_AMX) {
        printf("# this processor has AMX: level avx512amx ran as compiled\n");
        return;
    }
    check_amx_traps(&traps);
    report(traps.failures, level.name, "as compiled, instruction by instruction");
#else
    BASE_UNUSED(options);
    BASE_UNUSED(ref);
    BASE_UNUSED(available);
#endif
}

static int is_level(const char *name)
{
    for (size_t i = 0; i < BASE_COUNT(levels); i++) {
        if (strcmp(name, levels[i].name) == 0) {
            return 1;
        }
    }
    return 0;
}

static void run(const struct check_options *options)
{
    const uint32_t available = kern_cpu_flags();
    struct infer_kernels ref, below, dut;

    kern_init_cpu(&ref, 0);
    below = ref;
    for (size_t i = 0; i < BASE_COUNT(levels); i++) {
        const struct level *level = &levels[i];

        if (level->flags & ~available) {
            report_missing(level->name, options);
            continue;
        }
        kern_init_cpu(&dut, level->flags);
        if (!options->level || strcmp(options->level, level->name) == 0) {
            if (!options->bench) {
                check_complete(&dut, level->name);
            }
            run_level(level, &ref, &below, i == 0 ? &ref : &dut, options);
        }
        below = dut;
    }
    if (!options->bench) {
        if (!options->level) {
            run_amx_soft(options, &ref, available);
        }
        check_masks(available);
    }
}

static int usage(const char *program)
{
    fprintf(stderr, "usage: %s [--bench] [--seed N] [--level NAME] [--only TEXT] [--rounds N]\n",
            program);
    return 2;
}

int main(int argc, char **argv)
{
    struct check_options options = {.seed = 20260101, .rounds = 60};

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--bench") == 0) {
            options.bench = 1;
        } else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) {
            options.seed = strtoull(argv[++i], NULL, 0);
        } else if (strcmp(argv[i], "--level") == 0 && i + 1 < argc && is_level(argv[i + 1])) {
            options.level = argv[++i];
        } else if (strcmp(argv[i], "--rounds") == 0 && i + 1 < argc) {
            options.rounds = atoi(argv[++i]);
        } else if (strcmp(argv[i], "--only") == 0 && i + 1 < argc) {
            options.only = argv[++i];
        } else {
            return usage(argv[0]);
        }
    }
    catch_crashes();
    printf("# seed %llu\n", (unsigned long long)options.seed);
    run(&options);
    if (options.bench) {
        return count.failed != 0;
    }
    printf("1..%d\n", count.passed + count.failed);
    printf("# %d passed, %d failed\n", count.passed, count.failed);
    return count.failed != 0;
}
