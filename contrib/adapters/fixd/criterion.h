/* SPDX-License-Identifier: MIT */
/*
 * Fixtures of fixd in Criterion, which has a process for each test: fixd_test("corpus") attaches in microseconds.
 *
 *	TestSuite(lookup, .init = fixd_criterion_init, .fini = fixd_test_end);
 *
 * .init connects, so that a missing daemon is said before the test does anything, and names the test to fixctl report.
 */
#ifndef FIXD_CRITERION_H
#define FIXD_CRITERION_H

#include <criterion/criterion.h>

#include "test.h"

static inline void fixd_criterion_failed(const char *message)
{
	cr_assert_fail("%s", message);
}
FIXD_TEST_FAILS_BY(fixd_criterion_failed);

static inline void fixd_criterion_init(void)
{
	fixd_test_begin(criterion_current_test->name);
	if (fixd_test_connect() < 0)
		cr_assert_fail("%s", fixd_error(NULL));
}

#endif
