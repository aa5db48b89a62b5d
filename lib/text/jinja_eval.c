/* Execution of statements, and one render from beginning to end. */
#include "text/jinja_internal.h"

#include "base/error.h"

#define DEFAULT_STEPS        50000000u
#define DEFAULT_MEMORY_BYTES ((size_t)256 << 20)
#define DEFAULT_OUTPUT_BYTES ((size_t)64 << 20)
#define DEFAULT_DEPTH        400

/* Runs a body in a scope of its own; what it prints becomes a value. */
struct jinja_value jinja_scoped_text(struct jinja_render *r, struct jinja_nodes body)
{
    struct jinja_scope *outer = r->scope;
    size_t begin = jinja_capture_begin(r);
    r->scope = jinja_scope_push(r, outer);
    jinja_run(r, body);
    r->scope = outer;
    return jinja_capture_end(r, begin);
}

static enum jinja_flow run_if(struct jinja_render *r, const struct jinja_node *node)
{
    for (size_t i = 0; i < node->branch.n && !jinja_failed(r); i++) {
        const struct jinja_branch *branch = &node->branch.branches[i];
        int taken = !branch->test || jinja_truth(jinja_evaluate(r, branch->test));
        if (taken && !jinja_failed(r))
            return jinja_run(r, branch->body);
    }
    return JINJA_GO_ON;
}

/* The captured text is kept aside, as filters may render bodies themselves. */
static struct jinja_value filtered(struct jinja_render *r, struct jinja_value text,
                                   const struct jinja_node *filters)
{
    struct jinja_value outer = r->captured;
    r->captured = text;
    struct jinja_value v = filters && !jinja_failed(r) ? jinja_evaluate(r, filters) : text;
    r->captured = outer;
    return v;
}

static void run_set(struct jinja_render *r, const struct jinja_node *node)
{
    struct jinja_value v;
    if (node->kind == JINJA_N_SET)
        v = jinja_evaluate(r, node->set.value);
    else
        v = filtered(r, jinja_scoped_text(r, node->set.body), node->set.value);
    r->at = node;
    jinja_assign_target(r, node->set.target, v);
}

static enum jinja_flow run_with(struct jinja_render *r, const struct jinja_node *node)
{
    struct jinja_scope *outer = r->scope;
    size_t n = node->with.values.n;
    struct jinja_value *values = jinja_new(r, n, sizeof *values);
    for (size_t i = 0; i < n && !jinja_failed(r); i++)
        values[i] = jinja_evaluate(r, node->with.values.at[i]);
    r->scope = jinja_scope_push(r, outer);
    for (size_t i = 0; i < n && !jinja_failed(r); i++)
        jinja_assign_target(r, node->with.targets.at[i], values[i]);
    enum jinja_flow flow = jinja_run(r, node->with.body);
    r->scope = outer;
    return flow;
}

static enum jinja_flow run_scope(struct jinja_render *r, const struct jinja_node *node)
{
    struct jinja_scope *outer = r->scope;
    r->scope = jinja_scope_push(r, outer);
    enum jinja_flow flow = jinja_run(r, node->items);
    r->scope = outer;
    return flow;
}

/* {% call(x) macro(...) %}: the body becomes the macro `caller` of that call. */
static void run_call_block(struct jinja_render *r, const struct jinja_node *node)
{
    struct jinja_args args = {0};
    const struct jinja_node *call = node->macro.call;
    struct jinja_value caller = jinja_macro_value(r, node);
    struct jinja_value callee = jinja_evaluate(r, call->call.callee);
    if (!jinja_evaluate_args(r, &call->call.args, &args))
        return;
    struct jinja_named *named = jinja_new(r, args.n_named + 1, sizeof *named);
    if (!named)
        return;
    if (args.n_named)
        memcpy(named, args.named, args.n_named * sizeof *named);
    named[args.n_named++] = (struct jinja_named){jinja_view_of("caller"), caller};
    args.named = named;
    r->at = node;
    jinja_print(r, jinja_call_value(r, callee, &args));
}

static void run_output(struct jinja_render *r, const struct jinja_node *node)
{
    struct jinja_value v = jinja_evaluate(r, node->operand);
    r->at = node;
    if (!jinja_failed(r))
        jinja_print(r, v);
}

static enum jinja_flow run_one(struct jinja_render *r, const struct jinja_node *node)
{
    switch (node->kind) {
    case JINJA_N_DATA:
        jinja_write(r, node->data.data, node->data.size);
        break;
    case JINJA_N_OUTPUT:
        run_output(r, node);
        break;
    case JINJA_N_IF:
        return run_if(r, node);
    case JINJA_N_FOR:
        return jinja_run_for(r, node);
    case JINJA_N_SET:
    case JINJA_N_SET_BLOCK:
        run_set(r, node);
        break;
    case JINJA_N_MACRO:
        jinja_assign(r, node->macro.name, jinja_macro_value(r, node));
        break;
    case JINJA_N_CALL_BLOCK:
        run_call_block(r, node);
        break;
    case JINJA_N_FILTER_BLOCK:
        jinja_print(r, filtered(r, jinja_scoped_text(r, node->filter_block.body),
                                node->filter_block.filter));
        break;
    case JINJA_N_WITH:
        return run_with(r, node);
    case JINJA_N_SCOPE:
        return run_scope(r, node);
    case JINJA_N_BREAK:
        return JINJA_BREAK;
    case JINJA_N_CONTINUE:
        return JINJA_CONTINUE;
    default:
        jinja_fail(r, INFER_ERR_INTERNAL, "node %d is not a statement", node->kind);
    }
    return JINJA_GO_ON;
}

enum jinja_flow jinja_run(struct jinja_render *r, struct jinja_nodes body)
{
    enum jinja_flow flow = JINJA_GO_ON;
    for (size_t i = 0; i < body.n && flow == JINJA_GO_ON; i++) {
        if (jinja_failed(r))
            break;
        r->at = body.at[i];
        if (!jinja_enter(r))
            break;
        flow = run_one(r, body.at[i]);
        jinja_leave(r);
    }
    return flow;
}

static void apply_limits(struct jinja_render *r, const struct jinja_options *options)
{
    if (options) {
        r->now = options->now;
        r->limits = options->limits;
    }
    if (!r->limits.steps)
        r->limits.steps = DEFAULT_STEPS;
    if (!r->limits.memory_bytes)
        r->limits.memory_bytes = DEFAULT_MEMORY_BYTES;
    if (!r->limits.output_bytes)
        r->limits.output_bytes = DEFAULT_OUTPUT_BYTES;
    if (!r->limits.depth)
        r->limits.depth = DEFAULT_DEPTH;
}

/* Every name of the template gets its first value: the host's, or a built-in's. */
static void fill_globals(struct jinja_render *r, struct jinja_value context)
{
    const struct jinja_template *t = r->template;
    r->globals = jinja_new(r, t->n_names, sizeof *r->globals);
    for (size_t i = 0; i < t->n_names && !jinja_failed(r); i++) {
        const struct jinja_value *v =
            jinja_dict_get(context.dict, t->names[i].data, t->names[i].size);
        const struct jinja_callable *f = v ? NULL : jinja_find_function(t->names[i]);
        if (f && !r->now && base_view_equal(t->names[i], "strftime_now"))
            f = NULL;
        if (v)
            r->globals[i] = *v;
        else if (f)
            r->globals[i] = (struct jinja_value){.kind = JINJA_FUNCTION, .function = f};
    }
}

infer_status jinja_template_render(const struct jinja_template *t, const struct base_alloc *a,
                                   struct jinja_value context, const struct jinja_options *options,
                                   struct base_str *out)
{
    struct jinja_render r = {.template = t, .out = out, .out_base = out->size};
    if (context.kind != JINJA_DICT)
        return base_error(INFER_ERR_INVALID, "a template's context must be a dict, not %s",
                          jinja_type_name(context.kind));
    apply_limits(&r, options);
    jinja_heap_init(&r.heap, a, r.limits.memory_bytes);
    fill_globals(&r, context);
    jinja_run(&r, t->body);
    infer_status status = r.heap.status;
    if (status == INFER_OK)
        status = base_str_append(out, "", 0); /* terminated also if nothing was written */
    if (status != INFER_OK && out->data) {
        out->size = r.out_base;
        out->data[out->size] = 0;
    }
    jinja_heap_release(&r.heap);
    return status;
}
