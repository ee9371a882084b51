/* SPDX-License-Identifier: MIT */
/* With Criterion. */
#include <fixd/criterion.h>

TestSuite(words, .init = fixd_criterion_init, .fini = fixd_test_end);

Test(words, scribbles)
{
	memset(fixd_test("words"), 'x', fixd_test_size("words"));
	cr_assert_arr_eq((char *)fixd_test("words"), "xxxxx", 5);
}

Test(words, finds_them_pristine)
{
	cr_assert_eq(fixd_test_size("words"), 20);
	cr_assert_arr_eq((char *)fixd_test("words"), "apple\nbanana\ncherry\n", 20);
}
