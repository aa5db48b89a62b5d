/* Which CUDA kernels a card can run. */
#include "kernels/cuda/cuda_kernels.h"

#include <string.h>

/* The oldest capability that machine code is built for (kernels/cuda/meson.build). */
#define CAPABILITY_MIN 80

/* The only generation that a step in one launch is built for (mega.cuh). */
#define MEGA_CAPABILITY 9

static const struct kern_cuda all = {
    .layout_of = kern_cuda_layout_of,
    .many_rows = kern_cuda_many_rows,
    .many_scratch = kern_cuda_many_scratch,
    .attn_scratch = kern_cuda_attn_scratch,
    .attn_scratch_fixed = kern_cuda_attn_scratch_fixed,
    .product = {.split = kern_cuda_product_split,
                .rows = kern_cuda_product_rows,
                .add_rows = kern_cuda_product_add_rows,
                .scales = kern_cuda_product_scales,
                .few = kern_cuda_product_few,
                .many = kern_cuda_product_many},
    .rows = {.norm = kern_cuda_rows_norm,
             .convert = kern_cuda_rows_convert,
             .gate = kern_cuda_rows_gate,
             .join = kern_cuda_rows_join,
             .add_bias = kern_cuda_rows_add_bias,
             .gather = kern_cuda_rows_gather,
             .logits = kern_cuda_rows_logits,
             .argmax = kern_cuda_rows_argmax,
             .sample = kern_cuda_rows_sample},
    .attn = {.rope = kern_cuda_attn_rope,
             .store = kern_cuda_attn_store,
             .paged = kern_cuda_attn_paged},
    .moe = {.route = kern_cuda_moe_route,
            .sort = kern_cuda_moe_sort,
            .combine = kern_cuda_moe_combine},
    .lora = {.row = kern_cuda_lora_row, .down = kern_cuda_lora_down, .up = kern_cuda_lora_up},
    .text = {.embed = kern_cuda_text_embed,
             .rotate = kern_cuda_text_rotate,
             .attend = kern_cuda_text_attend,
             .pool = kern_cuda_text_pool},
    .latent = {.scratch = kern_cuda_latent_scratch,
               .store = kern_cuda_latent_store,
               .attend = kern_cuda_latent_attend},
    .recur = {.scan = kern_cuda_recur_scan,
              .delta = kern_cuda_recur_delta,
              .finish = kern_cuda_recur_finish},
    .vector = {.group = kern_cuda_vector_group,
               .pack = kern_cuda_vector_pack,
               .queries = kern_cuda_vector_queries,
               .scan = kern_cuda_vector_scan,
               .select = kern_cuda_vector_select,
               .sums = kern_cuda_vector_sums},
    .mega = {.record = kern_cuda_mega_record,
             .fit = kern_cuda_mega_fit,
             .launch = kern_cuda_mega_launch},
    .step = {.begin = kern_cuda_step_begin, .answer = kern_cuda_step_answer},
};

void kern_cuda_init(struct kern_cuda *kernels, int32_t compute_capability)
{
    *kernels = compute_capability >= CAPABILITY_MIN ? all : (struct kern_cuda){0};
    if (compute_capability / 10 != MEGA_CAPABILITY)
        memset(&kernels->mega, 0, sizeof kernels->mega);
}
