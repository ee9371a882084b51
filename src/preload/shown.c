/* SPDX-License-Identifier: MIT */
/* The paths of the table as text. */
#include "preload/where.h"

#include <string.h>

#include "base/path.h"

/* Paths that begin alike: the scratch directory's, those of fixd.ini with their other names, and ways to descriptors. */
enum { GROUP_SCRATCH, GROUP_PATHS, GROUP_PROC, GROUP_DEV_FD, GROUP_DEV_STD, GROUPS };

static struct group {
	const char *start; /* what all of them begin with */
	size_t length;
	uint64_t first, mask; /* its first eight bytes, and those of them that it has */
} groups[GROUPS];
static int n_groups;
static bool begins_one[256]; /* the second byte of their paths; the first is a slash */

/* Does a '/' or '.' stand behind a '/' among the nine bytes? May say so when it does not. */
static inline uint64_t odd_in(const char *p)
{
	const uint64_t ones = 0x0101010101010101, tops = 0x8080808080808080;
	uint64_t a, b, x;

	memcpy(&a, p, 8);
	memcpy(&b, p + 1, 8);
	/* '.' and '/' differ in the lowest bit only. */
	x = (a ^ (ones * '/')) | ((b | ones) ^ (ones * '/'));
	return (x - ones) & ~x & tops;
}

/* Few branches: after a system call none of them is predicted. */
bool is_plain(const char *path, size_t n)
{
	uint64_t odd = 0;

	if (n < 9) {
		for (size_t i = 0; i + 1 < n; i++)
			odd |= path[i] == '/' && (path[i + 1] | 1) == '/';
		return !odd;
	}
	for (size_t i = 0; i + 9 < n; i += 8)
		odd |= odd_in(path + i);
	return !(odd | odd_in(path + n - 9));
}

bool has_parent(const char *path)
{
	for (const char *p = strstr(path, ".."); p; p = strstr(p + 1, "..")) {
		if ((p == path || p[-1] == '/') && (p[2] == '/' || p[2] == '\0'))
			return true;
	}
	return false;
}

static void add(struct group *g, const char *s)
{
	size_t n = 0;

	if (!g->start) {
		*g = (struct group){ .start = s, .length = strlen(s) };
		return;
	}
	while (n < g->length && s[n] == g->start[n])
		n++;
	g->length = n;
}

static const struct run_alias *aliases(void)
{
	return (const struct run_alias *)(const void *)((const char *)run + run->aliases);
}

void shown_begin(void)
{
	const char *scratch = run_string(run->scratch);

	add(&groups[GROUP_PROC], "/proc/");
	add(&groups[GROUP_DEV_FD], "/dev/fd/");
	add(&groups[GROUP_DEV_STD], "/dev/std");
	for (uint32_t i = 0; i < run->n_entries; i++) {
		const char *path = run_string(run_entries()[i].path);

		add(&groups[path_below(path, scratch) ? GROUP_SCRATCH : GROUP_PATHS], path);
	}
	for (uint32_t i = 0; i < run->n_aliases; i++)
		add(&groups[GROUP_PATHS], run_string(aliases()[i].from));
	for (int g = 0; g < GROUPS; g++) {
		size_t n = groups[g].length < 8 ? groups[g].length : 8;

		if (!groups[g].start)
			continue;
		memset(begins_one + (groups[g].length > 1 ? (unsigned char)groups[g].start[1] : 0), 1, groups[g].length > 1 ? 1 : 256);
		groups[n_groups] = groups[g];
		memcpy(&groups[n_groups].first, groups[g].start, n);
		groups[n_groups++].mask = n < 8 ? (UINT64_C(1) << 8 * n) - 1 : UINT64_MAX;
	}
}

bool shown_may_be(const char *path, size_t n)
{
	uint64_t first = 0;

	if (n > 1 && likely(!begins_one[(unsigned char)path[1]]))
		return false;
	if (n < 8)
		memcpy(&first, path, n); /* the rest is 0, as in no group: it may be above one */
	else
		memcpy(&first, path, 8);
	for (int g = 0; g < n_groups; g++) {
		uint64_t mask = n < 8 ? groups[g].mask & ((UINT64_C(1) << 8 * n) - 1) : groups[g].mask;

		if (((first ^ groups[g].first) & mask) == 0 &&
		    !memcmp(path, groups[g].start, n < groups[g].length ? n : groups[g].length))
			return true;
	}
	return false;
}

enum reach shown_reach(const char *path, struct run_entry **entry)
{
	struct run_entry *e = run_entries();
	enum reach reach = REACH_FAR;

	*entry = NULL;
	for (uint32_t i = 0; i < run->n_entries; i++) {
		const char *shown = run_string(e[i].path);

		if (path_below(path, shown)) {
			*entry = &e[i];
			return REACH_SHOWN;
		}
		if (path_below(shown, path))
			reach = REACH_ABOVE;
	}
	for (uint32_t i = 0; reach == REACH_FAR && i < run->n_aliases; i++) {
		if (path_below(run_string(aliases()[i].from), path))
			reach = REACH_ABOVE;
	}
	return reach;
}

static bool replace_start(char *path, size_t room, const char *rest, const char *by)
{
	size_t n = strlen(by), length = strlen(rest);

	/* Below the root directory there is a slash already. */
	if (n == 1 && *rest)
		n = 0;
	if (n + length >= room)
		return false;
	memmove(path + n, rest, length + 1);
	memcpy(path, by, n);
	return true;
}

bool shown_alias(char *path, size_t room)
{
	for (uint32_t i = 0; i < run->n_aliases; i++) {
		const char *rest = path_below(path, run_string(aliases()[i].from));

		if (rest)
			return replace_start(path, room, rest, run_string(aliases()[i].to));
	}
	return true;
}

bool where_visible(char *path, size_t room)
{
	const struct run_entry *e = run_entries();

	for (uint32_t i = 0; i < run->n_entries; i++) {
		const char *rest = path_below(path, run_string(e[i].own));

		if (!rest && e[i].kind == RUN_TREE)
			rest = path_below(path, run_string(e[i].tree));
		if (rest)
			return replace_start(path, room, rest, run_string(e[i].path));
	}
	return false;
}
