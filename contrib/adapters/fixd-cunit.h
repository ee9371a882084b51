/* SPDX-License-Identifier: MIT */
/*
 * Fixtures of fixd in CUnit:
 *
 *	CU_add_suite_with_setup_and_teardown("lookup", NULL, fixd_cunit_end, NULL, fixd_test_reset);
 *
 * and fixd_test("corpus") in the tests.
 */
#ifndef FIXD_CUNIT_H
#define FIXD_CUNIT_H

#include <CUnit/CUnit.h>

#include "fixd-test.h"

static inline int fixd_cunit_end(void)
{
	fixd_test_end();
	return 0;
}

#endif
