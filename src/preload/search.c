/* SPDX-License-Identifier: MIT */
/*
 * Where the loader looks for libraries: in the directories that programs and libraries name, which it opens by itself. Of those that
 * are shown it is told the real ones; $ORIGIN of what lies in a fixture is where the program sees it.
 */
#include "preload/search.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/elf.h"
#include "base/path.h"

#define FILES_MAX 64 /* of one program that are looked into */
#define DEPTH_MAX 10

/* What is searched for one file; those that it needs are searched in turn. */
struct search {
	search_fn found;
	void *arg;
	int files;
};

struct search_file {
	struct search *search;
	const struct search_file *needed_by;
	int depth;
	const char *name;
	const char *visible; /* its path */
	bool shown;
	char directories[PATH_MAX]; /* visible, with a colon behind each */
};

/* "$ORIGIN/../lib" as the program means it. False: it does not fit. */
static APART bool expand(const struct search_file *f, const char *directory, size_t n, char *out, bool *origin)
{
	static const char *const names[] = { "$ORIGIN", "${ORIGIN}" };
	const char *slash = strrchr(f->visible, '/'), *base = "/";
	char text[PATH_MAX], here[PATH_MAX];
	int k = 0;

	*origin = false;
	for (size_t i = 0; i < 2; i++) {
		size_t length = strlen(names[i]);

		if (n >= length && !strncmp(directory, names[i], length)) {
			*origin = true;
			k = (int)length;
		}
	}
	k = snprintf(text, sizeof text, "%.*s%.*s", *origin ? (int)(slash - f->visible) : 0, f->visible, (int)n - k, directory + k);
	if (*text != '/')
		base = cwd_cache_visible(here);
	return k < (int)sizeof text && base && path_normalize(base, text, out, PATH_MAX);
}

/* Tells of the directory, unless the loader finds it there by itself, or there is none. */
static void tell_directory(const struct search_file *f, const char *visible, bool origin)
{
	struct resolved p;

	if (resolve_reach(AT_FDCWD, visible) == REACH_INSIDE) {
		int found = resolve_path(&p, AT_FDCWD, visible, USE_READ);

		/* Where libraries are copied to that the kernel would not execute. */
		if (found == 1 && resolve_is_noexec(&p))
			found = resolve_path(&p, AT_FDCWD, visible, USE_CHANGE);
		if (found == 1 && !p.image)
			f->search->found(f->search->arg, SEARCH_DIRECTORY, p.path);
	} else if (origin && f->shown) {
		f->search->found(f->search->arg, SEARCH_DIRECTORY, visible);
	}
}

static void add_directories(struct search_file *f, const char *list)
{
	char visible[PATH_MAX];
	size_t used = strlen(f->directories);
	bool origin;

	for (const char *p = list; *p;) {
		size_t n = strcspn(p, ":");

		if (n && expand(f, p, n, visible, &origin)) {
			tell_directory(f, visible, origin);
			if (used + strlen(visible) + 2 < sizeof f->directories) {
				char *end = stpcpy(f->directories + used, visible);

				strcpy(end, ":");
				used = (size_t)(end + 1 - f->directories);
			}
		}
		p += n;
		p += *p == ':';
	}
}

static void look_into(struct search *s, const struct search_file *needed_by, const char *name, const char *visible);

static bool is_known(const struct search_file *f, const char *name)
{
	for (; f; f = f->needed_by) {
		if (f->name && !strcmp(f->name, name))
			return true;
	}
	return false;
}

/* In the directories of whoever needs it, and of whoever needs that. */
static void add_needed(struct search_file *f, const char *name)
{
	char path[PATH_MAX], real[PATH_MAX];
	struct resolved p;

	if (is_known(f, name) || strchr(name, '/'))
		return;
	for (const struct search_file *by = f; by; by = by->needed_by) {
		for (const char *d = by->directories; *d; d += strcspn(d, ":") + 1) {
			if (snprintf(path, sizeof path, "%.*s/%s", (int)strcspn(d, ":"), d, name) >= (int)sizeof path)
				continue;
			strcpy(real, path);
			if (resolve_reach(AT_FDCWD, path) == REACH_INSIDE) {
				if (resolve_path(&p, AT_FDCWD, path, USE_READ) != 1 || p.image ||
				    (resolve_is_noexec(&p) && resolve_program(&p, path) != 1))
					continue;
				strcpy(real, p.path);
			}
			if (REAL(access)(real, R_OK) < 0)
				continue;
			look_into(f->search, f, name, path);
			f->search->found(f->search->arg, SEARCH_LIBRARY, real);
			return;
		}
	}
}

static bool each_string(void *arg, enum elf_string what, const char *string)
{
	struct search_file *f = arg;

	if (what == ELF_SEARCH)
		add_directories(f, string);
	else
		add_needed(f, string);
	return true;
}

static void look_into(struct search *s, const struct search_file *needed_by, const char *name, const char *visible)
{
	struct search_file f = { .search = s,
				 .needed_by = needed_by,
				 .depth = needed_by ? needed_by->depth + 1 : 0,
				 .name = name,
				 .visible = visible,
				 .shown = resolve_reach(AT_FDCWD, visible) == REACH_INSIDE };
	const char *path = visible;
	struct resolved p;
	int fd;

	if (s->files++ >= FILES_MAX || f.depth > DEPTH_MAX || (f.shown && resolve_path(&p, AT_FDCWD, visible, USE_READ) != 1))
		return;
	if (f.shown)
		path = p.path;
	fd = REAL(open)(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return;
	elf_strings(fd, each_string, &f);
	REAL(close)(fd);
}

void search_libraries(const char *path, search_fn found, void *arg)
{
	struct search s = { .found = found, .arg = arg };
	char here[PATH_MAX], visible[PATH_MAX];
	int saved = errno;

	if ((*path == '/' || cwd_cache_visible(here)) && path_normalize(*path == '/' ? "/" : here, path, visible, sizeof visible))
		look_into(&s, NULL, NULL, visible);
	errno = saved;
}
