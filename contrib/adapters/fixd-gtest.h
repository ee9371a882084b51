/* SPDX-License-Identifier: MIT */
/*
 * Fixtures of fixd in GoogleTest:
 *
 *	class Lookup : public FixdTest {};
 *	TEST_F(Lookup, finds) { auto *c = get<corpus>("corpus"); ... }
 *
 * What a test has written is undone after it.
 */
#ifndef FIXD_GTEST_H
#define FIXD_GTEST_H

#include <gtest/gtest.h>
#include <string>

#include "fixd-test.h"

/* Of each file its own, as the views are. */
namespace
{

class FixdTest : public ::testing::Test {
    protected:
	FixdTest() : name_(name())
	{
		fixd_test_begin(name_.c_str());
	}
	~FixdTest() override
	{
		fixd_test_begin(nullptr);
	}
	template <typename T> T *get(const char *name)
	{
		return static_cast<T *>(fixd_test(name));
	}

	size_t size(const char *name)
	{
		return fixd_test_size(name);
	}

	void TearDown() override
	{
		fixd_test_reset();
	}

    private:
	static std::string name()
	{
		const ::testing::TestInfo *info = ::testing::UnitTest::GetInstance()->current_test_info();

		return std::string(info->test_suite_name()) + "." + info->name();
	}
	const std::string name_;
};

} // namespace

#endif
