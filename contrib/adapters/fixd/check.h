/* SPDX-License-Identifier: MIT */
/*
 * Fixtures of fixd in Check:
 *
 *	tcase_add_fixd(tc, "corpus");
 *
 * and fixd_test("corpus") in its tests. It is attached once, before Check forks for each test, so every test has its own pristine
 * copy for nothing; with CK_FORK=no it is reset after each. If it cannot be had, the tests that ask for it fail.
 */
#ifndef FIXD_CHECK_H
#define FIXD_CHECK_H

#include <check.h>

#include "test.h"

static inline void fixd_check_failed(const char *message)
{
	ck_abort_msg("%s", message);
}
FIXD_TEST_FAILS_BY(fixd_check_failed);

static const char *fixd_check_names[FIXD_TEST_MAX];

/* Also those of other cases: Check does not say which one it is called for. */
static inline void fixd_check_attach(void)
{
	const char *why;

	for (int i = 0; i < FIXD_TEST_MAX && fixd_check_names[i]; i++)
		fixd_test_try(fixd_check_names[i], &why);
}

static inline void tcase_add_fixd(TCase *tc, const char *name)
{
	int n = 0;

	while (n < FIXD_TEST_MAX - 1 && fixd_check_names[n])
		n++;
	fixd_check_names[n] = name;
	tcase_add_unchecked_fixture(tc, fixd_check_attach, NULL);
	tcase_add_checked_fixture(tc, NULL, fixd_test_reset);
}

#endif
