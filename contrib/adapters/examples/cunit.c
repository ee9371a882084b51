/* SPDX-License-Identifier: MIT */
/* With CUnit. */
#include <fixd/cunit.h>

#include <CUnit/Basic.h>

static void scribbles(void)
{
	memset(fixd_test("words"), 'x', fixd_test_size("words"));
	CU_ASSERT(!memcmp(fixd_test("words"), "xxxxx", 5));
}

static void finds_them_pristine(void)
{
	CU_ASSERT(fixd_test_size("words") == 20);
	CU_ASSERT(!memcmp(fixd_test("words"), "apple\nbanana\ncherry\n", 20));
}

int main(void)
{
	CU_pSuite suite;
	unsigned failed;

	CU_initialize_registry();
	suite = CU_add_suite_with_setup_and_teardown("words", NULL, fixd_cunit_end, fixd_cunit_begin, fixd_test_reset);
	CU_add_test(suite, "scribbles", scribbles);
	CU_add_test(suite, "finds them pristine", finds_them_pristine);
	CU_basic_run_tests();
	failed = CU_get_number_of_failures();
	CU_cleanup_registry();
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
