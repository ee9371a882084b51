/* SPDX-License-Identifier: MIT */
/*
 * Fixtures of fixd in Catch2, version 2 or 3:
 *
 *	TEST_CASE_METHOD(FixdTest, "finds") { auto *c = get<corpus>("corpus"); ... }
 *
 * What a test has written is undone after it, and after each run of it for another section. A fixture that cannot be had fails the
 * test.
 */
#ifndef FIXD_CATCH2_H
#define FIXD_CATCH2_H

#if __has_include(<catch2/catch_test_macros.hpp>)
#include <catch2/catch_test_macros.hpp>
#include <catch2/interfaces/catch_interfaces_capture.hpp>
#else
#include <catch2/catch.hpp>
#endif

#define FIXD_TEST_NOT_PRISTINE(message) FAIL_CHECK(message)

#include "cxx.h"

class FixdTest : protected FixdScope
{
      protected:
	FixdTest() : FixdScope(std::string(Catch::getResultCapture().getCurrentTestName()))
	{
	}
};

#endif
