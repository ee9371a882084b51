/* SPDX-License-Identifier: MIT */
/* With cmocka. */
#include <fixd/cmocka.h>

static void scribbles(void **state)
{
	(void)state;
	memset(fixd_test("words"), 'x', fixd_test_size("words"));
	assert_memory_equal(fixd_test("words"), "xxxxx", 5);
}

static void finds_them_pristine(void **state)
{
	(void)state;
	assert_int_equal(fixd_test_size("words"), 20);
	assert_memory_equal(fixd_test("words"), "apple\nbanana\ncherry\n", 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(scribbles),
		cmocka_unit_test(finds_them_pristine),
	};

	return fixd_run_group_tests(tests, NULL, NULL);
}
