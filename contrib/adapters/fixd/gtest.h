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

#define FIXD_TEST_NOT_PRISTINE(message) ADD_FAILURE() << (message)

#include "cxx.h"

class FixdTest : public ::testing::Test, protected FixdScope {
    protected:
	FixdTest() : FixdScope(name())
	{
	}

    private:
	static std::string name()
	{
		const ::testing::TestInfo *info = ::testing::UnitTest::GetInstance()->current_test_info();

		return std::string(info->test_suite_name()) + "." + info->name();
	}
};

#endif
