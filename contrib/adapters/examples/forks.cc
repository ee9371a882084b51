// SPDX-License-Identifier: MIT
// With GoogleTest, as a template: what is expensive is prepared once, and each case is a fork of that.
#include <fixd.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <map>
#include <string>

static std::map<std::string, size_t> index_of_words;

static void prepare()
{
	std::ofstream(std::string(getenv("FIXD_DIR") ? getenv("FIXD_DIR") : ".") + "/prepared") << getpid();
	for (const char *word : { "apple", "banana", "cherry" })
		index_of_words.emplace(word, index_of_words.size());
}

TEST(Index, FindsAWord)
{
	EXPECT_EQ(index_of_words.at("banana"), 1u);
}

TEST(Index, CanBeRuined)
{
	index_of_words.clear();
	EXPECT_TRUE(index_of_words.empty());
}

TEST(Index, IsAsItWasPrepared)
{
	EXPECT_EQ(index_of_words.size(), 3u);
}

class Lengths : public testing::TestWithParam<const char *>
{
};
TEST_P(Lengths, AreThoseOfWords)
{
	EXPECT_EQ(index_of_words.count(GetParam()), 1u);
}
INSTANTIATE_TEST_SUITE_P(Some, Lengths, testing::Values("apple", "cherry"));

int main(int argc, char **argv)
{
	prepare();
	if (fixd_fork_here(&argc, &argv, nullptr) < 0) {
		fprintf(stderr, "%s\n", fixd_error(nullptr));
		return 99;
	}
	testing::InitGoogleTest(&argc, argv);
	return RUN_ALL_TESTS();
}
