/* See tile_trap.h. Encodings: Intel's manual, volume 2; all are VEX.128.0F38.W0. */
#include "tile_trap.h"
#include "tile_soft.h"

#include <signal.h>
#include <string.h>
#include <ucontext.h>

enum prefix { NONE = 0, F3 = 2, F2 = 3 };

/* An instruction whose memory operand, if any, is worked out. */
struct instruction {
    enum prefix prefix;
    int opcode;
    int is_memory, reg, rm, vvvv;
    uint64_t address, index; /* without and of the scaled index: the stride of rows */
    size_t size;
};

static struct sigaction before;

static uint64_t value_of(const ucontext_t *context, int reg)
{
    static const int order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                  REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                  REG_R12, REG_R13, REG_R14, REG_R15};

    return (uint64_t)context->uc_mcontext.gregs[order[reg]];
}

/* The operand behind the ModRM byte at p[4]; 0: of a kind that no kernel uses. */
static int read_memory(struct instruction *o, const uint8_t *p, const ucontext_t *context)
{
    const int mod = p[4] >> 6, x = ~p[1] >> 6 & 1, b = ~p[1] >> 5 & 1;
    int base = o->rm | b << 3;
    int32_t displacement = 0;

    if (o->rm == 4) {
        const int index = (p[5] >> 3 & 7) | x << 3;

        base = (p[5] & 7) | b << 3;
        o->index = index == 4 ? 0 : value_of(context, index) << (p[5] >> 6);
        o->size++;
    }
    if (mod == 0 && (base & 7) == 5) {
        return 0;
    }
    if (mod == 1) {
        displacement = (int8_t)p[o->size];
        o->size += 1;
    } else if (mod == 2) {
        memcpy(&displacement, p + o->size, 4);
        o->size += 4;
    }
    o->address = value_of(context, base) + (uint64_t)(int64_t)displacement;
    return 1;
}

static int read_instruction(struct instruction *o, const uint8_t *p, const ucontext_t *context)
{
    if (p[0] != 0xc4 || (p[1] & 0x1f) != 2 || (p[2] & 0x84) != 0) {
        return 0;
    }
    *o = (struct instruction){.prefix = (enum prefix)(p[2] & 3),
                              .opcode = p[3],
                              .is_memory = p[4] >> 6 != 3,
                              .reg = p[4] >> 3 & 7,
                              .rm = p[4] & 7,
                              .vvvv = ~p[2] >> 3 & 15,
                              .size = 5};
    return !o->is_memory || read_memory(o, p, context);
}

static void *pointer(uint64_t address)
{
    return (void *)(uintptr_t)address;
}

static int execute(const struct instruction *i)
{
    if (i->opcode == 0x49 && i->prefix == NONE && i->is_memory && i->reg == 0) {
        tile_soft_configure(pointer(i->address + i->index));
    } else if (i->opcode == 0x49 && i->prefix == NONE && !i->is_memory && i->reg == 0) {
        tile_soft_release();
    } else if (i->opcode == 0x49 && i->prefix == F2 && !i->is_memory) {
        tile_soft_zero(i->reg);
    } else if (i->opcode == 0x4b && i->prefix == F2 && i->is_memory && i->rm == 4) {
        tile_soft_load(i->reg, pointer(i->address), (size_t)i->index);
    } else if (i->opcode == 0x4b && i->prefix == F3 && i->is_memory && i->rm == 4) {
        tile_soft_store(i->reg, pointer(i->address), (size_t)i->index);
    } else if (i->opcode == 0x5e && i->prefix == F2 && !i->is_memory) {
        tile_soft_dot_s8(i->reg, i->rm, i->vvvv);
    } else if (i->opcode == 0x5c && i->prefix == F3 && !i->is_memory) {
        tile_soft_dot_bf16(i->reg, i->rm, i->vvvv);
    } else {
        return 0;
    }
    return 1;
}

static void on_refused(int signal_number, siginfo_t *info, void *user)
{
    ucontext_t *context = user;
    struct instruction i;

    (void)info;
    if (read_instruction(&i, pointer((uint64_t)context->uc_mcontext.gregs[REG_RIP]), context) &&
        execute(&i)) {
        context->uc_mcontext.gregs[REG_RIP] += (greg_t)i.size;
        return;
    }
    sigaction(signal_number, &before, NULL); /* refuses it again, for whom it concerns */
}

void tile_trap_begin(void)
{
    struct sigaction action;

    memset(&action, 0, sizeof(action));
    action.sa_sigaction = on_refused;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGILL, &action, &before);
}

void tile_trap_end(void)
{
    sigaction(SIGILL, &before, NULL);
}
