/* SPDX-License-Identifier: MIT */
/*
 * Fixtures of fixd in cmocka:
 *
 *	fixd_unit_test(test_lookup)					in the array of tests
 *	cmocka_run_group_tests(tests, NULL, fixd_group_teardown)
 *
 * and fixd_test("corpus") in the tests, which fail if it cannot be had. What a test has written is undone after it.
 */
#ifndef FIXD_CMOCKA_H
#define FIXD_CMOCKA_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define FIXD_TEST_FAILED(message) fail_msg("%s", message)

#include "test.h"

static inline int fixd_cmocka_reset(void **state)
{
	(void)state;
	fixd_test_reset();
	return 0;
}

static inline int fixd_group_teardown(void **state)
{
	(void)state;
	fixd_test_end();
	return 0;
}

#define fixd_unit_test(f) cmocka_unit_test_teardown(f, fixd_cmocka_reset)

#endif
