/* The commands behind `infer index` that have files of their own. */
#ifndef INFER_INDEX_COMMANDS_H
#define INFER_INDEX_COMMANDS_H

int command_index_add(int argc, char **argv);
int command_index_query(int argc, char **argv);
int command_index_list(int argc, char **argv);
int command_index_delete(int argc, char **argv);
int command_index_export(int argc, char **argv);

#endif
