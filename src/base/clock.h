/* SPDX-License-Identifier: MIT */
/*
 * Time in nanoseconds. Ages and deadlines are measured with clock_now(), which never jumps; clock_real() is for people.
 * A test may move both forward: when FIXD_TEST_CLOCK names a file, its first eight bytes (a native int64_t, nanoseconds)
 * are mapped and added to every reading, so that a day can pass without waiting for it.
 */
#pragma once

#include <stdint.h>

#define NSEC_PER_SEC INT64_C(1000000000)
#define NSEC_PER_MSEC INT64_C(1000000)

/* Reads FIXD_TEST_CLOCK. Returns 0, or -errno when it is set and cannot be used. */
int clock_init(void);
int64_t clock_now(void);
int64_t clock_real(void);
