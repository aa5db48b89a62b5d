/* Hostile and odd folders: numbers out of range, unknown kinds, tensors that are missing or have
 * another shape. Each sentence begins with the path and names the member or the tensor. */
#include "made_up.h"

static void refuse_config(const char *key, const char *value, infer_status status,
                          const char *sentence)
{
    struct hf_folder f;
    made_up_write(&f, made_up_config(key, value), made_up_tensors, N_TENSORS);
    made_up_refuse(&f, status, sentence);
    hf_folder_remove(&f);
}

static void test_sizes(void **state)
{
    static const struct {
        const char *key, *value, *sentence;
    } cases[] = {
        {"num_hidden_layers", NULL, "config.json lacks \"num_hidden_layers\""},
        {"num_hidden_layers", "null", "config.json lacks \"num_hidden_layers\""},
        {"num_hidden_layers", "0", "\"num_hidden_layers\" is no whole number from 1 to 1024"},
        {"num_hidden_layers", "-1", "\"num_hidden_layers\" is no whole number"},
        {"num_hidden_layers", "1025", "\"num_hidden_layers\" is no whole number"},
        {"num_hidden_layers", "4294967297", "\"num_hidden_layers\" is no whole number"},
        {"num_hidden_layers", "\"1\"", "\"num_hidden_layers\" is no whole number"},
        {"num_hidden_layers", "1.5", "\"num_hidden_layers\" is no whole number"},
        {"num_hidden_layers", "{}", "\"num_hidden_layers\" is no whole number"},
        {"hidden_size", NULL, "config.json lacks \"hidden_size\""},
        {"hidden_size", "-8", "\"hidden_size\" is no whole number from 1 to 1048576"},
        {"hidden_size", "4611686018427387904", "\"hidden_size\" is no whole number"},
        {"hidden_size", "true", "\"hidden_size\" is no whole number"},
        {"num_attention_heads", "-2", "\"num_attention_heads\" is no whole number from 0 to 4096"},
        {"num_attention_heads", "4097", "\"num_attention_heads\" is no whole number"},
        {"num_attention_heads", "3", "q_proj.weight\": 8 rows are not 3 heads of pairs"},
        {"num_key_value_heads", "3", "\"num_key_value_heads\" is no whole number from 0 to 2"},
        {"num_key_value_heads", "-1", "\"num_key_value_heads\" is no whole number"},
        {"head_dim", "-4", "\"head_dim\" is no whole number from 0 to 65536"},
        {"head_dim", "1e9", "\"head_dim\" is no whole number"},
        {"intermediate_size", "-1",
         "\"intermediate_size\" is no whole number from 0 to 4294967295"},
        {"intermediate_size", "4294967296", "\"intermediate_size\" is no whole number"},
        {"intermediate_size", "[8, -1]", "\"intermediate_size\" is no list of whole numbers"},
        {"intermediate_size", "[]", "llama.feed_forward_length has 0 values for 1 layers"},
        {"rms_norm_eps", "[1e-6]", "\"rms_norm_eps\" is no list of whole numbers"},
        {"vocab_size", "\"8\"", "\"vocab_size\" is no whole number"},
        {"max_position_embeddings", NULL, "llama.context_length is missing"},
        {"max_position_embeddings", "1e300", "\"max_position_embeddings\" is no whole number"},
        {"layer_types", "7", "\"layer_types\" is no list of at most 1024 types"},
    };
    (void)state;
    for (size_t i = 0; i < BASE_COUNT(cases); i++)
        refuse_config(cases[i].key, cases[i].value, INFER_ERR_FORMAT, cases[i].sentence);
}

/* More values than a model has layers. */
static void test_long_lists(void **state)
{
    char list[8192] = "[0";
    (void)state;
    for (int i = 0; i < 1024; i++)
        strcat(list, ",0");
    strcat(list, "]");
    refuse_config("intermediate_size", list, INFER_ERR_FORMAT,
                  "\"intermediate_size\" is no list of whole numbers, one a layer");
    refuse_config("layer_types", list, INFER_ERR_FORMAT, "\"layer_types\" is no list");
}

static void test_floats(void **state)
{
    static const struct {
        const char *key, *value, *sentence;
    } cases[] = {
        {"rms_norm_eps", "NaN", "config.json: line 1, column"},
        {"rms_norm_eps", "1e400", "a number beyond the range of a double"},
        {"rms_norm_eps", "1e39", "\"rms_norm_eps\" is no number of single precision"},
        {"rms_norm_eps", "-Infinity", "\"rms_norm_eps\" is no number of single precision"},
        {"rms_norm_eps", "\"1e-6\"", "\"rms_norm_eps\" is no number of single precision"},
        {"rms_norm_eps", "0", "llama.attention.layer_norm_rms_epsilon is 0"},
        {"rms_norm_eps", NULL, "llama.attention.layer_norm_rms_epsilon is missing"},
        {"rope_theta", "1e300", "rope.freq_base would be 1e+300"},
        {"rope_theta", "-10000", "rope_theta is -10000"},
        {"query_pre_attn_scalar", "1e-300", "attention.scale would be 1e+150"},
    };
    (void)state;
    for (size_t i = 0; i < BASE_COUNT(cases); i++)
        refuse_config(cases[i].key, cases[i].value, INFER_ERR_FORMAT, cases[i].sentence);
}

static void test_scaling(void **state)
{
    static const struct {
        const char *value, *sentence;
    } cases[] = {
        {"\"rope_type\": \"llama3\", \"factor\": 0", "llama3 has a number out of range"},
        {"\"rope_type\": \"llama3\", \"factor\": 1e300", "llama3 has a number out of range"},
        {"\"rope_type\": \"linear\", \"factor\": 1e39", "rope.scaling.factor would be 1e+39"},
        {"\"rope_type\": \"yarn\"", "YaRN with factor 0 over 64 positions"},
        {"\"rope_type\": \"yarn\", \"factor\": 4, \"beta_fast\": 1e39", "yarn_beta_fast would be"},
        {"\"type\": \"longrope\", \"long_factor\": [1]",
         "\"long_factor\" of the rotary scaling is no list of 2 numbers"},
        {"\"type\": \"longrope\", \"long_factor\": [1, 0]",
         "number 1 of \"long_factor\" of the rotary scaling is 0"},
        {"\"type\": \"longrope\", \"long_factor\": [1, 2], \"short_factor\": [1e39, 1]",
         "number 0 of \"short_factor\" of the rotary scaling is 1e+39"},
        {"\"type\": \"su\", \"original_max_position_embeddings\": 1",
         "original_max_position_embeddings is 1"},
    };
    char value[256];
    (void)state;
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        snprintf(value, sizeof value, "{%s}", cases[i].value);
        refuse_config("rope_scaling", value, INFER_ERR_FORMAT, cases[i].sentence);
        refuse_config("rope_parameters", value, INFER_ERR_FORMAT, cases[i].sentence);
    }
    refuse_config("rope_scaling", "{\"rope_type\": \"nosuch\"}", INFER_ERR_UNSUPPORTED,
                  "config.json: rotary scaling of type \"nosuch\" is not supported");
}

static void test_kinds(void **state)
{
    (void)state;
    refuse_config("architectures", "[\"NoSuchForCausalLM\"]", INFER_ERR_UNSUPPORTED,
                  "architecture \"NoSuchForCausalLM\" is not supported (supported: ");
    refuse_config("architectures", NULL, INFER_ERR_UNSUPPORTED, "architecture \"made_up\" is not");
    refuse_config("architectures", "[7, null]", INFER_ERR_UNSUPPORTED, "\"made_up\" is not");
    refuse_config("quantization_config", "{\"quant_method\": \"nosuch\"}", INFER_ERR_UNSUPPORTED,
                  "config.json: checkpoints quantised by \"nosuch\" are not supported");
    refuse_config("quantization_config", "7", INFER_ERR_UNSUPPORTED, "quantised by \"\"");
    refuse_config("quantization_config", "{\"quant_method\": \"awq\", \"bits\": 4294967300}",
                  INFER_ERR_UNSUPPORTED, "config.json: awq with 2147483647 bits");
}

static void refuse_tensors(const char *config, const struct hf_tensor *tensors, size_t n,
                           infer_status status, const char *sentence)
{
    struct hf_folder f;
    made_up_write(&f, config, tensors, n);
    made_up_refuse(&f, status, sentence);
    hf_folder_remove(&f);
}

static void refuse_tensor(int which, const struct hf_tensor *other, infer_status status,
                          const char *sentence)
{
    struct hf_tensor tensors[N_TENSORS];
    memcpy(tensors, made_up_tensors, sizeof tensors);
    tensors[which] = *other;
    refuse_tensors(made_up_config("", NULL), tensors, N_TENSORS, status, sentence);
}

static void test_tensors(void **state)
{
    struct hf_tensor t = {.name = "model.other.weight", .dtype = "F32", .data = made_up_numbers};
    (void)state;
    t.dims[0] = 8, t.dims[1] = -1, t.bytes = 32;
    refuse_tensor(Q_PROJ, &t, INFER_ERR_FORMAT, "tensor blk.0.attn_q.weight is missing");
    t.name = LAYER "self_attn.rope.weight";
    refuse_tensor(Q_PROJ, &t, INFER_ERR_UNSUPPORTED,
                  "\"" LAYER "self_attn.rope.weight\" has no place in the architecture \"llama\"");
    t.name = LAYER "self_attn.q_norm.weight"; /* known, but not of this architecture */
    refuse_tensor(1, &t, INFER_ERR_UNSUPPORTED, "blk.0.attn_q_norm.weight has no place");
    t.name = "norm.weight";
    refuse_tensor(Q_PROJ, &t, INFER_ERR_FORMAT, "tensor \"output_norm.weight\" appears twice");
    t = made_up_tensors[Q_PROJ], t.dims[0] = 4, t.dims[1] = 16;
    refuse_tensor(Q_PROJ, &t, INFER_ERR_FORMAT, "blk.0.attn_q.weight");
    t = made_up_tensors[Q_PROJ], t.dims[0] = 2, t.dims[1] = 32;
    refuse_tensor(Q_PROJ, &t, INFER_ERR_FORMAT, "\"" LAYER "self_attn.q_proj.weight\": 2 rows");
    t = made_up_tensors[UP_PROJ], t.dims[0] = 8, t.dims[1] = 2, t.dims[2] = 4, t.dims[3] = -1;
    refuse_tensor(UP_PROJ, &t, INFER_ERR_FORMAT, "blk.0.ffn_up.weight");
    t.dims[0] = 2, t.dims[1] = t.dims[2] = t.dims[3] = 2, t.dims[4] = 4;
    refuse_tensor(UP_PROJ, &t, INFER_ERR_UNSUPPORTED,
                  "\"" LAYER "mlp.up_proj.weight\" has 5 dimensions");
    t = made_up_tensors[UP_PROJ], t.dtype = "U32";
    refuse_tensor(UP_PROJ, &t, INFER_ERR_UNSUPPORTED,
                  "\"" LAYER "mlp.up_proj.weight\" has the type U32");
    t = made_up_tensors[UP_PROJ], t.dims[0] = 0, t.bytes = 0;
    refuse_tensor(UP_PROJ, &t, INFER_ERR_UNSUPPORTED, "\"" LAYER "mlp.up_proj.weight\" is empty");
}

#define EXPERT(e, w) LAYER "block_sparse_moe.experts." #e "." #w ".weight"

static void test_experts(void **state)
{
    struct hf_tensor t[2] = {MATRIX(EXPERT(0, w1), 8), MATRIX(EXPERT(1, w1), 8)};
    (void)state;
    refuse_tensors(made_up_config("", NULL), t, 2, INFER_ERR_FORMAT,
                   "\"" EXPERT(0, w1) "\", but config.json says 0 experts");
    refuse_tensors(made_up_config("num_local_experts", "3"), t, 2, INFER_ERR_FORMAT,
                   "\"" EXPERT(2, w1) "\" is missing");
    t[1].dims[0] = 4, t[1].dims[1] = 16;
    refuse_tensors(made_up_config("num_local_experts", "2"), t, 2, INFER_ERR_FORMAT,
                   "\"" EXPERT(0, w1) "\" and \"" EXPERT(1, w1) "\" differ in type or shape");
    for (int e = 0; e < 2; e++)
        t[e].dims[0] = t[e].dims[1] = 2, t[e].dims[2] = 16, t[e].dims[3] = -1;
    refuse_tensors(made_up_config("num_local_experts", "2"), t, 2, INFER_ERR_FORMAT,
                   "\"" EXPERT(0, w1) "\" of an expert has 3 dimensions");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),   cmocka_unit_test(test_long_lists),
        cmocka_unit_test(test_floats),  cmocka_unit_test(test_scaling),
        cmocka_unit_test(test_kinds),   cmocka_unit_test(test_tensors),
        cmocka_unit_test(test_experts),
    };
    return cmocka_run_group_tests_name("hf_refusals", tests, NULL, NULL);
}
