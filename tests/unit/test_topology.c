/* Processors and limits, read from trees that look like /sys and /proc of other machines. */
#include "base/memory.h"
#include "base/thread.h"
#include "base/topology.h"
#include "support/test.h"

#include <errno.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[64];

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st, (void)type, (void)at;
    return remove(path);
}

static int make_root(void **state)
{
    (void)state;
    strcpy(root, "/tmp/topology-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
    (void)state;
    return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* Writes a file below the root, with the folders above it. */
static void put(const char *text, const char *format, ...)
{
    char path[512];
    va_list args;
    int n = snprintf(path, sizeof path, "%s", root);
    va_start(args, format);
    vsnprintf(path + n, sizeof path - (size_t)n, format, args);
    va_end(args);
    for (char *at = path + n + 1; (at = strchr(at, '/')); at++) {
        *at = 0;
        assert_true(mkdir(path, 0700) == 0 || errno == EEXIST);
        *at = '/';
    }
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void put_cpu(int cpu, const char *name, const char *text)
{
    put(text, "/sys/devices/system/cpu/cpu%d/%s", cpu, name);
}

static struct base_cpus read_cpus(const int *ids, int n)
{
    static struct base_cpus cpus;
    cpu_set_t set;
    CPU_ZERO(&set);
    for (int i = 0; i < n; i++)
        CPU_SET((size_t)ids[i], &set);
    base_cpus_read(&cpus, &set, root);
    assert_int_equal(cpus.n, n);
    return cpus;
}

#define READ(...)                                                                                  \
    read_cpus((const int[]){__VA_ARGS__}, (int)(sizeof((int[]){__VA_ARGS__}) / sizeof(int)))

static void assert_order(const struct base_cpus *cpus, const int *ids)
{
    for (int32_t i = 0; i < cpus->n; i++)
        assert_int_equal(cpus->cpu[i].id, ids[i]);
}

#define ORDER(cpus, ...) assert_order(cpus, (const int[]){__VA_ARGS__})

/* -------------------------------------------------------------- processors */

static void nothing_declared_is_equal(void **state)
{
    (void)state;
    const struct base_cpus cpus = READ(2, 5, 7);
    ORDER(&cpus, 2, 5, 7);
    for (int32_t i = 0; i < 3; i++) {
        assert_int_equal(cpus.cpu[i].capacity, BASE_CPU_FULL);
        assert_int_equal(cpus.cpu[i].sibling, 0);
        assert_int_equal(cpus.cpu[i].node, 0);
    }
    assert_int_equal(base_cpus_threads(&cpus, 0, 0), 3);
}

static void cores_come_before_their_second_threads(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        char list[16];
        snprintf(list, sizeof list, "%d,%d\n", i, i + 4);
        put_cpu(i, "topology/thread_siblings_list", list);
        put_cpu(i + 4, "topology/thread_siblings_list", list);
    }
    struct base_cpus cpus = READ(0, 1, 2, 3, 4, 5, 6, 7);
    ORDER(&cpus, 0, 1, 2, 3, 4, 5, 6, 7);
    assert_int_equal(base_cpus_threads(&cpus, 0, 0), 4);
    /* Of core 1 only the second thread is allowed: it is the core then. */
    cpus = READ(0, 4, 5);
    ORDER(&cpus, 0, 5, 4);
    assert_int_equal(base_cpus_threads(&cpus, 0, 0), 2);
    put_cpu(0, "topology/thread_siblings_list", "0-1\n");
    put_cpu(1, "topology/thread_siblings_list", "0-1\n");
    cpus = READ(0, 1);
    assert_int_equal(base_cpus_threads(&cpus, 0, 0), 1);
}

static void slow_processors_are_used_where_they_add(void **state)
{
    (void)state;
    for (int i = 0; i < 8; i++)
        put_cpu(i, "cpu_capacity", i < 4 ? "250\n" : "1024\n");
    struct base_cpus cpus = READ(0, 1, 2, 3, 4, 5, 6, 7);
    ORDER(&cpus, 4, 5, 6, 7, 0, 1, 2, 3);
    assert_int_equal(cpus.cpu[0].capacity, BASE_CPU_FULL);
    assert_int_equal(cpus.cpu[7].capacity, 250);
    assert_int_equal(base_cpus_threads(&cpus, 0, 0), 4); /* 4 * 1024 > 8 * 250 */
    assert_int_equal(base_cpus_threads(&cpus, 0, 1), 8); /* parts by speed */
    for (int i = 0; i < 4; i++)
        put_cpu(i, "cpu_capacity", "600\n");
    cpus = READ(0, 1, 2, 3, 4, 5, 6, 7);
    assert_int_equal(base_cpus_threads(&cpus, 0, 0), 8); /* 8 * 600 > 4 * 1024 */
    assert_int_equal(base_cpus_threads(&cpus, 3, 1), 3);
}

static void favoured_cores_are_no_faster_together(void **state)
{
    (void)state;
    put_cpu(0, "cpufreq/cpuinfo_max_freq", "5400000\n");
    put_cpu(1, "cpufreq/cpuinfo_max_freq", "5700000\n");
    put_cpu(2, "cpufreq/cpuinfo_max_freq", "2000000\n");
    struct base_cpus cpus = READ(0, 1, 2);
    ORDER(&cpus, 0, 1, 2);
    assert_int_equal(cpus.cpu[0].capacity, BASE_CPU_FULL);
    assert_int_equal(cpus.cpu[1].capacity, BASE_CPU_FULL);
    assert_int_equal(cpus.cpu[2].capacity, 359); /* 2000000 * 1024 / 5700000 */
    put_cpu(1, "cpufreq/cpuinfo_max_freq", "unknown\n");
    cpus = READ(0, 1, 2);
    assert_int_equal(cpus.cpu[2].capacity, BASE_CPU_FULL);
}

static void neighbouring_threads_share_a_node(void **state)
{
    (void)state;
    put("0,2,4,6\n", "/sys/devices/system/node/node0/cpulist");
    put("1,3,5,7\n", "/sys/devices/system/node/node1/cpulist");
    struct base_cpus cpus = READ(0, 1, 2, 3, 4, 5, 6, 7);
    ORDER(&cpus, 0, 1, 2, 3, 4, 5, 6, 7);
    base_cpus_by_node(&cpus, 6);
    ORDER(&cpus, 0, 2, 4, 1, 3, 5, 6, 7);
    assert_int_equal(cpus.cpu[2].node, 0);
    assert_int_equal(cpus.cpu[3].node, 1);
}

static void damaged_files_do_no_harm(void **state)
{
    (void)state;
    put_cpu(0, "topology/thread_siblings_list", "4-,,x-9\n");
    put_cpu(1, "topology/thread_siblings_list", "-3-999999999999999999999\n");
    put_cpu(0, "cpu_capacity", "-7\n");
    put_cpu(1, "cpu_capacity", "99999999999999999999\n");
    put("7-3,", "/sys/devices/system/node/node1/cpulist");
    const struct base_cpus cpus = READ(0, 1);
    assert_int_equal(cpus.cpu[0].capacity, BASE_CPU_FULL);
    assert_int_equal(cpus.cpu[1].capacity, BASE_CPU_FULL);
    assert_int_equal(cpus.cpu[0].node + cpus.cpu[1].node, 0);
}

/* ------------------------------------------------------------------ limits */

static void memory_is_what_the_least_leaves(void **state)
{
    (void)state;
    assert_int_equal(base_memory_available(root), 0);
    put("MemTotal: 900 kB\nMemAvailable:  500 kB\n", "/proc/meminfo");
    assert_int_equal(base_memory_available(root), 500 << 10);
    put("0::/a/b\n", "/proc/self/cgroup");
    put("max\n", "/sys/fs/cgroup/a/b/memory.max");
    put("300000\n", "/sys/fs/cgroup/a/memory.max");
    put("250000\n", "/sys/fs/cgroup/a/memory.current");
    assert_int_equal(base_memory_available(root), 50000);
    put("anon 7\ninactive_file 30000\n", "/sys/fs/cgroup/a/memory.stat");
    assert_int_equal(base_memory_available(root), 80000);
    put("310000\n", "/sys/fs/cgroup/a/memory.current");
    assert_int_equal(base_memory_available(root), 20000);
    put("9:memory:/x\n", "/proc/self/cgroup");
    put("4096\n", "/sys/fs/cgroup/memory/x/memory.limit_in_bytes");
    put("8192\n", "/sys/fs/cgroup/memory/x/memory.usage_in_bytes");
    assert_int_equal(base_memory_available(root), 1);
    put("-\n", "/proc/meminfo");
    put("x\n", "/sys/fs/cgroup/memory/x/memory.limit_in_bytes");
    assert_int_equal(base_memory_available(root), 0);
}

static void no_group_no_limit(void **state)
{
    (void)state;
    assert_int_equal(base_cpu_quota(root), 0);
    put("0::/\n", "/proc/self/cgroup");
    assert_int_equal(base_cpu_quota(root), 0);
    put("max 100000\n", "/sys/fs/cgroup/cpu.max");
    assert_int_equal(base_cpu_quota(root), 0);
}

static void version_2_own_group_and_those_above(void **state)
{
    (void)state;
    put("0::/a/b/c\n", "/proc/self/cgroup");
    put("max 100000\n", "/sys/fs/cgroup/a/b/c/cpu.max");
    put("250000 100000\n", "/sys/fs/cgroup/a/b/cpu.max");
    put("800000 100000\n", "/sys/fs/cgroup/a/cpu.max");
    assert_int_equal(base_cpu_quota(root), 3); /* 2.5, rounded up */
    put("50000 100000\n", "/sys/fs/cgroup/a/b/c/cpu.max");
    assert_int_equal(base_cpu_quota(root), 1);
    put("600000 100000\n", "/sys/fs/cgroup/a/b/c/cpu.max");
    put("max\n", "/sys/fs/cgroup/a/b/cpu.max");
    put("200000 100000\n", "/sys/fs/cgroup/cpu.max"); /* the top: a container's own group */
    assert_int_equal(base_cpu_quota(root), 2);
    put("200000 0\n", "/sys/fs/cgroup/cpu.max");
    assert_int_equal(base_cpu_quota(root), 6);
}

static void a_path_of_the_host_is_not_there(void **state)
{
    (void)state;
    put("0::/docker/0123456789\n", "/proc/self/cgroup");
    put("400000 100000\n", "/sys/fs/cgroup/cpu.max");
    assert_int_equal(base_cpu_quota(root), 4);
}

static void version_1(void **state)
{
    (void)state;
    put("5:cpuset:/x\n4:cpu,cpuacct:/a/b\n0::/\n", "/proc/self/cgroup");
    put("-1\n", "/sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_quota_us");
    put("100000\n", "/sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_period_us");
    assert_int_equal(base_cpu_quota(root), 0);
    put("150000\n", "/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us");
    put("50000\n", "/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us");
    assert_int_equal(base_cpu_quota(root), 3);
    put("100000\n", "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us"); /* no period: no limit */
    assert_int_equal(base_cpu_quota(root), 3);
    put("5:cpuset:/a\n4:cpuacct:/a\n", "/proc/self/cgroup"); /* not of the cpu controller */
    assert_int_equal(base_cpu_quota(root), 0);
    put("1:cpu:/a\n0::/a\n", "/proc/self/cgroup");
    put("180000\n", "/sys/fs/cgroup/cpu/a/cpu.cfs_quota_us");
    put("100000\n", "/sys/fs/cgroup/cpu/a/cpu.cfs_period_us");
    assert_int_equal(base_cpu_quota(root), 2);
}

/* ------------------------------------------------------------- this machine */

static void what_is_counted_is_allowed(void **state)
{
    (void)state;
    static struct base_cpus cpus;
    cpu_set_t all, one;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    base_cpus_usable(&cpus);
    assert_int_equal(cpus.n, CPU_COUNT(&all));
    assert_true(base_cpu_count() >= 1 && base_cpu_count() <= cpus.n);
    CPU_ZERO(&one);
    CPU_SET((size_t)cpus.cpu[cpus.n - 1].id, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    assert_int_equal(base_cpu_count(), 1);
    assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
}

#define IN_A_ROOT(f) cmocka_unit_test_setup_teardown(f, make_root, remove_root)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_A_ROOT(nothing_declared_is_equal),
        IN_A_ROOT(cores_come_before_their_second_threads),
        IN_A_ROOT(slow_processors_are_used_where_they_add),
        IN_A_ROOT(favoured_cores_are_no_faster_together),
        IN_A_ROOT(neighbouring_threads_share_a_node),
        IN_A_ROOT(damaged_files_do_no_harm),
        IN_A_ROOT(memory_is_what_the_least_leaves),
        IN_A_ROOT(no_group_no_limit),
        IN_A_ROOT(version_2_own_group_and_those_above),
        IN_A_ROOT(a_path_of_the_host_is_not_there),
        IN_A_ROOT(version_1),
        cmocka_unit_test(what_is_counted_is_allowed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
