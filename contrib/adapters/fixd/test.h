/* SPDX-License-Identifier: MIT */
/*
 * Fixtures for C and C++ test suites: what the adapters for the frameworks have in common, and enough for a suite without one.
 *
 *	struct corpus *c = fixd_test("corpus");		attached at the first call, copy-on-write
 *	...
 *	fixd_test_reset();				after each test: pristine again
 *
 * fixd_test_begin() before each test is for people: fixctl report then names the tests that change fixtures.
 *
 * A fixture that cannot be had ends the program with status 99, which automake and Meson call an error, and a line that says
 * why; with the adapter of a framework it fails the test that needs it. In C each file that includes this has views of its own;
 * in C++ all files of a program have the same. Call it from one thread at a time. Link with what `pkg-config --libs fixd` says:
 * containers in a view can be changed then.
 */
#ifndef FIXD_TEST_H
#define FIXD_TEST_H

#include <fixd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIXD_TEST_MAX 64 /* fixtures in one program */
#define FIXD_TEST_ERROR 99

#ifdef __cplusplus
#define FIXD_TEST_INLINE inline
#else
#define FIXD_TEST_INLINE static inline
#endif

struct fixd_test_state {
	struct fixd *daemon;
	const char *running;
	void (*failed)(const char *message); /* what the framework does with a test whose fixture cannot be had; NULL: the program ends */
	struct {
		char *name;
		struct fixd_view *view;
	} views[FIXD_TEST_MAX];
};

/* A class in a header, from which tests in several files are derived, is one class: it must see the same views everywhere. */
FIXD_TEST_INLINE struct fixd_test_state *fixd_test_all(void)
{
	static struct fixd_test_state all;

	return &all;
}

/*
 * For the adapter of a framework, whichever of the headers comes first: the function that fails the test that runs. If it returns, the
 * fixture is NULL.
 */
#define FIXD_TEST_FAILS_BY(function)                                      \
	__attribute__((constructor)) static void fixd_test_fails_by(void) \
	{                                                                 \
		fixd_test_all()->failed = function;                       \
	}                                                                 \
	struct fixd_test_state

FIXD_TEST_INLINE void fixd_test_fail(const char *name, const char *why)
{
	static char message[4096];

	/* Most sentences name it already. */
	if (strstr(why, name))
		snprintf(message, sizeof message, "%s", why);
	else
		snprintf(message, sizeof message, "fixture '%s': %s", name, why);
	if (fixd_test_all()->failed) {
		fixd_test_all()->failed(message);
		return;
	}
	fflush(stdout);
	fprintf(stderr, "%s\n", message);
	exit(FIXD_TEST_ERROR);
}

FIXD_TEST_INLINE int fixd_test_connect(void)
{
	int r = fixd_test_all()->daemon ? 0 : fixd_open(&fixd_test_all()->daemon, NULL);

	if (r == 0)
		fixd_set_test(fixd_test_all()->daemon, fixd_test_all()->running);
	return r;
}

/* The string must stay until the next one is named, or NULL. */
FIXD_TEST_INLINE void fixd_test_begin(const char *test)
{
	fixd_test_all()->running = test;
	if (fixd_test_all()->daemon)
		fixd_set_test(fixd_test_all()->daemon, test);
}

/* The view of a fixture, or NULL: *why says why there is none. */
FIXD_TEST_INLINE struct fixd_view *fixd_test_try(const char *name, const char **why)
{
	struct fixd_options options;
	size_t size = strlen(name) + 1;
	char *copy;
	int i;

	for (i = 0; i < FIXD_TEST_MAX && fixd_test_all()->views[i].name; i++) {
		if (!strcmp(fixd_test_all()->views[i].name, name))
			return fixd_test_all()->views[i].view;
	}
	memset(&options, 0, sizeof options);
	options.size = sizeof options;
	options.flags = FIXD_COW;
	copy = i < FIXD_TEST_MAX ? (char *)malloc(size) : NULL;
	if (!copy)
		*why = i < FIXD_TEST_MAX ? "no memory" : "too many fixtures in one program";
	else if (fixd_test_connect() < 0)
		*why = fixd_error(NULL);
	else if (fixd_attach(fixd_test_all()->daemon, name, &options, &fixd_test_all()->views[i].view) < 0)
		*why = fixd_error(fixd_test_all()->daemon);
	else
		fixd_test_all()->views[i].name = (char *)memcpy(copy, name, size);
	if (!copy || !fixd_test_all()->views[i].name) {
		free(copy);
		return NULL;
	}
	return fixd_test_all()->views[i].view;
}

/* The view of a fixture, `name` or `name[param]`. NULL only where a framework could not leave the test. */
FIXD_TEST_INLINE struct fixd_view *fixd_test_view(const char *name)
{
	const char *why = NULL;
	struct fixd_view *view = fixd_test_try(name, &why);

	if (!view)
		fixd_test_fail(name, why);
	return view;
}

/* Its root object, or its bytes. */
FIXD_TEST_INLINE void *fixd_test(const char *name)
{
	struct fixd_view *view = fixd_test_view(name);

	return view ? fixd_view_root(view) : NULL;
}

FIXD_TEST_INLINE size_t fixd_test_size(const char *name)
{
	struct fixd_view *view = fixd_test_view(name);

	return view ? fixd_view_size(view) : 0;
}

/* Undoes what was written to any of them. NULL, or one that could not be made pristine again. */
FIXD_TEST_INLINE const char *fixd_test_reset_all(void)
{
	const char *failed = NULL;

	for (int i = 0; i < FIXD_TEST_MAX && fixd_test_all()->views[i].name; i++) {
		if (fixd_view_reset(fixd_test_all()->views[i].view) < 0)
			failed = fixd_test_all()->views[i].name;
	}
	return failed;
}

FIXD_TEST_INLINE void fixd_test_reset(void)
{
	const char *failed = fixd_test_reset_all();

	if (failed)
		fixd_test_fail(failed, "it cannot be made pristine again");
}

/* Detaches all of them; pointers to them are dead. */
FIXD_TEST_INLINE void fixd_test_end(void)
{
	for (int i = 0; i < FIXD_TEST_MAX && fixd_test_all()->views[i].name; i++) {
		fixd_detach(fixd_test_all()->views[i].view);
		free(fixd_test_all()->views[i].name);
		fixd_test_all()->views[i].name = NULL;
	}
	fixd_close(fixd_test_all()->daemon);
	fixd_test_all()->daemon = NULL;
}

#endif
