/* SPDX-License-Identifier: MIT */
/*
 * Where the loader looks for libraries: in the directories that programs and libraries name, which it opens by itself. Of those that
 * are shown it is told the real ones; $ORIGIN of what lies in a fixture is where the program sees it.
 */
#include "preload/search.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/elf.h"
#include "base/fd.h"
#include "base/path.h"

#define FILES_MAX 64 /* of one program that are looked into */
#define DEPTH_MAX 10

struct search;

/* One of the files that need each other; their lists are cut where they do not fit. */
struct search_file {
	struct search *search;
	bool shown;		    /* it lies in a fixture */
	char visible[PATH_MAX];	    /* where it lies, not a link to it */
	char directories[PATH_MAX]; /* where it looks, visible, with a colon behind each */
	char needed[PATH_MAX];	    /* names, each with NUL; an empty one is the end */
	char candidate[PATH_MAX], real[PATH_MAX];
	struct resolved place;
};

/* What is searched for one file; those that it needs are searched in turn. Much of it is never touched. */
struct search {
	search_fn found;
	void *arg;
	const char *here; /* or NULL */
	int files;
	char cwd[PATH_MAX], text[PATH_MAX], directory[PATH_MAX];
	char seen[2 * PATH_MAX]; /* names that were looked for, as search_file::needed */
	char more[PATH_MAX];	 /* LD_LIBRARY_PATH, as search_file::directories */
	struct search_file file[DEPTH_MAX + 1];
};

/* "$ORIGIN/../lib" as the program means it, in search::directory. False: it does not fit. */
static bool expand(const struct search_file *f, const char *directory, size_t n, bool *origin)
{
	static const char *const names[] = { "$ORIGIN", "${ORIGIN}" };
	struct search *s = f->search;
	const char *slash = strrchr(f->visible, '/');
	int k = 0;

	*origin = false;
	if (!slash && *directory == '$')
		return false;
	for (size_t i = 0; i < 2; i++) {
		size_t length = strlen(names[i]);

		if (n >= length && !strncmp(directory, names[i], length)) {
			*origin = true;
			k = (int)length;
		}
	}
	k = snprintf(s->text, sizeof s->text, "%.*s%.*s", *origin ? (int)(slash - f->visible) : 0, f->visible, (int)n - k, directory + k);
	return k < (int)sizeof s->text && (*s->text == '/' || s->here) &&
	       path_normalize(*s->text == '/' ? "/" : s->here, s->text, s->directory, sizeof s->directory);
}

/* Tells of search::directory, unless the loader finds it there by itself, or there is none. */
static void tell_directory(struct search_file *f, bool origin)
{
	struct search *s = f->search;

	if (resolve_reach(AT_FDCWD, s->directory) == REACH_INSIDE) {
		int found = resolve_path(&f->place, AT_FDCWD, s->directory, USE_READ);

		/* Where libraries are copied to that the kernel would not execute. */
		if (found == 1 && resolve_is_noexec(&f->place))
			found = resolve_path(&f->place, AT_FDCWD, s->directory, USE_CHANGE);
		if (found == 1 && !f->place.image)
			s->found(s->arg, SEARCH_DIRECTORY, f->place.path);
	} else if (origin && f->shown) {
		s->found(s->arg, SEARCH_DIRECTORY, s->directory);
	}
}

/* `list`: of directories, whose parts end with one of `ends`. */
static void add_directories(struct search_file *f, const char *list, const char *ends, char out[PATH_MAX], bool told)
{
	size_t used = strlen(out), n;
	bool origin;

	for (const char *p = list; *p; p += n + (p[n] != '\0')) {
		n = strcspn(p, ends);
		if (n == 0 || !expand(f, p, n, &origin))
			continue;
		if (told)
			tell_directory(f, origin);
		if (used + strlen(f->search->directory) + 2 < PATH_MAX)
			used = (size_t)(stpcpy(stpcpy(out + used, f->search->directory), ":") - out);
	}
}

static void add_needed(struct search_file *f, const char *name)
{
	size_t used = 0, n = strlen(name) + 1;

	for (; f->needed[used]; used += strlen(f->needed + used) + 1)
		;
	/* A path is no matter of directories. */
	if (strchr(name, '/') || used + n + 1 > sizeof f->needed)
		return;
	memcpy(f->needed + used, name, n);
	f->needed[used + n] = '\0';
}

static bool each_string(void *arg, enum elf_string what, const char *string)
{
	struct search_file *f = arg;

	if (what == ELF_SEARCH)
		add_directories(f, string, ":", f->directories, true);
	else
		add_needed(f, string);
	return true;
}

/* In one of the directories, at search_file::candidate, which is really at search_file::real. */
static bool find_in(struct search_file *f, const char *directories, const char *name)
{
	for (const char *d = directories; *d; d += strcspn(d, ":") + 1) {
		if (snprintf(f->candidate, PATH_MAX, "%.*s/%s", (int)strcspn(d, ":"), d, name) >= PATH_MAX)
			continue;
		strcpy(f->real, f->candidate);
		if (resolve_reach(AT_FDCWD, f->candidate) == REACH_INSIDE) {
			if (resolve_path(&f->place, AT_FDCWD, f->candidate, USE_READ) != 1 || f->place.image ||
			    (resolve_is_noexec(&f->place) && resolve_program(&f->place, f->candidate) != 1))
				continue;
			strcpy(f->real, f->place.path);
		}
		if (REAL(access)(f->real, R_OK) == 0)
			return true;
	}
	return false;
}

/* One name stands for one library, as for the loader. */
static bool is_known(struct search *s, const char *name)
{
	size_t used = 0, n = strlen(name) + 1;

	for (; s->seen[used]; used += strlen(s->seen + used) + 1) {
		if (!strcmp(s->seen + used, name))
			return true;
	}
	if (used + n + 1 <= sizeof s->seen) {
		memcpy(s->seen + used, name, n);
		s->seen[used + n] = '\0';
	}
	return false;
}

static bool look_into(struct search *s, int depth, const char *path);

/* In the directories of whoever needs it, and of whoever needs that. True: it, or something that it needs, lies in a fixture. */
static bool look_for(struct search *s, int depth, const char *name)
{
	struct search_file *f = &s->file[depth];
	bool found, shown;

	if (is_known(s, name))
		return false;
	found = find_in(f, s->more, name);
	for (int i = depth; i >= 0 && !found; i--)
		found = find_in(f, s->file[i].directories, name);
	if (!found)
		return false;
	shown = resolve_reach(AT_FDCWD, f->candidate) == REACH_INSIDE;
	shown |= look_into(s, depth + 1, f->candidate);
	/* All else the loader finds as it does without us. */
	if (shown || f->shown)
		s->found(s->arg, SEARCH_LIBRARY, f->real);
	return shown;
}

/* Where the open file lies, as the program sees it. */
static bool find_place(struct search_file *f, int fd)
{
	char link[FD_PATH_SIZE];
	ssize_t n = REAL(readlink)(fd_path(fd, link), f->visible, sizeof f->visible - 1);

	if (n <= 0 || *f->visible != '/')
		return false;
	f->visible[n] = '\0';
	f->shown = resolve_visible(f->visible, sizeof f->visible);
	return true;
}

static bool look_into(struct search *s, int depth, const char *path)
{
	struct search_file *f = &s->file[depth];
	bool shown = false;
	int fd;

	if (s->files++ >= FILES_MAX || depth > DEPTH_MAX)
		return false;
	f->search = s;
	*f->directories = *f->needed = '\0';
	if (resolve_reach(AT_FDCWD, path) == REACH_INSIDE && resolve_path(&f->place, AT_FDCWD, path, USE_READ) != 1)
		return false;
	fd = REAL(open)(resolve_reach(AT_FDCWD, path) == REACH_INSIDE ? f->place.path : path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return false;
	if (find_place(f, fd))
		elf_strings(fd, each_string, f);
	REAL(close)(fd);
	for (const char *n = f->needed; *n; n += strlen(n) + 1)
		shown |= look_for(s, depth, n);
	return shown;
}

static void begin(struct search *s, const char *path, const char *more)
{
	struct search_file *f = s->file;

	s->here = cwd_cache_visible(s->cwd);
	f->search = s;
	if (more)
		add_directories(f, more, ":;", s->more, false);
	if (!strchr(path, '/') && find_in(f, s->more, path))
		look_into(s, 0, strcpy(s->text, f->candidate));
	else if (strchr(path, '/') && (*path == '/' || s->here) &&
		 path_normalize(*path == '/' ? "/" : s->here, path, s->text, sizeof s->text))
		look_into(s, 0, s->text);
}

void search_libraries(const char *path, const char *more, search_fn found, void *arg)
{
	int saved = errno;
	/* The caller's stack may be small, and in a handler of a signal there is no malloc(). */
	struct search *s = (void *)kernel(SYS_mmap, NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (s != MAP_FAILED) {
		s->found = found;
		s->arg = arg;
		begin(s, path, more);
		kernel(SYS_munmap, s, sizeof *s);
	}
	errno = saved;
}
