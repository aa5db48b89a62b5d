/* The machine's processors: which of them this process may use, how fast they are declared to
 * be, which share a core or a NUMA node. Read once, when threads are made. */
#ifndef BASE_TOPOLOGY_H
#define BASE_TOPOLOGY_H

#include "base/types.h"

#include <sched.h>

/* Of a larger machine the first ones are used. */
#define BASE_CPUS_MAX 1024
#define BASE_CPU_FULL 1024

struct base_cpu {
    int32_t id, node;
    int32_t sibling;  /* allowed processors of the same core that come before it */
    int32_t capacity; /* BASE_CPU_FULL: the fastest's */
};

struct base_cpus {
    int32_t n;
    struct base_cpu cpu[BASE_CPUS_MAX]; /* best first: those of own cores, fast ones, low ids */
};

/* The processors of a mask. `root` is where sys and proc lie: "" is the machine itself. */
void base_cpus_read(struct base_cpus *out, const cpu_set_t *allowed, const char *root);

/* Those that the calling thread may run on; at least one. */
void base_cpus_usable(struct base_cpus *out);

/* How many processors' time the control groups of this process allow (version 2's cpu.max,
 * version 1's cpu.cfs_quota_us, its own and all above it), rounded up; 0: no limit. */
int32_t base_cpu_quota(const char *root);

/* Threads that pay: one a core, and at most `quota` (0: no limit). Where parts are equal the
 * slowest processor sets the pace, so that slow ones are used only where they add to the sum. */
int32_t base_cpus_threads(const struct base_cpus *cpus, int32_t quota, int weighted);

/* Orders the first n by node, so that neighbouring threads share one. */
void base_cpus_by_node(struct base_cpus *cpus, int32_t n);

#endif
