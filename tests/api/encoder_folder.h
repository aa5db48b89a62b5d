/* Folders of Sentence Transformers made of the tiny encoders of tests/model/encoder, with a
 * vocabulary of words "w0", "w1" ... */
#ifndef TESTS_API_ENCODER_FOLDER_H
#define TESTS_API_ENCODER_FOLDER_H

#include "../model/arch_fixture.h"

#define ENCODER_WORDS 284 /* behind [PAD], [UNK], [CLS] and [SEP] */
#define ENCODER_FIRST 4

/* What differs between the folders. */
struct encoder_kind {
    const char *fixture;
    const char *pooling; /* 1_Pooling/config.json; NULL: no Sentence Transformers folder */
    int special;         /* [CLS] and [SEP] stand around texts */
};

struct encoder_folder {
    char path[512];
    struct arch_fixture fixture;
};

void encoder_folder_make(struct encoder_folder *f, const struct encoder_kind *kind);
/* One file of it, made or written anew. */
void encoder_folder_file(const char *folder, const char *name, const char *text);
/* modules.json of a model, its pooling and normalising. */
void encoder_folder_modules(const char *folder);
void encoder_folder_remove(struct encoder_folder *f);

/* Words of tokens first .. end - 1 of a text of the fixture. */
void encoder_folder_words(const json_t *text, size_t first, size_t end, char *out, size_t size);
/* Largest difference to an array of numbers, relative to the largest of them. */
double encoder_folder_apart(const float *got, const json_t *want);

#endif
