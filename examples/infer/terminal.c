/* Errors, colours and the loading bar: everything a person sees on stderr. */
#include "terminal.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BAR_WIDTH 30

static int is_plain(void)
{
    const char *term = getenv("TERM");
    return !term || strcmp(term, "dumb") == 0;
}

int terminal_colours(FILE *file)
{
    const char *no_color = getenv("NO_COLOR");
    return isatty(fileno(file)) && !is_plain() && !(no_color && *no_color);
}

static void print_prefix(const char *word, const char *colour)
{
    if (terminal_colours(stderr))
        fprintf(stderr, "infer: \033[%sm%s:\033[0m ", colour, word);
    else
        fprintf(stderr, "infer: %s: ", word);
}

void terminal_error(const char *format, ...)
{
    va_list args;
    print_prefix("error", "31");
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

int32_t terminal_progress(double fraction, const char *stage, void *user_data)
{
    struct terminal_bar *bar = user_data;
    int percent = fraction < 0.01 ? 1 : fraction > 1 ? 100 : (int)(100 * fraction);
    int filled = percent * BAR_WIDTH / 100;
    if (percent == bar->shown || !isatty(STDERR_FILENO) || is_plain())
        return 0;
    bar->shown = percent;
    fprintf(stderr, "\r[%.*s%*s] %3d%% %s\033[K", filled, "##############################",
            BAR_WIDTH - filled, "", percent, stage);
    fflush(stderr);
    return 0;
}

void terminal_bar_clear(struct terminal_bar *bar)
{
    if (bar->shown)
        fputs("\r\033[K", stderr);
    bar->shown = 0;
}

void terminal_log(int32_t level, const char *text, void *user_data)
{
    (void)user_data;
    if (level == 0)
        print_prefix("error", "31");
    else if (level == 1)
        print_prefix("warning", "33");
    else
        print_prefix("info", "36");
    fprintf(stderr, "%s\n", text);
}
