/* SPDX-License-Identifier: MIT */
/* Runs leaks: those that are named, or all. */
#pragma once

#include <fixd/test.h>

struct leak {
	const char *name;
	void (*run)(void);
};

static inline int is_asked(const char *name, int argc, char *argv[])
{
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], name))
			return 1;
	}
	return argc < 2;
}

static inline int suite(const struct leak *leaks, size_t n, int argc, char *argv[])
{
	for (size_t i = 0; i < n; i++) {
		if (!is_asked(leaks[i].name, argc, argv))
			continue;
		fixd_test_begin(leaks[i].name);
		leaks[i].run();
		fixd_test_reset();
	}
	fixd_test_end();
	return 0;
}
