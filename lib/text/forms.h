/* Unicode normalisation forms (UAX 15) of whole texts, in time linear in the text. */
#ifndef TEXT_FORMS_H
#define TEXT_FORMS_H

#include "base/array.h"
#include "base/str.h"

enum text_form { TEXT_NFC, TEXT_NFD, TEXT_NFKC, TEXT_NFKD };

typedef BASE_ARRAY(int32_t) text_code_points;

/* Appends `text` in the form to `out`; what is no UTF-8 is copied as it is. `work` is scratch
 * from out's allocator that may be kept between calls. Sequences of more than a few hundred
 * marks on one letter are cut first: ordering them takes quadratic time. */
infer_status text_form_append(enum text_form form, const char *text, size_t size,
                              text_code_points *work, struct base_str *out);

/* Bytes at the front that certainly stay as they are. */
size_t text_form_stable(enum text_form form, const char *text, size_t size);

#endif
