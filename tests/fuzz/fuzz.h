/* What each fuzz target provides; libFuzzer and driver.c call it. */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* Ends the program if the bytes reveal a defect, else returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* For invariants of a target: crashes where libFuzzer and the driver notice. */
#define fuzz_check(condition) ((condition) ? (void)0 : __builtin_trap())

#endif
