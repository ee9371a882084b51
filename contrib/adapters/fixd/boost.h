/* SPDX-License-Identifier: MIT */
/*
 * Fixtures of fixd in Boost.Test:
 *
 *	BOOST_FIXTURE_TEST_CASE(finds, FixdTest) { auto *c = get<corpus>("corpus"); ... }
 *	BOOST_FIXTURE_TEST_SUITE(lookup, FixdTest)	for all of a suite
 *
 * What a test has written is undone after it. A fixture that cannot be had fails the test. Whoever uses another form of the framework
 * than the linked one includes that first.
 */
#ifndef FIXD_BOOST_H
#define FIXD_BOOST_H

#include <boost/test/unit_test.hpp>

#define FIXD_TEST_NOT_PRISTINE(message) BOOST_ERROR(message)

#include "cxx.h"

class FixdTest : protected FixdScope
{
      protected:
	FixdTest() : FixdScope(name())
	{
	}

      private:
	/* A fixture of a suite or of the module is made outside of a test case. */
	static std::string name()
	{
		try {
			return boost::unit_test::framework::current_test_case().full_name();
		} catch (...) {
			return "(no test case)";
		}
	}
};

#endif
