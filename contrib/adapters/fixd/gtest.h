/* SPDX-License-Identifier: MIT */
/*
 * Fixtures of fixd in GoogleTest:
 *
 *	class Lookup : public FixdTest {};
 *	TEST_F(Lookup, finds) { auto *c = get<corpus>("corpus"); ... }
 *
 * What a test has written is undone after it, when the object of the test ends: also in a class with a TearDown() of its own. A
 * fixture that cannot be had fails the test. Without C++ exceptions nothing but the end of the program can leave the test: the report
 * (--gtest_output) is written before, with the tests that have run.
 */
#ifndef FIXD_GTEST_H
#define FIXD_GTEST_H

#include <gtest/gtest.h>

#define FIXD_TEST_NOT_PRISTINE(message) ADD_FAILURE() << (message)

#include "cxx.h"

#ifndef __cpp_exceptions
[[noreturn]] inline void fixd_gtest_end(const char *message)
{
	::testing::UnitTest *all = ::testing::UnitTest::GetInstance();
	::testing::TestEventListener *report = all->listeners().default_xml_generator();

	ADD_FAILURE() << message;
	if (report)
		report->OnTestIterationEnd(*all, 1);
	exit(1);
}
FIXD_TEST_FAILS_BY(fixd_gtest_end);
#endif

class FixdTest : public ::testing::Test, protected FixdScope
{
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
