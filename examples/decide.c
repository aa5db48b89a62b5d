/* Decisions: yes or no, or one label of several. The model is not asked to
 * write, only how likely each answer is. */
#include <infer/infer.h>
#include <stdio.h>

#define LABELS_MAX 32

/* The labels' shares, the chosen one marked. */
static void print_shares(const infer_decision *d, const double *shares, const char *const *labels,
                         int n)
{
    for (int i = 0; i < n; i++)
        printf("%c %5.1f %% %s\n", i == d->choice ? '*' : ' ', 100 * shares[i], labels[i]);
}

int main(int argc, char **argv)
{
    static const char *const yes_no[] = {"yes", "no"};
    infer_model *model = NULL;
    infer_session *session = NULL;
    infer_decision decision = {.struct_size = sizeof decision};
    infer_decide_options options = {.struct_size = sizeof options, .ending = "."};
    infer_request_options request = {.struct_size = sizeof request};
    double shares[LABELS_MAX];
    int n = argc - 3;
    infer_status status = INFER_ERR_INVALID;
    if (argc < 3 || n > LABELS_MAX) {
        fprintf(stderr, "usage: decide MODEL QUESTION [LABEL ...]   without labels: yes or no\n");
        return 2;
    }
    infer_message message = {.role = "user", .content = argv[2]};
    request.messages = &message;
    request.n_messages = 1;
    options.request = &request;
    const char *const *labels = n ? (const char *const *)argv + 3 : yes_no;
    if (infer_model_load(&model, argv[1], NULL) == 0 &&
        infer_session_create(&session, model, NULL) == 0)
        status = infer_session_decide(&decision, shares, session, NULL, n ? labels : NULL,
                                      (size_t)n, &options);
    if (status == INFER_OK)
        print_shares(&decision, shares, labels, n ? n : 2);
    else
        fprintf(stderr, "%s\n", infer_last_error());
    infer_session_destroy(&session);
    infer_model_destroy(&model);
    return status != INFER_OK;
}
