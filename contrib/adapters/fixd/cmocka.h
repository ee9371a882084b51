/* SPDX-License-Identifier: MIT */
/*
 * Fixtures of fixd in cmocka:
 *
 *	fixd_run_group_tests(tests, NULL, NULL)		in the place of cmocka_run_group_tests()
 *
 * and fixd_test("corpus") in the tests, which fail if it cannot be had. What a test has written is undone after it, also where it has a
 * teardown of its own. Where another runner is used:
 *
 *	fixd_unit_test(test_lookup)					in the array of tests
 *	cmocka_run_group_tests(tests, NULL, fixd_group_teardown)
 */
#ifndef FIXD_CMOCKA_H
#define FIXD_CMOCKA_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "test.h"

static inline void fixd_cmocka_failed(const char *message)
{
	fail_msg("%s", message);
}
FIXD_TEST_FAILS_BY(fixd_cmocka_failed);

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

/* A test of the group gets another setup and teardown, which know by its initial state what they stand for. */
struct fixd_cmocka_group {
	const struct CMUnitTest *running;
	CMFixtureFunction setup, teardown;
	void *state;
};

static inline struct fixd_cmocka_group *fixd_cmocka_group(void)
{
	static struct fixd_cmocka_group group;

	return &group;
}

static inline int fixd_cmocka_setup_test(void **state)
{
	const struct CMUnitTest *test = (const struct CMUnitTest *)*state;

	/* Where the last one has failed in its setup or teardown nothing was reset. */
	fixd_test_reset();
	fixd_cmocka_group()->running = test;
	fixd_test_begin(test->name);
	*state = test->initial_state ? test->initial_state : fixd_cmocka_group()->state;
	return test->setup_func ? test->setup_func(state) : 0;
}

static inline int fixd_cmocka_teardown_test(void **state)
{
	const struct CMUnitTest *test = fixd_cmocka_group()->running;
	int r = test->teardown_func ? test->teardown_func(state) : 0;

	fixd_test_reset();
	fixd_test_begin(NULL);
	return r;
}

static inline int fixd_cmocka_setup_group(void **state)
{
	struct fixd_cmocka_group *group = fixd_cmocka_group();
	int r = group->setup ? group->setup(state) : 0;

	group->state = *state;
	return r;
}

static inline int fixd_cmocka_teardown_group(void **state)
{
	CMFixtureFunction teardown = fixd_cmocka_group()->teardown;
	int r = teardown ? teardown(state) : 0;

	fixd_test_end();
	return r;
}

static inline int fixd_cmocka_run(const char *name, const struct CMUnitTest *tests, size_t n, CMFixtureFunction setup,
				  CMFixtureFunction teardown)
{
	struct CMUnitTest *wrapped = calloc(n + 1, sizeof *wrapped);
	int failed;

	if (!wrapped)
		return -1;
	for (size_t i = 0; i < n; i++) {
		wrapped[i] = tests[i];
		wrapped[i].setup_func = fixd_cmocka_setup_test;
		wrapped[i].teardown_func = fixd_cmocka_teardown_test;
		wrapped[i].initial_state = (void *)(uintptr_t)&tests[i];
	}
	*fixd_cmocka_group() = (struct fixd_cmocka_group){ .setup = setup, .teardown = teardown };
	failed = _cmocka_run_group_tests(name, wrapped, n, fixd_cmocka_setup_group, fixd_cmocka_teardown_group);
	free(wrapped);
	return failed;
}

#define fixd_run_group_tests(tests, setup, teardown) fixd_cmocka_run(#tests, tests, sizeof(tests) / sizeof((tests)[0]), setup, teardown)

#endif
