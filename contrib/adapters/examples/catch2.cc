// SPDX-License-Identifier: MIT
// With Catch2: version 3, linked with Catch2Main, or version 2, which is made here.
#if !__has_include(<catch2/catch_test_macros.hpp>)
#define CATCH_CONFIG_MAIN
#endif
#include <fixd/catch2.h>

TEST_CASE_METHOD(FixdTest, "scribbles")
{
	memset(get<char>("words"), 'x', size("words"));
	CHECK(std::string(get<char>("words"), 5) == "xxxxx");
}

TEST_CASE_METHOD(FixdTest, "finds them pristine")
{
	CHECK(std::string(get<char>("words"), size("words")) == "apple\nbanana\ncherry\n");
}
