// SPDX-License-Identifier: MIT
// With GoogleTest.
#include <fixd/gtest.h>

class Words : public FixdTest
{
};

TEST_F(Words, Scribbles)
{
	memset(get<char>("words"), 'x', size("words"));
	EXPECT_EQ(std::string(get<char>("words"), 5), "xxxxx");
}

TEST_F(Words, FindsThemPristine)
{
	EXPECT_EQ(std::string(get<char>("words"), size("words")), "apple\nbanana\ncherry\n");
}
