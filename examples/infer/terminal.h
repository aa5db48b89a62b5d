/* What goes to the person in front: errors, colours, the loading bar. All of it
 * on stderr, so that stdout holds results alone. */
#ifndef INFER_TERMINAL_H
#define INFER_TERMINAL_H

#include <stdint.h>
#include <stdio.h>

/* Whether `file` is a terminal that takes colours (NO_COLOR and TERM=dumb say no). */
int terminal_colours(FILE *file);

/* One line on stderr: "infer: " and the message. */
void terminal_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A progress bar in the form of infer_progress_fn; silent unless stderr is a
 * terminal. `user_data` is a struct terminal_bar. */
struct terminal_bar {
    int shown; /* the fraction on the screen, in per cent; 0: no bar yet */
};

int32_t terminal_progress(double fraction, const char *stage, void *user_data);
void terminal_bar_clear(struct terminal_bar *bar);

/* The library's warnings, in the form of infer_log_fn. */
void terminal_log(int32_t level, const char *text, void *user_data);

#endif
