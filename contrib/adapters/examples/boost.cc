// SPDX-License-Identifier: MIT
// With Boost.Test.
#define BOOST_TEST_MODULE words
#define BOOST_TEST_DYN_LINK
#include <fixd/boost.h>

BOOST_FIXTURE_TEST_SUITE(words, FixdTest)

BOOST_AUTO_TEST_CASE(scribbles)
{
	memset(get<char>("words"), 'x', size("words"));
	BOOST_TEST(std::string(get<char>("words"), 5) == "xxxxx");
}

BOOST_AUTO_TEST_CASE(finds_them_pristine)
{
	BOOST_TEST(std::string(get<char>("words"), size("words")) == "apple\nbanana\ncherry\n");
}

BOOST_AUTO_TEST_SUITE_END()
