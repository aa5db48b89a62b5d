/* Which architectures exist. */
#include "model/arch.h"

#include "base/str.h"

#define MODEL_ARCH(symbol, name) extern const struct model_arch model_arch_##symbol;
#include "model/arch/list.h"
#undef MODEL_ARCH

#define MODEL_ARCH(symbol, name) &model_arch_##symbol,
static const struct model_arch *const archs[] = {
#include "model/arch/list.h"
};
#undef MODEL_ARCH

#define MODEL_ARCH(symbol, name) " " name
static const char names[] =
#include "model/arch/list.h"
    ;
#undef MODEL_ARCH

const struct model_arch *model_arch_find(struct base_view name)
{
    for (size_t i = 0; i < BASE_COUNT(archs); i++)
        if (base_view_equal(name, archs[i]->name))
            return archs[i];
    return NULL;
}

const struct model_arch *model_arch_at(size_t i)
{
    return i < BASE_COUNT(archs) ? archs[i] : NULL;
}

const char *model_arch_names(void)
{
    return names + 1;
}
