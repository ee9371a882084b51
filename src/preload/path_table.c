/* SPDX-License-Identifier: MIT */
/* The paths of the table as text. */
#include "preload/resolve.h"

#include <string.h>

#include "base/path.h"

/* Paths that begin alike: the scratch directory's, those of fixd.ini with their other names, and ways to descriptors. */
enum { GROUP_SCRATCH, GROUP_PATHS, GROUPS_FOUND, GROUPS = GROUPS_FOUND + 3 };

static struct start groups[GROUPS_FOUND];
/* The others; not as pointers, which the loader would have to fill in. */
static const char fixed_groups[][sizeof "/dev/std"] = { "/proc/", "/dev/fd/", "/dev/std" };
struct starts absolute_starts;

bool has_parent(const char *path)
{
	for (const char *p = strstr(path, ".."); p; p = strstr(p + 1, "..")) {
		if ((p == path || p[-1] == '/') && (p[2] == '/' || p[2] == '\0'))
			return true;
	}
	return false;
}

static void path_table_add(struct start *g, const char *s)
{
	size_t n = 0;

	if (!g->text) {
		*g = (struct start){ .text = s, .length = strlen(s) };
		return;
	}
	while (n < g->length && s[n] == g->text[n])
		n++;
	g->length = n;
}

static struct start group_at(int g)
{
	const char *text;

	if (g < GROUPS_FOUND)
		return groups[g];
	text = fixed_groups[g - GROUPS_FOUND];
	return (struct start){ .text = text, .length = strlen(text) };
}

static const struct run_alias *aliases(void)
{
	return (const struct run_alias *)(const void *)((const char *)run + run->aliases);
}

void path_table_begin(void)
{
	const char *scratch = run_string(run->scratch);

	for (uint32_t i = 0; i < run->n_entries; i++) {
		const char *path = run_string(run_entries()[i].path);

		path_table_add(&groups[path_below(path, scratch) ? GROUP_SCRATCH : GROUP_PATHS], path);
	}
	for (uint32_t i = 0; i < run->n_aliases; i++)
		path_table_add(&groups[GROUP_PATHS], run_string(aliases()[i].from));
	absolute_starts.deciding = 1;
	for (int g = 0; g < GROUPS; g++) {
		struct start group = group_at(g);

		if (group.text)
			starts_add(&absolute_starts, group.text, group.length);
	}
}

enum reach path_table_reach(const char *path, struct run_entry **entry)
{
	struct run_entry *e = run_entries();
	enum reach reach = REACH_OUTSIDE;

	*entry = NULL;
	for (uint32_t i = 0; i < run->n_entries; i++) {
		const char *shown = run_string(e[i].path);

		if (path_below(path, shown)) {
			*entry = &e[i];
			return REACH_INSIDE;
		}
		if (path_below(shown, path))
			reach = REACH_ANCESTOR;
	}
	for (uint32_t i = 0; reach == REACH_OUTSIDE && i < run->n_aliases; i++) {
		if (path_below(run_string(aliases()[i].from), path))
			reach = REACH_ANCESTOR;
	}
	return reach;
}

void path_table_starts_below(struct starts *s, const char *directory)
{
	size_t n = strlen(directory);
	struct run_entry *e;
	/* What is not near any of them begins like them at best. */
	int first = path_table_reach(directory, &e) == REACH_OUTSIDE ? GROUPS_FOUND : 0;

	*s = (struct starts){ 0 };
	for (int g = first; g < GROUPS; g++) {
		struct start group = group_at(g);
		const char *text = group.text;
		size_t length = group.length, common = n < length ? n : length;

		if (!text || memcmp(text, directory, common) != 0)
			continue;
		if (length <= n)
			starts_add(s, text, 0); /* all that is below begins so */
		else if (n == 1)
			starts_add(s, text + 1, length - 1);
		else if (text[n] == '/')
			starts_add(s, text + n + 1, length - n - 1);
	}
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

bool path_table_alias(char *path, size_t room)
{
	for (uint32_t i = 0; i < run->n_aliases; i++) {
		const char *rest = path_below(path, run_string(aliases()[i].from));

		if (rest)
			return replace_start(path, room, rest, run_string(aliases()[i].to));
	}
	return true;
}

bool resolve_visible(char *path, size_t room)
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
