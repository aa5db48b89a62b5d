/* OpenBLAS, if the system has it: opened when asked for, never linked. */
#include "base/error.h"
#include "base/log.h"
#include "device/device.h"

#include <dlfcn.h>
#include <infer/log.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define OPENBLAS_FILE "libopenblas.so.0"

typedef char *openblas_config_fn(void);

/* Every function that is used: type, name. */
#define OPENBLAS_FUNCTIONS(X)                                                                      \
    X(device_sgemm_fn, cblas_sgemm)                                                                \
    X(openblas_config_fn, openblas_get_config)

/* Filled once and never closed: OpenBLAS runs threads that outlive any object
 * of ours, and the host may use the same copy. */
static struct {
#define X(type, name) type *name;
    OPENBLAS_FUNCTIONS(X)
#undef X
    char problem[256]; /* why it cannot be used; "" if it can */
} openblas;

static pthread_once_t openblas_once = PTHREAD_ONCE_INIT;

static int find(void *library, const char *name, void *function, size_t size)
{
    void *symbol = dlsym(library, name);
    memcpy(function, &symbol, size); /* ISO C has no cast from object to function pointer */
    if (!symbol)
        snprintf(openblas.problem, sizeof openblas.problem, "%s has no %s", OPENBLAS_FILE, name);
    return symbol != NULL;
}

static void open_once(void)
{
    void *library = dlopen(OPENBLAS_FILE, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        snprintf(openblas.problem, sizeof openblas.problem, "cannot open OpenBLAS: %s", dlerror());
        return;
    }
#define X(type, name) &&find(library, #name, &openblas.name, sizeof openblas.name)
    if (1 OPENBLAS_FUNCTIONS(X))
        base_log(INFER_LOG_INFO, "opened %s", openblas.openblas_get_config());
#undef X
}

infer_status device_openblas(device_sgemm_fn **out)
{
    pthread_once(&openblas_once, open_once);
    if (openblas.problem[0])
        return base_error(INFER_ERR_UNSUPPORTED, "%s", openblas.problem);
    *out = openblas.cblas_sgemm;
    return INFER_OK;
}
