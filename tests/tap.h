/* SPDX-License-Identifier: MIT */
/* Test Anything Protocol for the unit tests: a table of functions, each of which returns or ends with a failed check. */
#pragma once

#include <dirent.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static jmp_buf tap_out;
static const char *tap_skip_reason;

struct tap_test {
	const char *name;
	void (*run)(void);
};

/* clang-format off */
#define TAP_TEST(function) { #function, function }
/* clang-format on */

#define check(what)                                                                   \
	do {                                                                          \
		if (!(what)) {                                                        \
			printf("# %s:%d: not true: %s\n", __FILE__, __LINE__, #what); \
			longjmp(tap_out, 1);                                          \
		}                                                                     \
	} while (0)

#define check_int(is, should)                                                                             \
	do {                                                                                              \
		long long is_ = (long long)(is), should_ = (long long)(should);                           \
		if (is_ != should_) {                                                                     \
			printf("# %s:%d: %s is %lld, not %lld\n", __FILE__, __LINE__, #is, is_, should_); \
			longjmp(tap_out, 1);                                                              \
		}                                                                                         \
	} while (0)

#define check_string(is, should)                                                                              \
	do {                                                                                                  \
		const char *is_ = (is), *should_ = (should);                                                  \
		if (strcmp(is_, should_) != 0) {                                                              \
			printf("# %s:%d: %s is \"%s\", not \"%s\"\n", __FILE__, __LINE__, #is, is_, should_); \
			longjmp(tap_out, 1);                                                                  \
		}                                                                                             \
	} while (0)

static inline void tap_skip(const char *reason)
{
	tap_skip_reason = reason;
	longjmp(tap_out, 2);
}

static inline int tap_open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	while (dir && readdir(dir))
		n++;
	if (dir)
		closedir(dir);
	return n;
}

static inline int tap_run(const struct tap_test *tests, int n)
{
	volatile int bad = 0;

	printf("1..%d\n", n);
	for (volatile int i = 0; i < n; i++) {
		int before = tap_open_fds(), how = setjmp(tap_out);

		if (how == 0)
			tests[i].run();
		if (how == 0 && tap_open_fds() != before) {
			printf("# %d descriptors were open before, %d after\n", before, tap_open_fds());
			how = 1;
		}
		if (how == 1)
			bad++;
		printf("%s %d - %s%s%s\n", how == 1 ? "not ok" : "ok", i + 1, tests[i].name, how == 2 ? " # SKIP " : "",
		       how == 2 ? tap_skip_reason : "");
		fflush(stdout);
	}
	return bad ? 1 : 0;
}

#define TAP_MAIN(tests)                                                        \
	int main(void)                                                         \
	{                                                                      \
		return tap_run(tests, (int)(sizeof(tests) / sizeof *(tests))); \
	}
