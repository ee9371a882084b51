/* SPDX-License-Identifier: MIT */
/*
 * What the adapters for frameworks in C++ have in common: the object of a test, which undoes what the test has written when it ends.
 * A fixture that cannot be had is an exception, which fails the test; without C++ exceptions it ends the program. An adapter says
 * before what a framework does in a destructor: FIXD_TEST_NOT_PRISTINE(std::string).
 */
#ifndef FIXD_CXX_H
#define FIXD_CXX_H

#include <stdexcept>
#include <string>
#include <utility>

#include "test.h"

#ifdef __cpp_exceptions
inline void fixd_cxx_failed(const char *message)
{
	throw std::runtime_error(message);
}
FIXD_TEST_FAILS_BY(fixd_cxx_failed);
#endif

class FixdScope
{
      protected:
	explicit FixdScope(std::string test) : test_(std::move(test))
	{
		fixd_test_begin(test_.c_str());
	}
	~FixdScope()
	{
		const char *failed = fixd_test_reset_all();

		fixd_test_begin(nullptr);
		if (failed)
			FIXD_TEST_NOT_PRISTINE("fixture '" + std::string(failed) + "' cannot be made pristine again");
	}
	FixdScope(const FixdScope &) = delete;
	FixdScope &operator=(const FixdScope &) = delete;

	template <typename T> T *get(const char *name)
	{
		return static_cast<T *>(fixd_test(name));
	}

	template <typename T> T *get(const std::string &name)
	{
		return get<T>(name.c_str());
	}

	size_t size(const char *name)
	{
		return fixd_test_size(name);
	}

	size_t size(const std::string &name)
	{
		return size(name.c_str());
	}

      private:
	const std::string test_;
};

#endif
