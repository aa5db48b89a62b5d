/* The model's recommended sampling, overridden by what the command line gives. */
#include "sampling_args.h"

#include "command.h"
#include "host.h"

int sampling_resolve(const struct sampling_args *args, const infer_model *model,
                     infer_sampling *out)
{
    *out = (infer_sampling){.struct_size = sizeof *out};
    if (infer_model_sampling(model, out) != INFER_OK)
        return host_failed();
    if (args->given.temperature)
        out->temperature = (float)args->temperature;
    if (args->given.top_k)
        out->top_k = (int32_t)args->top_k;
    if (args->given.top_p)
        out->top_p = (float)args->top_p;
    if (args->given.min_p)
        out->min_p = (float)args->min_p;
    if (args->given.repeat_penalty)
        out->repetition_penalty = (float)args->repeat_penalty;
    if (args->given.frequency_penalty)
        out->frequency_penalty = (float)args->frequency_penalty;
    if (args->given.presence_penalty)
        out->presence_penalty = (float)args->presence_penalty;
    if (args->given.seed)
        out->seed = args->seed;
    return STATUS_OK;
}
