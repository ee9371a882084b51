/* SPDX-License-Identifier: MIT */
/* With Check. */
#include <fixd/check.h>

START_TEST(scribbles)
{
	memset(fixd_test("words"), 'x', fixd_test_size("words"));
	ck_assert_mem_eq(fixd_test("words"), "xxxxx", 5);
}
END_TEST

START_TEST(finds_them_pristine)
{
	ck_assert_uint_eq(fixd_test_size("words"), 20);
	ck_assert_mem_eq(fixd_test("words"), "apple\nbanana\ncherry\n", 20);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("words");
	TCase *tc = tcase_create("words");
	SRunner *runner;
	int failed;

	tcase_add_fixd(tc, "words");
	tcase_add_test(tc, scribbles);
	tcase_add_test(tc, finds_them_pristine);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
