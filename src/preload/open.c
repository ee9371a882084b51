/* SPDX-License-Identifier: MIT */
/* Opening files. */
#include "preload/resolve.h"

#include <mntent.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/fd.h"

/* Nothing is done after the call that is not needed: what is not written to and not asked for below it is not noted. */
#define NOTED_FLAGS (O_ACCMODE | O_DIRECTORY | O_PATH)

static bool writes(int flags)
{
	return !(flags & O_PATH) && ((flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC)) || (flags & O_TMPFILE) == O_TMPFILE);
}

static int open_the_image(const struct run_entry *e, int flags)
{
	struct stat st = { .st_mode = S_IFREG | e->mode, .st_uid = e->uid, .st_gid = e->gid };

	/* That fails with any file. */
	if (flags & O_DIRECTORY)
		return REAL(open)(run_string(run->lock), flags);
	if (!(flags & O_PATH) && rights_allow(&st, R_OK, true) < 0)
		return -1;
	return image_open(e, flags & ~(O_NOFOLLOW | O_CREAT));
}

/* Nothing is made private for what will fail, or for O_CREAT of a file that is there. */
static bool will_change(struct resolved *p, int flags)
{
	struct stat st;

	if (stat_place(p, &st, true) < 0)
		return flags & O_CREAT;
	if (S_ISDIR(st.st_mode))
		return (flags & O_TMPFILE) == O_TMPFILE;
	return (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC);
}

/* Nobody will see the old bytes: it will be opened and emptied, without fail. */
static bool replaces(struct resolved *p, int flags)
{
	int saved = errno;
	struct stat st;
	bool sure = (flags & O_TRUNC) && !(flags & O_DIRECTORY) && stat_place(p, &st, true) == 0 && S_ISREG(st.st_mode) &&
		    rights_allow(&st, (flags & O_ACCMODE) == O_WRONLY ? W_OK : R_OK | W_OK, true) == 0;

	errno = saved;
	return sure;
}

static APART int open_shown(int dirfd, const char *path, int flags, mode_t mode)
{
	unsigned how = flags & O_NOFOLLOW ? USE_NOFOLLOW : 0;
	struct resolved p;
	int r, fd;

	if ((flags & O_CREAT) && *path && path[strlen(path) - 1] == '/') {
		/* What is said of the path is said before any look at what is there. */
		r = resolve_path(&p, dirfd, path, USE_READ | USE_LAST);
	} else if ((flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL)) {
		r = place_to_make(&p, dirfd, path);
	} else {
		r = resolve_path(&p, dirfd, path, USE_READ | how);
		if (r == 1 && p.entry && writes(flags) && will_change(&p, flags))
			r = resolve_path(&p, dirfd, path, (replaces(&p, flags) ? USE_REPLACE : USE_CHANGE) | how);
	}
	if (r < 0)
		return -1;
	if (r == 0)
		return REAL(openat)(dirfd, path, flags, mode);
	fd = p.entry && p.image ? open_the_image(p.entry, flags) : REAL(openat)(AT_FDCWD, short_path(&p), flags, mode);
	/* Elsewhere the way has led out of the fixture. */
	fd_cache_opened(fd, p.entry ? REACH_INSIDE : path_table_reach(p.visible, &p.entry));
	return fd;
}

static __attribute__((used)) HOT int open_any(int dirfd, const char *path, int flags, mode_t mode)
{
	enum reach reach = resolve_reach(dirfd, path);
	int fd;

	if (likely(reach == REACH_OUTSIDE && !(flags & NOTED_FLAGS)))
		return REAL(openat)(dirfd, path, flags, mode);
	if (reach == REACH_INSIDE)
		return open_shown(dirfd, path, flags, mode);
	fd = REAL(openat)(dirfd, path, flags, mode);
	fd_cache_opened(fd, reach);
	return fd;
}

/*
 * Variadic in the headers only: all ABIs of 64-bit Linux pass these arguments as if they were named. Where a program gives no
 * mode, no flag asks for one.
 */
SHIM_ALIAS(openat, open_any);
SHIM_ALIAS(openat64, open_any);

static __attribute__((used)) HOT int open_here(const char *path, int flags, mode_t mode)
{
	if (likely(!(flags & NOTED_FLAGS) && resolve_is_outside(path)))
		return REAL(open)(path, flags, mode);
	return open_any(AT_FDCWD, path, flags, mode);
}
SHIM_ALIAS(open, open_here);
SHIM_ALIAS(open64, open_here);
SHIM_ALIAS(__open, open_here);
SHIM_ALIAS(__open64, open_here);

SHIM int creat(const char *path, mode_t mode)
{
	return open_any(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, mode);
}
SHIM_ALIAS(creat64, creat);

/* What programs with _FORTIFY_SOURCE call when there is no mode. */
int __open_2(const char *path, int flags);
int __openat_2(int dirfd, const char *path, int flags);

SHIM int __open_2(const char *path, int flags)
{
	return open_any(AT_FDCWD, path, flags, 0);
}
SHIM_ALIAS(__open64_2, __open_2);

SHIM int __openat_2(int dirfd, const char *path, int flags)
{
	return open_any(dirfd, path, flags, 0);
}
SHIM_ALIAS(__openat64_2, __openat_2);

/* Streams. */

static int flags_of(const char *mode)
{
	bool update = mode[strcspn(mode, "+,")] == '+';
	int flags = update ? O_RDWR : *mode == 'r' ? O_RDONLY : O_WRONLY;

	if (*mode == 'w')
		flags |= O_CREAT | O_TRUNC;
	else if (*mode == 'a')
		flags |= O_CREAT | O_APPEND;
	if (mode[strcspn(mode, "x,")] == 'x')
		flags |= O_EXCL;
	if (mode[strcspn(mode, "e,")] == 'e')
		flags |= O_CLOEXEC;
	return flags;
}

static APART FILE *fopen_shown(const char *path, const char *mode)
{
	FILE *f;
	int fd;

	if (!strchr("rwa", *mode) || !*mode) {
		errno = EINVAL;
		return NULL;
	}
	fd = open_shown(AT_FDCWD, path, flags_of(mode), 0666);
	f = fd < 0 ? NULL : fdopen(fd, mode);
	if (!f)
		fd_close(fd);
	return f;
}

SHIM FILE *fopen(const char *restrict path, const char *restrict mode)
{
	enum reach reach = resolve_reach(AT_FDCWD, path);
	FILE *f;

	if (reach == REACH_INSIDE)
		return fopen_shown(path, mode);
	f = REAL(fopen)(path, mode);
	if (f)
		fd_cache_opened(fileno(f), reach);
	return f;
}
SHIM_ALIAS(fopen64, fopen);
SHIM_ALIAS(_IO_fopen, fopen);

/* The stream opens it again, by a path: that of a descriptor which is here only until then. */
static APART FILE *freopen_shown(const char *path, const char *mode, FILE *stream)
{
	int flags = flags_of(mode), fd = open_shown(AT_FDCWD, path, flags, 0666);
	char link[32], again[8];
	FILE *f;

	if (fd < 0) {
		int err = errno;

		SEEN(fclose)(stream);
		errno = err;
		return NULL;
	}
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	/* It was emptied already, and is there. */
	snprintf(again, sizeof again, "%s%s",
		 *mode == 'a'	  ? (flags & O_RDWR ? "a+" : "a")
		 : flags & O_RDWR ? "r+"
		 : *mode == 'w'	  ? "w"
				  : "r",
		 flags & O_CLOEXEC ? "e" : "");
	f = REAL(freopen)(link, again, stream);
	fd_close(fd);
	if (f)
		fd_cache_opened(fileno(f), REACH_INSIDE);
	return f;
}

SHIM FILE *freopen(const char *restrict path, const char *restrict mode, FILE *restrict stream)
{
	char visible[PATH_MAX];
	bool shared;
	int fd = fileno(stream);
	FILE *f;

	/* Without a path it is opened once more as what it is. */
	if (!path && run && fd_cache_entry_of(fd, visible, sizeof visible, &shared) && shared)
		return freopen_shown(visible, mode, stream);
	if (path && resolve_reach(AT_FDCWD, path) == REACH_INSIDE)
		return freopen_shown(path, mode, stream);
	fd_cache_closed(fd);
	f = REAL(freopen)(path, mode, stream);
	if (f)
		fd_cache_closed(fileno(f));
	return f;
}
SHIM_ALIAS(freopen64, freopen);

/* As libc opens it. */
SHIM FILE *setmntent(const char *path, const char *mode)
{
	char how[16];
	FILE *f;

	if (resolve_reach(AT_FDCWD, path) != REACH_INSIDE)
		return REAL(setmntent)(path, mode);
	snprintf(how, sizeof how, "%.8sce", mode);
	f = fopen_shown(path, how);
	if (f)
		__fsetlocking(f, FSETLOCKING_BYCALLER);
	return f;
}
SHIM_ALIAS(__setmntent, setmntent);

/* Temporary files: the real function fills in the name, which the program gets back. */

static bool open_take_name(char *template, const char *path, int suffix)
{
	size_t n = strlen(template), real = strlen(path), length = 6 + (size_t)suffix;

	if (suffix < 0 || n < length || real < length) {
		errno = EINVAL;
		return false;
	}
	memcpy(template + n - length, path + real - length, 6);
	return true;
}

static APART int mkostemps_shown(char *template, int suffix, int flags)
{
	struct resolved p;
	int r = resolve_path(&p, AT_FDCWD, template, USE_CHANGE | USE_NOFOLLOW), fd;

	if (r == 1 && p.entry && p.entry->kind == RUN_FILE)
		r = 0;
	if (r <= 0)
		return r < 0 ? -1 : REAL(mkostemps)(template, suffix, flags);
	fd = REAL(mkostemps)(p.path, suffix, flags);
	if (fd >= 0 && !open_take_name(template, p.path, suffix))
		return fd_close(fd);
	fd_cache_opened(fd, REACH_INSIDE);
	return fd;
}

SHIM int mkstemp(char *template)
{
	return is_inside(AT_FDCWD, template) ? mkostemps_shown(template, 0, 0) : REAL(mkstemp)(template);
}
SHIM_ALIAS(mkstemp64, mkstemp);

SHIM int mkostemp(char *template, int flags)
{
	return is_inside(AT_FDCWD, template) ? mkostemps_shown(template, 0, flags) : REAL(mkostemp)(template, flags);
}
SHIM_ALIAS(mkostemp64, mkostemp);

SHIM int mkstemps(char *template, int suffix)
{
	return is_inside(AT_FDCWD, template) ? mkostemps_shown(template, suffix, 0) : REAL(mkstemps)(template, suffix);
}
SHIM_ALIAS(mkstemps64, mkstemps);

SHIM int mkostemps(char *template, int suffix, int flags)
{
	return is_inside(AT_FDCWD, template) ? mkostemps_shown(template, suffix, flags) : REAL(mkostemps)(template, suffix, flags);
}
SHIM_ALIAS(mkostemps64, mkostemps);

SHIM char *mkdtemp(char *template)
{
	struct resolved p;
	int r = is_inside(AT_FDCWD, template) ? resolve_path(&p, AT_FDCWD, template, USE_CHANGE | USE_NOFOLLOW) : 0;

	if (r <= 0)
		return r < 0 ? NULL : REAL(mkdtemp)(template);
	return REAL(mkdtemp)(p.path) && open_take_name(template, p.path, 0) ? template : NULL;
}

/* Names of files that are not there yet: libc would look for them where they are not shown. */

#define TRIES 10000

/* 0, or -1 and errno. */
static int invent_name(char *template)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
	size_t n = strlen(template);
	int saved = errno;
	struct stat st;

	if (n < 6 || strcmp(template + n - 6, "XXXXXX") != 0) {
		errno = EINVAL;
		return -1;
	}
	for (int k = 0; k < TRIES; k++) {
		unsigned char random[6];

		if (getrandom(random, sizeof random, 0) < 0)
			return -1;
		for (size_t i = 0; i < sizeof random; i++)
			template[n - 6 + i] = letters[random[i] % (sizeof letters - 1)];
		if (SEEN(lstat)(template, &st) == 0)
			continue;
		if (errno != ENOENT)
			return -1;
		errno = saved;
		return 0;
	}
	errno = EEXIST;
	return -1;
}

SHIM char *mktemp(char *template)
{
	if (!is_inside(AT_FDCWD, template))
		return REAL(mktemp)(template);
	if (invent_name(template) < 0)
		*template = '\0';
	return template;
}
SHIM_ALIAS(__mktemp, mktemp);

static bool is_directory(const char *path)
{
	int saved = errno;
	struct stat st;
	bool is = path && *path && SEEN(stat)(path, &st) == 0 && S_ISDIR(st.st_mode);

	errno = saved;
	return is;
}

SHIM char *tempnam(const char *dir, const char *prefix)
{
	const char *first = run ? secure_getenv("TMPDIR") : NULL;
	char *name;

	/* As libc chooses: the variable, if there is such a directory, then what the program says. */
	if (is_directory(first))
		dir = first;
	if (!run || !dir || !is_inside(AT_FDCWD, dir) || !is_directory(dir))
		return REAL(tempnam)(dir, prefix);
	if (asprintf(&name, "%s/%.5sXXXXXX", dir, prefix && *prefix ? prefix : "file") < 0)
		return NULL;
	if (invent_name(name) < 0) {
		free(name);
		return NULL;
	}
	return name;
}

SHIM int truncate(const char *path, off_t length)
{
	struct resolved p;
	int r = is_inside(AT_FDCWD, path) ? place_to_change(&p, AT_FDCWD, path, 0) : 0;

	return r < 0 ? -1 : REAL(truncate)(r ? p.path : path, length);
}
SHIM_ALIAS(truncate64, truncate);
