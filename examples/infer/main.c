/* The infer command: what libinfer does, from a shell. The first word chooses
 * the command; each command parses its own options. */
#include "command.h"
#include "terminal.h"

#include <infer/infer.h>

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} commands[] = {
    {"run", command_run, "continue a prompt"},
    {"batch", command_batch, "run many requests from lines of JSON"},
    {"chat", command_chat, "hold a conversation"},
    {"template", command_template, "render a chat template"},
    {"tokenize", command_tokenize, "turn text into token ids"},
    {"detokenize", command_detokenize, "turn token ids into text"},
    {"score", command_score, "measure the perplexity of a text"},
    {"models", command_models, "list the models at hand"},
    {"inspect", command_inspect, "show what a model file holds and needs"},
    {"convert", command_convert, "write a model as a GGUF file, in other types"},
    {"bench", command_bench, "measure speed and memory"},
    {"index", command_index, "keep vectors and find them by likeness"},
    {"self-test", command_self_test, "compare the ways of computing an answer"},
    {"devices", command_devices, "list the processors at hand"},
};

#define N_COMMANDS (sizeof commands / sizeof commands[0])

static void print_help(FILE *out)
{
    fprintf(out, "usage: infer COMMAND [OPTIONS]\n\n");
    for (size_t i = 0; i < N_COMMANDS; i++)
        fprintf(out, "  %-11s %s\n", commands[i].name, commands[i].summary);
    fprintf(out, "\ninfer COMMAND --help lists the options of a command.\n");
}

/* A full disk or a closed pipe shows only here: output is buffered. */
static int finish(int status)
{
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == STATUS_OK) {
        terminal_error("cannot write the output");
        return STATUS_FAILED;
    }
    return status;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        print_help(stdout);
        return finish(STATUS_OK);
    }
    if (strcmp(name, "--version") == 0) {
        uint32_t version = infer_version();
        printf("infer %u.%u.%u\n", version / 1000000, version / 1000 % 1000, version % 1000);
        return finish(STATUS_OK);
    }
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (strcmp(name, commands[i].name) == 0)
            return finish(commands[i].run(argc - 2, argv + 2));
    if (*name)
        terminal_error("there is no command \"%s\"", name);
    print_help(stderr);
    return STATUS_USAGE;
}
