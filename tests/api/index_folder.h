/* A folder for each test of indexes, removed after it. */
#ifndef TESTS_API_INDEX_FOLDER_H
#define TESTS_API_INDEX_FOLDER_H

#include "support/test.h"

int index_folder_set_up(void **state);
int index_folder_tear_down(void **state);
const char *index_folder_inside(const char *name); /* its path, until the next call */

#endif
