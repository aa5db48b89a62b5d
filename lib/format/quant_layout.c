/* Element types of tensors: names, block sizes, and the names of those we cannot read. */
#include "format/quant_layout.h"

static const struct quant_layout layouts[] = {
    [INFER_DTYPE_F32] = {"F32", 1, 4},
    [INFER_DTYPE_F16] = {"F16", 1, 2},
    [INFER_DTYPE_Q4_0] = {"Q4_0", 32, 18},
    [INFER_DTYPE_Q4_1] = {"Q4_1", 32, 20},
    [INFER_DTYPE_Q5_0] = {"Q5_0", 32, 22},
    [INFER_DTYPE_Q5_1] = {"Q5_1", 32, 24},
    [INFER_DTYPE_Q8_0] = {"Q8_0", 32, 34},
    [INFER_DTYPE_Q2_K] = {"Q2_K", 256, 84},
    [INFER_DTYPE_Q3_K] = {"Q3_K", 256, 110},
    [INFER_DTYPE_Q4_K] = {"Q4_K", 256, 144},
    [INFER_DTYPE_Q5_K] = {"Q5_K", 256, 176},
    [INFER_DTYPE_Q6_K] = {"Q6_K", 256, 210},
    [INFER_DTYPE_IQ2_XXS] = {"IQ2_XXS", 256, 66},
    [INFER_DTYPE_IQ2_XS] = {"IQ2_XS", 256, 74},
    [INFER_DTYPE_IQ3_XXS] = {"IQ3_XXS", 256, 98},
    [INFER_DTYPE_IQ1_S] = {"IQ1_S", 256, 50},
    [INFER_DTYPE_IQ4_NL] = {"IQ4_NL", 32, 18},
    [INFER_DTYPE_IQ3_S] = {"IQ3_S", 256, 110},
    [INFER_DTYPE_IQ2_S] = {"IQ2_S", 256, 82},
    [INFER_DTYPE_IQ4_XS] = {"IQ4_XS", 256, 136},
    [INFER_DTYPE_I8] = {"I8", 1, 1},
    [INFER_DTYPE_I16] = {"I16", 1, 2},
    [INFER_DTYPE_I32] = {"I32", 1, 4},
    [INFER_DTYPE_I64] = {"I64", 1, 8},
    [INFER_DTYPE_F64] = {"F64", 1, 8},
    [INFER_DTYPE_IQ1_M] = {"IQ1_M", 256, 56},
    [INFER_DTYPE_BF16] = {"BF16", 1, 2},
    [INFER_DTYPE_TQ1_0] = {"TQ1_0", 256, 54},
    [INFER_DTYPE_TQ2_0] = {"TQ2_0", 256, 66},
    [INFER_DTYPE_MXFP4] = {"MXFP4", 32, 17},
    [INFER_DTYPE_NVFP4] = {"NVFP4", 64, 36},
    [INFER_DTYPE_F8_E4M3] = {"F8_E4M3", 1, 1},
    [INFER_DTYPE_F8_E5M2] = {"F8_E5M2", 1, 1},
    [INFER_DTYPE_F8_128] = {"F8_128", 128, 132},
};

/* Numbers that GGUF gave out and this library has no layout for. */
static const char *const foreign[] = {
    [4] = "Q4_2 (withdrawn)",
    [5] = "Q4_3 (withdrawn)",
    [9] = "Q8_1",
    [15] = "Q8_K",
    [31] = "Q4_0_4_4 (withdrawn)",
    [32] = "Q4_0_4_8 (withdrawn)",
    [33] = "Q4_0_8_8 (withdrawn)",
    [36] = "IQ4_NL_4_4 (withdrawn)",
    [37] = "IQ4_NL_4_8 (withdrawn)",
    [38] = "IQ4_NL_8_8 (withdrawn)",
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
