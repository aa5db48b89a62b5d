/**
 * @file version.h
 * Version of the headers, and of the library they came with.
 *
 * The build reads these macros: INFER_SOVERSION becomes the soname. It is 0
 * until 1.0 and then 1, meant to stay: published symbols, fields and values
 * are only ever appended to (doc/abi.md).
 */
#ifndef INFER_VERSION_H
#define INFER_VERSION_H

#define INFER_VERSION_MAJOR 0
#define INFER_VERSION_MINOR 1
#define INFER_VERSION_PATCH 0
#define INFER_SOVERSION     0

/** One number that grows with every release: major * 1000000 + minor * 1000 + patch. */
#define INFER_VERSION                                                                              \
    (INFER_VERSION_MAJOR * 1000000 + INFER_VERSION_MINOR * 1000 + INFER_VERSION_PATCH)

#endif
