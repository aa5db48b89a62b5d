/* A Hugging Face model folder: which files it has, their JSON, its tensors over all shards.
 *
 * Opening reads and checks everything that it will hand out; nothing of the folder is run, and
 * no name in a file leads outside of it. What the files mean is the business of lib/model. */
#ifndef FORMAT_HF_DIR_H
#define FORMAT_HF_DIR_H

#include "format/gguf_draft.h"
#include "format/safetensors.h"

enum hf_json {
    HF_CONFIG,                /* config.json; always there */
    HF_GENERATION,            /* generation_config.json */
    HF_TOKENIZER,             /* tokenizer.json */
    HF_TOKENIZER_CONFIG,      /* tokenizer_config.json */
    HF_SPECIAL_TOKENS,        /* special_tokens_map.json */
    HF_ADDED_TOKENS,          /* added_tokens.json */
    HF_VOCAB_JSON,            /* vocab.json */
    HF_TEMPLATE_JSON,         /* chat_template.json */
    HF_QUANT,                 /* hf_quant_config.json, of NVIDIA's Model Optimizer */
    HF_MODULES,               /* modules.json, as the next of Sentence Transformers; a list */
    HF_POOLING,               /* 1_Pooling/config.json */
    HF_SENTENCE_TRANSFORMERS, /* config_sentence_transformers.json */
    HF_SENTENCE_BERT,         /* sentence_bert_config.json */
    HF_JSONS
};

enum hf_file {
    HF_MERGES,        /* merges.txt */
    HF_VOCAB_TXT,     /* vocab.txt */
    HF_SENTENCEPIECE, /* tokenizer.model, spiece.model, sentencepiece.bpe.model ... */
    HF_TIKTOKEN,      /* NAME.tiktoken */
    HF_TEMPLATE,      /* chat_template.jinja */
    HF_FILES
};

enum {
    HF_DIR_NO_TENSORS = 1,   /* vocabulary-only use */
    HF_DIR_NO_TOKENIZER = 2, /* what it is, without the files of the tokenizer */
    HF_DIR_VERIFY = 4        /* every opened file must be what its blob's name says (hf_cache.h) */
};

struct hf_dir;

/* Errors name the file: NOT_FOUND, FORMAT, UNSUPPORTED (checkpoints that hold code), IO,
 * LIMIT, NO_MEMORY. */
infer_status hf_dir_open(struct hf_dir **out, const struct base_alloc *a, const char *path,
                         uint32_t flags);
/* The same over what is in memory, which must outlive the result and its tensors (tests, fuzzing):
 * the roots of the JSON files, NULL for those that are not there, and a safetensors file. */
infer_status hf_dir_open_memory(struct hf_dir **out, const struct base_alloc *a,
                                const struct base_json *const json[HF_JSONS],
                                struct base_view tensors);
void hf_dir_close(struct hf_dir **dir); /* NULL-safe, sets NULL */

/* Whether a folder is one of these: it has a config.json. */
int hf_dir_is(const char *path);

const char *hf_dir_path(const struct hf_dir *dir);
/* The root of a file's tree, or NULL where the folder has no such file. Valid until the close. */
const struct base_json *hf_dir_json(const struct hf_dir *dir, enum hf_json which);
/* A mapped file, or NULL. */
const struct base_file *hf_dir_file(const struct hf_dir *dir, enum hf_file which);
/* The chat template called `name` ("default", "tool_use", "rag"), wherever the folder keeps it.
 * 0 if there is none. */
int hf_dir_template(const struct hf_dir *dir, const char *name, struct base_view *out);

/* Tensors of all shards, in the order of the shards. */
size_t hf_dir_n_tensors(const struct hf_dir *dir);
const struct safetensors_tensor *hf_dir_tensor_at(const struct hf_dir *dir, size_t i);
/* By name, or by a name that the file says to share a tensor's memory; NULL if absent. */
const struct safetensors_tensor *hf_dir_tensor(const struct hf_dir *dir, struct base_view name);

/* Hands the mappings of all shards to the draft, so that tensors outlive the folder. */
infer_status hf_dir_give(struct hf_dir *dir, struct gguf_draft *draft);

#endif
