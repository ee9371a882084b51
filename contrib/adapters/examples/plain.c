/* SPDX-License-Identifier: MIT */
/* Without a framework: for `make check`, Meson and CTest. */
#include <fixd/test.h>

int main(void)
{
	if (memcmp(fixd_test("words"), "apple\n", 6))
		return EXIT_FAILURE;
	memset(fixd_test("words"), 'x', fixd_test_size("words"));
	fixd_test_reset();
	if (fixd_test_size("words") != 20 || memcmp(fixd_test("words"), "apple\nbanana\ncherry\n", 20))
		return EXIT_FAILURE;
	fixd_test_end();
	return EXIT_SUCCESS;
}
