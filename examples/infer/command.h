/* The commands of the infer program. Each gets the arguments after its name and
 * returns the exit status. To add one: a file, a line here, a line in main.c. */
#ifndef INFER_COMMAND_H
#define INFER_COMMAND_H

enum {
    STATUS_OK = 0,
    STATUS_FAILED = 1, /* the work could not be done */
    STATUS_USAGE = 2   /* the command line is wrong */
};

int command_run(int argc, char **argv);
int command_batch(int argc, char **argv);
int command_chat(int argc, char **argv);
int command_template(int argc, char **argv);
int command_tokenize(int argc, char **argv);
int command_detokenize(int argc, char **argv);
int command_score(int argc, char **argv);
int command_models(int argc, char **argv);
int command_inspect(int argc, char **argv);
int command_convert(int argc, char **argv);
int command_bench(int argc, char **argv);
int command_index(int argc, char **argv);
int command_self_test(int argc, char **argv);
int command_devices(int argc, char **argv);

#endif
