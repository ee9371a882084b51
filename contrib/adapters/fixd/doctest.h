/* SPDX-License-Identifier: MIT */
/*
 * Fixtures of fixd in doctest:
 *
 *	TEST_CASE_FIXTURE(FixdTest, "finds") { auto *c = get<corpus>("corpus"); ... }
 *
 * What a test has written is undone after it, and after each run of it for another subcase. A fixture that cannot be had fails the
 * test.
 */
#ifndef FIXD_DOCTEST_H
#define FIXD_DOCTEST_H

#include <doctest/doctest.h>

#define FIXD_TEST_NOT_PRISTINE(message) DOCTEST_ADD_FAIL_CHECK_AT(__FILE__, __LINE__, (message).c_str())

#include "cxx.h"

class FixdTest : protected FixdScope
{
      protected:
	FixdTest() : FixdScope(doctest::getContextOptions()->currentTest->m_name)
	{
	}
};

#endif
