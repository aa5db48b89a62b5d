#include <infer/infer.h>
#include <stdio.h>

static int32_t print(const char *text, size_t size, void *user_data)
{
    (void)user_data;
    return fwrite(text, 1, size, stdout) != size; /* non-zero stops the generation */
}

int main(int argc, char **argv)
{
    infer_model *model = NULL;
    infer_session *session = NULL;
    if (argc == 3 && infer_model_load(&model, argv[1], NULL) == 0 &&
        infer_session_create(&session, model, NULL) == 0 &&
        infer_session_generate(session, argv[2], NULL, print, NULL) == 0) {
        infer_session_destroy(&session);
        infer_model_destroy(&model);
        return 0;
    }
    fprintf(stderr, "%s\n", argc == 3 ? infer_last_error() : "usage: hello MODEL PROMPT");
    return 1;
}
