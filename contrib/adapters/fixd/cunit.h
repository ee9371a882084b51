/* SPDX-License-Identifier: MIT */
/*
 * Fixtures of fixd in CUnit:
 *
 *	CU_add_suite_with_setup_and_teardown("lookup", NULL, fixd_cunit_end, fixd_cunit_begin, fixd_test_reset);
 *
 * and fixd_test("corpus") in the tests, which fail if it cannot be had. In a setup or a suite's initialization it is NULL then, and the
 * tests that come after fail with that sentence in place of being run.
 */
#ifndef FIXD_CUNIT_H
#define FIXD_CUNIT_H

#include <CUnit/CUnit.h>

#include "test.h"

/* CUnit leaves a test only from its function. One whose setup, or suite, has failed gets another one, and has its own again after that. */
struct fixd_cunit_replaced {
	struct fixd_cunit_replaced *next;
	CU_pTest test;
	CU_TestFunc function;
	char message[4096];
};

static inline struct fixd_cunit_replaced **fixd_cunit_all_replaced(void)
{
	static struct fixd_cunit_replaced *all;

	return &all;
}

/* CU_FAIL_FATAL() would show the name of the variable. */
static inline void fixd_cunit_fail(const char *message)
{
	CU_assertImplementation(CU_FALSE, __LINE__, message, __FILE__, "", CU_TRUE);
}

static inline void fixd_cunit_instead(void)
{
	static char message[4096];
	struct fixd_cunit_replaced **at = fixd_cunit_all_replaced(), *found;

	while (*at && (*at)->test != CU_get_current_test())
		at = &(*at)->next;
	found = *at;
	if (!found)
		return;
	*at = found->next;
	found->test->pTestFunc = found->function;
	memcpy(message, found->message, sizeof message);
	free(found);
	fixd_cunit_fail(message);
}

static inline void fixd_cunit_replace(CU_pTest test, const char *message)
{
	struct fixd_cunit_replaced *new_one =
		test->pTestFunc == fixd_cunit_instead ? NULL : (struct fixd_cunit_replaced *)malloc(sizeof *new_one);

	if (!new_one)
		return;
	new_one->test = test;
	new_one->function = test->pTestFunc;
	snprintf(new_one->message, sizeof new_one->message, "%s", message);
	new_one->next = *fixd_cunit_all_replaced();
	*fixd_cunit_all_replaced() = new_one;
	test->pTestFunc = fixd_cunit_instead;
}

static inline void fixd_cunit_failed(const char *message)
{
	CU_pTest test = CU_get_current_test();

	if (test && test->pJumpBuf)
		fixd_cunit_fail(message);
	else if (test)
		fixd_cunit_replace(test, message);
	else if (CU_get_current_suite())
		for (test = CU_get_current_suite()->pTest; test; test = test->pNext)
			fixd_cunit_replace(test, message);
	else
		fprintf(stderr, "%s\n", message);
}
FIXD_TEST_FAILS_BY(fixd_cunit_failed);

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
