/* The option --adapter PATH[=SCALE]. */
#ifndef INFER_ADAPTER_ARG_H
#define INFER_ADAPTER_ARG_H

#include <infer/infer.h>

/* Loads what the option names, or nothing where it is NULL. Returns an exit status, having said
 * what failed; the caller destroys *out. */
int adapter_open(infer_adapter **out, float *scale, infer_model *model, const char *command,
                 const char *option);

#endif
