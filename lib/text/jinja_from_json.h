/* JSON as values of the template language. */
#ifndef TEXT_JINJA_FROM_JSON_H
#define TEXT_JINJA_FROM_JSON_H

#include "base/json.h"
#include "text/jinja.h"

/* What a text becomes on its way; it must live as long as the heap. Failures stick in the
 * heap's status. */
typedef struct base_view (*jinja_json_text_fn)(struct jinja_heap *h, struct base_view text,
                                               void *user_data);

/* Members keep their order; integers stay integers and 1.0 a float. Texts, and so the keys of
 * objects, are borrowed from `json`, but for those that `text` (NULL: none) replaces. */
struct jinja_value jinja_from_json(struct jinja_heap *h, const struct base_json *json,
                                   jinja_json_text_fn text, void *user_data);

#endif
