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

#include "fixd-test.h"

class FixdTest : public ::testing::Test {
    protected:
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
};

#endif
