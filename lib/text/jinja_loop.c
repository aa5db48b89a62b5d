/* For loops and the variable `loop`. */
#include "text/jinja_internal.h"

/* The items that pass the loop's own `if`, which sees the target alone. */
static void select_items(struct jinja_render *r, struct jinja_loop *loop)
{
    const struct jinja_node *node = loop->node;
    struct jinja_list kept = {.items = jinja_new(r, loop->items.size, sizeof *kept.items)};
    struct jinja_scope *scope = jinja_scope_push(r, loop->outer);
    r->scope = scope;
    for (size_t i = 0; i < loop->items.size && !jinja_failed(r); i++) {
        scope->variables.size = 0;
        jinja_assign_target(r, node->loop.target, loop->items.items[i]);
        if (jinja_truth(jinja_evaluate(r, node->loop.test)))
            kept.items[kept.size++] = loop->items.items[i];
    }
    r->scope = loop->outer;
    loop->items = kept;
}

/* Whether any round came to the end of the body: a loop that was left or cut
 * short in every round still runs its `else`, as in Jinja2. */
static int run_items(struct jinja_render *r, struct jinja_loop *loop)
{
    int completed = 0;
    const struct jinja_node *node = loop->node;
    struct jinja_scope *scope = jinja_scope_push(r, loop->outer);
    r->scope = scope;
    for (; loop->index < loop->items.size && !jinja_failed(r); loop->index++) {
        scope->variables.size = 0; /* each round begins with nothing set */
        jinja_charge(r, 0);
        jinja_assign(r, JINJA_SYMBOL_LOOP, (struct jinja_value){.kind = JINJA_LOOP, .loop = loop});
        jinja_assign_target(r, node->loop.target, loop->items.items[loop->index]);
        if (jinja_failed(r))
            break;
        enum jinja_flow flow = jinja_run(r, node->loop.body);
        if (flow == JINJA_BREAK)
            break;
        completed |= flow == JINJA_GO_ON;
    }
    r->scope = loop->outer;
    return completed;
}

static enum jinja_flow run_loop(struct jinja_render *r, struct jinja_loop *loop,
                                struct jinja_value items)
{
    const struct jinja_node *node = loop->node;
    enum jinja_flow flow = JINJA_GO_ON;
    struct jinja_scope *scope = r->scope;
    r->at = node;
    loop->items = jinja_walk(r, items);
    if (node->loop.test && !jinja_failed(r))
        select_items(r, loop);
    int completed = !jinja_failed(r) && run_items(r, loop);
    if (!completed && node->loop.otherwise.n && !jinja_failed(r)) {
        r->scope = jinja_scope_push(r, loop->outer);
        flow = jinja_run(r, node->loop.otherwise);
    }
    r->scope = scope;
    return flow;
}

enum jinja_flow jinja_run_for(struct jinja_render *r, const struct jinja_node *node)
{
    struct jinja_value items = jinja_evaluate(r, node->loop.iterable);
    struct jinja_loop *loop = jinja_new(r, 1, sizeof *loop);
    if (!loop)
        return JINJA_GO_ON;
    *loop = (struct jinja_loop){.node = node, .outer = r->scope};
    return run_loop(r, loop, items);
}

/* {{ loop(items) }} in a recursive loop: its body over other items, as text. */
struct jinja_value jinja_loop_again(struct jinja_render *r, struct jinja_loop *loop,
                                    struct jinja_value items)
{
    if (!loop->node->loop.recursive)
        return jinja_fail(r, INFER_ERR_INVALID,
                          "the loop must have the 'recursive' marker to be called recursively");
    struct jinja_loop *inner = jinja_new(r, 1, sizeof *inner);
    if (!inner)
        return jinja_no_value();
    *inner =
        (struct jinja_loop){.node = loop->node, .outer = loop->outer, .depth = loop->depth + 1};
    size_t begin = jinja_capture_begin(r);
    run_loop(r, inner, items);
    return jinja_capture_end(r, begin);
}

struct jinja_value jinja_loop_member(struct jinja_render *r, struct jinja_value value,
                                     struct base_view name)
{
    const struct jinja_loop *loop = value.loop;
    int64_t index = (int64_t)loop->index, size = (int64_t)loop->items.size;
    const struct {
        const char *name;
        struct jinja_value value;
    } members[] = {
        {"index", jinja_int(index + 1)},
        {"index0", jinja_int(index)},
        {"revindex", jinja_int(size - index)},
        {"revindex0", jinja_int(size - index - 1)},
        {"first", jinja_bool(index == 0)},
        {"last", jinja_bool(index + 1 >= size)},
        {"length", jinja_int(size)},
        {"depth", jinja_int(loop->depth + 1)},
        {"depth0", jinja_int(loop->depth)},
        {"previtem",
         index > 0 ? loop->items.items[index - 1] : jinja_hint("there is no previous item")},
        {"nextitem",
         index + 1 < size ? loop->items.items[index + 1] : jinja_hint("there is no next item")},
    };
    BASE_UNUSED(r);
    for (size_t i = 0; i < BASE_COUNT(members); i++)
        if (base_view_equal(name, members[i].name))
            return members[i].value;
    return jinja_no_value();
}
