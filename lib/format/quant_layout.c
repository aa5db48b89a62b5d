/* Element types of tensors: names, block sizes, and the names of those we cannot read. */
#include "format/quant_layout.h"

static const struct quant_layout layouts[] = {
    [INFER_DTYPE_F32] = {"F32", 1, 4},       [INFER_DTYPE_F16] = {"F16", 1, 2},
    [INFER_DTYPE_Q4_0] = {"Q4_0", 32, 18},   [INFER_DTYPE_Q8_0] = {"Q8_0", 32, 34},
    [INFER_DTYPE_Q4_K] = {"Q4_K", 256, 144}, [INFER_DTYPE_Q6_K] = {"Q6_K", 256, 210},
    [INFER_DTYPE_I8] = {"I8", 1, 1},         [INFER_DTYPE_I16] = {"I16", 1, 2},
    [INFER_DTYPE_I32] = {"I32", 1, 4},       [INFER_DTYPE_I64] = {"I64", 1, 8},
    [INFER_DTYPE_F64] = {"F64", 1, 8},       [INFER_DTYPE_BF16] = {"BF16", 1, 2},
};

/* Numbers that GGUF gave out and this library has no layout for. */
static const char *const foreign[] = {
    [3] = "Q4_1",
    [4] = "Q4_2 (withdrawn)",
    [5] = "Q4_3 (withdrawn)",
    [6] = "Q5_0",
    [7] = "Q5_1",
    [9] = "Q8_1",
    [10] = "Q2_K",
    [11] = "Q3_K",
    [13] = "Q5_K",
    [15] = "Q8_K",
    [16] = "IQ2_XXS",
    [17] = "IQ2_XS",
    [18] = "IQ3_XXS",
    [19] = "IQ1_S",
    [20] = "IQ4_NL",
    [21] = "IQ3_S",
    [22] = "IQ2_S",
    [23] = "IQ4_XS",
    [29] = "IQ1_M",
    [31] = "Q4_0_4_4 (withdrawn)",
    [32] = "Q4_0_4_8 (withdrawn)",
    [33] = "Q4_0_8_8 (withdrawn)",
    [34] = "TQ1_0",
    [35] = "TQ2_0",
    [36] = "IQ4_NL_4_4 (withdrawn)",
    [37] = "IQ4_NL_4_8 (withdrawn)",
    [38] = "IQ4_NL_8_8 (withdrawn)",
    [39] = "MXFP4",
    [40] = "NVFP4",
    [41] = "Q1_0",
};

const struct quant_layout *quant_layout_of(infer_dtype type)
{
    if (type < 0 || (size_t)type >= BASE_COUNT(layouts) || !layouts[type].name)
        return NULL;
    return &layouts[type];
}

const char *quant_type_name(infer_dtype type)
{
    const struct quant_layout *layout = quant_layout_of(type);
    if (layout)
        return layout->name;
    return type >= 0 && (size_t)type < BASE_COUNT(foreign) ? foreign[type] : NULL;
}
