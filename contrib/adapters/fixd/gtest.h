/* SPDX-License-Identifier: MIT */
/*
 * Fixtures of fixd in GoogleTest:
 *
 *	class Lookup : public FixdTest {};
 *	TEST_F(Lookup, finds) { auto *c = get<corpus>("corpus"); ... }
 *
 * What a test has written is undone after it, when the object of the test ends: also in a class with a TearDown() of its own. A
 * fixture that cannot be had fails the test; without C++ exceptions it ends the program.
 */
#ifndef FIXD_GTEST_H
#define FIXD_GTEST_H

#include <gtest/gtest.h>
#include <stdexcept>
#include <string>

#ifdef __cpp_exceptions
#define FIXD_TEST_FAILED(message) throw std::runtime_error(message)
#endif
#include "test.h"

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
		const char *failed = fixd_test_reset_all();

		if (failed)
			ADD_FAILURE() << "fixture '" << failed << "' cannot be made pristine again";
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
