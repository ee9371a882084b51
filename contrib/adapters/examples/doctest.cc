// SPDX-License-Identifier: MIT
// With doctest.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <fixd/doctest.h>

TEST_CASE_FIXTURE(FixdTest, "scribbles")
{
	memset(get<char>("words"), 'x', size("words"));
	CHECK(std::string(get<char>("words"), 5) == "xxxxx");
}

TEST_CASE_FIXTURE(FixdTest, "finds them pristine")
{
	CHECK(std::string(get<char>("words"), size("words")) == "apple\nbanana\ncherry\n");
}
