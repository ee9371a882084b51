/* SPDX-License-Identifier: MIT */
/* The shim's quick answer about a path, against the plain definition of it, up to the last byte of readable memory. */
#include <sys/mman.h>

#include "preload/starts.h"
#include "tap.h"

/* The definition: what has a component "", "." or ".." in its midst is never plain, and more than that may not be. */
static bool is_odd(const char *path)
{
	for (const char *p = path; *p; p++) {
		bool behind_mark = p == path ? *path != '/' : p[-1] == '/' || p[-1] == '.';

		if (behind_mark && (*p == '/' || *p == '.'))
			return true;
	}
	return false;
}

/* What must never be taken for plain: the kernel would go elsewhere than the text says. */
static bool turns(const char *path)
{
	char *copy = strdup(path), *rest = copy + (*copy == '/'), *name;
	bool does = false;

	while ((name = strsep(&rest, "/")))
		does |= (rest && !*name) || !strcmp(name, ".") || !strcmp(name, "..");
	free(copy);
	return does;
}

/* Puts it at every offset from a block, and right before memory that is not there. */
static void check_everywhere(char *end, const char *path)
{
	size_t n = strlen(path), should = is_odd(path) ? 0 : n;

	check(should == 0 || !turns(path));
	check_int(plain_length_of_any(path), should);
	for (size_t before = 0; before < 16; before++) {
		char *at = end - n - 1 - before;

		memset(end - 512, '/', 512);
		memcpy(at, path, n + 1);
		check_int(plain_length(at), should);
	}
}

static void plain(void)
{
	static const char *const paths[] = {
		"/",	    "a",	 "/a",		"/a/b",	  "a/b.c",
		"/a/b..c",  "/a/b./c",	 "/a/..b",	"/a//b",  "//a",
		"./a",	    "../a",	 ".a",		"/a/./b", "/a/../b",
		"/a/..",    "/a/.",	 "/a/",		"a//",	  "/usr/share/common-licenses/GPL-3",
		"/a/b/c/d", "/dev/fd/3", "/a/b/c/.git", "a./b",	  "/a..b",
	};
	char *map = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), path[201];

	check(map != MAP_FAILED && mprotect(map + 4096, 4096, PROT_NONE) == 0);
	for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
		check_everywhere(map + 4096, paths[i]);
	/* Every length, with something odd at every place. */
	for (size_t n = 1; n < sizeof path; n++) {
		for (size_t odd = 0; odd + 1 < n; odd++) {
			memset(path, 'x', n);
			path[n] = '\0';
			check_everywhere(map + 4096, path);
			path[odd] = '/';
			check_everywhere(map + 4096, path);
			path[odd + 1] = odd % 2 ? '.' : '/';
			check_everywhere(map + 4096, path);
		}
	}
	munmap(map, 8192);
}

static bool may_match(const struct starts *s, const char *path)
{
	size_t n = plain_length(path);

	return n == 0 || starts_may_match(s, path, n);
}

static void matching(void)
{
	struct starts absolute = { .deciding = 1 }, below = { 0 }, all = { 0 };

	starts_add(&absolute, "/home/u/data", 12);
	starts_add(&absolute, "/dev/fd/", 8);
	check(may_match(&absolute, "/home/u/data"));
	check(may_match(&absolute, "/home/u/data/x"));
	check(may_match(&absolute, "/home/u"));
	check(may_match(&absolute, "/"));
	check(may_match(&absolute, "/dev/fd/3"));
	check(may_match(&absolute, "/etc/../home/u/data"));
	check(!may_match(&absolute, "/home/u/dat_"));
	check(!may_match(&absolute, "/etc/passwd"));
	check(!may_match(&absolute, "/e"));
	/* Alike at the end, alike at the beginning. */
	starts_add(&absolute, "/srv/project/tests/data", 23);
	check(may_match(&absolute, "/srv/project/tests/data/x"));
	check(may_match(&absolute, "/srv/project/tests"));
	check(!may_match(&absolute, "/srv/another/tests/data"));
	check(!may_match(&absolute, "/srv/project/tests/dat_"));
	check(!may_match(&absolute, "/srv/project/src"));
	starts_add(&below, "data", 4);
	check(may_match(&below, "data/x") && may_match(&below, "d") && may_match(&below, "../x"));
	check(!may_match(&below, "src/data"));
	starts_add(&all, "", 0);
	check(may_match(&all, "src/data") && may_match(&all, "x"));
}

static const struct tap_test tests[] = { TAP_TEST(plain), TAP_TEST(matching) };

TAP_MAIN(tests)
