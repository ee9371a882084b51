/* SPDX-License-Identifier: MIT */
/*
 * Fixtures of fixd in CUnit:
 *
 *	CU_add_suite_with_setup_and_teardown("lookup", NULL, fixd_cunit_end, fixd_cunit_begin, fixd_test_reset);
 *
 * and fixd_test("corpus") in the tests, which fail if it cannot be had.
 */
#ifndef FIXD_CUNIT_H
#define FIXD_CUNIT_H

#include <CUnit/CUnit.h>

/* CU_FAIL_FATAL() would show the name of the variable. */
#define FIXD_TEST_FAILED(message) CU_assertImplementation(CU_FALSE, __LINE__, message, __FILE__, "", CU_TRUE)

#include "test.h"

static inline void fixd_cunit_begin(void)
{
	fixd_test_begin(CU_get_current_test()->pName);
}

static inline int fixd_cunit_end(void)
{
	fixd_test_end();
	return 0;
}

#endif
