/**
 * @file infer.h
 * libinfer: inference in your process. This header includes all the others.
 *
 *   infer_model   *model = NULL;
 *   infer_session *session = NULL;
 *   infer_model_load(&model, "model.gguf", NULL);
 *   infer_session_create(&session, model, NULL);
 *   infer_session_generate(session, "Once upon a time", NULL, print, NULL);
 *   infer_session_destroy(&session);
 *   infer_model_destroy(&model);
 *
 * Conventions that hold everywhere:
 * - Out-parameters come first and are written only on success.
 * - Options begin with struct_size; zero means default; NULL means all defaults.
 * - create/load pair with destroy, which is NULL-safe and sets NULL. Children
 *   hold references to their parents: any order of destruction is legal.
 * - A plain pointer returned is borrowed.
 * - Every call that can fail returns infer_status; infer_last_error() has the words.
 */
#ifndef INFER_INFER_H
#define INFER_INFER_H

#include <infer/adapter.h>
#include <infer/api.h>
#include <infer/convert.h>
#include <infer/device.h>
#include <infer/embed.h>
#include <infer/error.h>
#include <infer/grammar.h>
#include <infer/index.h>
#include <infer/kv_cache.h>
#include <infer/life.h>
#include <infer/log.h>
#include <infer/message.h>
#include <infer/model.h>
#include <infer/request.h>
#include <infer/sampling.h>
#include <infer/score.h>
#include <infer/search.h>
#include <infer/self_test.h>
#include <infer/session.h>
#include <infer/snapshot.h>
#include <infer/template.h>
#include <infer/tokenizer.h>
#include <infer/types.h>
#include <infer/version.h>

#endif
