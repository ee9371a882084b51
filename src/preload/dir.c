/* SPDX-License-Identifier: MIT */
/*
 * Listing directories. Those in a tree are listed as they are; a directory that a fixture is shown in has its name, too, whether
 * or not something lies there. libc's own scandir() and glob() would not come here, so they are led here.
 */
#include "preload/resolve.h"

#include <dirent.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/path.h"

/* A directory that fixtures are shown in, or that tells of descriptors, and that a program has open. */
struct listing {
	struct listing *next;
	DIR *dir;
	bool descriptors; /* "/proc/PID/fd" */
	uint32_t added;	  /* entries that were looked at after the end */
	struct dirent extra;
	char path[PATH_MAX]; /* visible */
	bool seen[];	     /* by entry: the directory has something of that name */
};

static struct listing *listings;
static _Atomic unsigned n_listings;

/* The name of the entry if it is shown in this directory. */
static const char *name_in(const struct run_entry *e, const char *directory)
{
	const char *rest = path_below(run_string(e->path), directory);

	if (rest && *rest == '/')
		rest++;
	return rest && *rest && !strchr(rest, '/') ? rest : NULL;
}

/* "/proc/PID/fd", fdinfo, and those of its threads. */
static bool lists_descriptors(const char *path)
{
	const char *name = strrchr(path, '/');

	return !strncmp(path, "/proc/", 6) && (!strcmp(name, "/fd") || !strcmp(name, "/fdinfo"));
}

/* Could it be one of them, by the name that a program has for it? */
static bool may_list_descriptors(const char *path)
{
	const char *end = strstr(path, "fd");

	while (end && strstr(end + 1, "fd"))
		end = strstr(end + 1, "fd");
	return run && end && (!strcmp(end, "fd") || !strcmp(end, "fd/") || !strcmp(end, "fdinfo"));
}

static void begin_listing(DIR *dir)
{
	const struct run_entry *e = run_entries();
	struct listing *l;
	bool any = false;
	char link[40];
	ssize_t n;

	l = calloc(1, sizeof *l + run->n_entries * sizeof *l->seen);
	if (!l)
		return;
	l->dir = dir;
	snprintf(link, sizeof link, "/proc/self/fd/%d", dirfd(dir));
	n = REAL(readlink)(link, l->path, sizeof l->path - 1);
	l->descriptors = any = n > 0 && lists_descriptors(l->path);
	for (uint32_t i = 0; n > 0 && i < run->n_entries; i++)
		any |= name_in(&e[i], l->path) != NULL;
	if (!any) {
		free(l);
		return;
	}
	lists_take();
	l->next = listings;
	listings = l;
	atomic_fetch_add(&n_listings, 1);
	lists_leave();
}

static struct listing *find_listing(DIR *dir, bool take)
{
	struct listing **p, *l;

	if (likely(atomic_load_explicit(&n_listings, memory_order_relaxed) == 0))
		return NULL;
	lists_take();
	for (p = &listings; *p && (*p)->dir != dir; p = &(*p)->next)
		;
	l = *p;
	if (l && take) {
		*p = l->next;
		atomic_fetch_sub(&n_listings, 1);
	}
	lists_leave();
	return l;
}

static DIR *opendir_outside(const char *path, enum reach reach)
{
	DIR *dir = REAL(opendir)(path);

	if (!dir)
		return NULL;
	fd_cache_opened(dirfd(dir), reach);
	if (reach == REACH_ANCESTOR || may_list_descriptors(path))
		begin_listing(dir);
	return dir;
}

static APART DIR *opendir_shown(const char *path)
{
	struct resolved p;
	int r = resolve_path(&p, AT_FDCWD, path, USE_READ);
	DIR *dir;

	if (r == 0)
		return REAL(opendir)(path);
	if (r < 0)
		return NULL;
	if (!p.entry)
		return opendir_outside(p.path, path_table_reach(p.visible, &p.entry));
	if (p.image) {
		errno = ENOTDIR;
		return NULL;
	}
	dir = REAL(opendir)(short_path(&p));
	if (dir)
		fd_cache_opened(dirfd(dir), REACH_INSIDE);
	return dir;
}

SHIM DIR *opendir(const char *path)
{
	enum reach reach = resolve_reach(AT_FDCWD, path);

	return reach == REACH_INSIDE ? opendir_shown(path) : opendir_outside(path, reach);
}

/* A directory of the shared tree that is not what counts any more. */
static void catch_up(int fd)
{
	char path[PATH_MAX];
	bool shared;
	struct run_entry *e = fd_cache_entry_of(fd, path, sizeof path, &shared);
	int now;

	if (!e || !shared || !entry_is_private(e))
		return;
	now = SEEN(open)(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (now >= 0 && REAL(dup3)(now, fd, REAL(fcntl)(fd, F_GETFD) & FD_CLOEXEC ? O_CLOEXEC : 0) >= 0)
		fd_cache_opened(fd, REACH_INSIDE);
	fd_close(now);
}

SHIM DIR *fdopendir(int fd)
{
	enum reach reach = resolve_reach(fd, ".");
	DIR *dir;

	if (reach == REACH_INSIDE)
		catch_up(fd);
	dir = REAL(fdopendir)(fd);
	if (dir && reach == REACH_ANCESTOR)
		begin_listing(dir);
	return dir;
}

/* As d_type has it, or 0: it is gone. */
static unsigned char type_of(const struct run_entry *e)
{
	unsigned char type = e->kind == RUN_FILE ? DT_REG : DT_DIR;
	int saved = errno;
	struct stat st;

	if (entry_is_private(e))
		type = REAL(lstat)(run_string(e->own), &st) == 0 ? IFTODT(st.st_mode) : 0;
	errno = saved; /* readdir() leaves it alone at the end */
	return type;
}

/* One of the run's, in this process or another one of the run: all have the same. */
static bool is_descriptor_of_ours(const struct listing *l, const char *name)
{
	char theirs[PATH_MAX], link[sizeof "/proc/self/fd/" + 16], path[PATH_MAX + 16], ours[PATH_MAX];
	int fd = atoi(name), saved = errno;
	ssize_t n, k;

	if (!fd_is_ours(fd))
		return false;
	snprintf(path, sizeof path, "%.*s/%d", (int)(strrchr(l->path, '/') - l->path + 3), l->path, fd);
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	n = REAL(readlink)(path, theirs, sizeof theirs);
	k = REAL(readlink)(link, ours, sizeof ours);
	errno = saved;
	return n > 0 && n == k && !memcmp(theirs, ours, (size_t)n);
}

/* What the kernel has listed; false: a fixture that is gone hides it. */
static bool take_listed(struct listing *l, struct dirent *d)
{
	struct run_entry *e = run_entries();

	if (l->descriptors)
		return !is_descriptor_of_ours(l, d->d_name);
	for (uint32_t i = 0; i < run->n_entries; i++) {
		const char *name = name_in(&e[i], l->path);

		if (!name || strcmp(name, d->d_name) != 0)
			continue;
		l->seen[i] = true;
		if (e[i].kind == RUN_FILE)
			d->d_ino = e[i].inode;
		d->d_type = type_of(&e[i]);
		return d->d_type != 0;
	}
	return true;
}

static struct dirent *next_added(struct listing *l)
{
	struct run_entry *e = run_entries();

	while (l->added < run->n_entries) {
		uint32_t i = l->added++;
		const char *name = name_in(&e[i], l->path);
		unsigned char type = name && !l->seen[i] ? type_of(&e[i]) : 0;

		if (!type)
			continue;
		l->extra = (struct dirent){
			.d_ino = e[i].inode ? e[i].inode : i + 1,
			.d_type = type,
			.d_reclen = sizeof l->extra,
		};
		memccpy(l->extra.d_name, name, '\0', sizeof l->extra.d_name - 1);
		return &l->extra;
	}
	return NULL;
}

/* A marker is listed as what it stands for. */
static APART void list_marker(int dirfd, struct dirent *d)
{
	const struct run_entry *e = run_entries();
	char target[PATH_MAX];
	int saved = errno;
	ssize_t n = REAL(readlinkat)(dirfd, d->d_name, target, sizeof target - 1);
	struct stat st;

	target[n > 0 ? n : 0] = '\0';
	for (uint32_t i = 0; n > 0 && i < run->n_entries; i++) {
		if (copyup_expand(&e[i], target) && REAL(lstat)(target, &st) == 0) {
			d->d_type = IFTODT(st.st_mode);
			d->d_ino = st.st_ino;
		}
	}
	errno = saved;
}

static void correct(int dirfd, struct dirent *d)
{
	if (run && d->d_type == DT_LNK)
		list_marker(dirfd, d);
	else if (inodes_are_there() && fd_cache_reach(dirfd) == REACH_INSIDE)
		d->d_ino = inodes_original(d->d_ino);
}

static struct dirent *read_one(DIR *dir)
{
	struct dirent *d = REAL(readdir)(dir);

	if (d)
		correct(dirfd(dir), d);
	return d;
}

/* As the kernel gives them, many at once; what is only shown there is not among them. */
SHIM ssize_t getdents64(int fd, void *buffer, size_t size)
{
	ssize_t n = REAL(getdents64)(fd, buffer, size);

	for (long at = 0; at < n; at += ((struct dirent *)((char *)buffer + at))->d_reclen)
		correct(fd, (struct dirent *)((char *)buffer + at));
	return n;
}

SHIM ssize_t getdirentries(int fd, char *restrict buffer, size_t size, off_t *restrict base)
{
	off_t before = lseek(fd, 0, SEEK_CUR);
	ssize_t n = SEEN(getdents64)(fd, buffer, size);

	if (n >= 0)
		*base = before;
	return n;
}
SHIM_ALIAS(getdirentries64, getdirentries);

SHIM struct dirent *readdir(DIR *dir)
{
	struct listing *l = find_listing(dir, false);
	struct dirent *d;

	do {
		d = read_one(dir);
	} while (l && d && !take_listed(l, d));
	return d || !l ? d : next_added(l);
}
SHIM_ALIAS(readdir64, readdir);

/* Deprecated, and still used: where nothing is added, the real one. */
SHIM int readdir_r(DIR *restrict dir, struct dirent *restrict entry, struct dirent **restrict result)
{
	struct dirent *d;
	int saved = errno, err;

	if (!run) {
		_Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wdeprecated-declarations\"");
		return REAL(readdir_r)(dir, entry, result);
		_Pragma("GCC diagnostic pop")
	}
	errno = 0;
	d = SEEN(readdir)(dir);
	err = d ? 0 : errno;
	errno = saved;
	if (d)
		memcpy(entry, d, d->d_reclen < sizeof *entry ? d->d_reclen : sizeof *entry);
	*result = d ? entry : NULL;
	return err;
}
SHIM_ALIAS(readdir64_r, readdir_r);

SHIM void rewinddir(DIR *dir)
{
	struct listing *l = find_listing(dir, false);

	if (l) {
		l->added = 0;
		memset(l->seen, 0, run->n_entries * sizeof *l->seen);
	}
	if (run)
		catch_up(dirfd(dir));
	REAL(rewinddir)(dir);
}

/* What the kernel has not listed comes at the end, however the end is reached. */
SHIM void seekdir(DIR *dir, long position)
{
	struct listing *l = find_listing(dir, false);

	if (l)
		l->added = 0;
	REAL(seekdir)(dir, position);
}

SHIM int closedir(DIR *dir)
{
	if (!is_null(dir)) {
		free(find_listing(dir, true));
		fd_cache_closed(dirfd(dir));
	}
	return REAL(closedir)(dir);
}

/* By opendir() and readdir() of above. */

typedef int (*filter_fn)(const struct dirent *);
typedef int (*order_fn)(const struct dirent **, const struct dirent **);

static void dir_free_names(struct dirent **names, size_t n)
{
	while (n > 0)
		free(names[--n]);
	free(names);
}

static int scan(DIR *dir, struct dirent ***out, filter_fn wanted, order_fn order)
{
	struct dirent **names = NULL, *d;
	size_t n = 0;
	int saved = errno, err;

	errno = 0;
	while ((d = SEEN(readdir)(dir))) {
		struct dirent **more;

		if (wanted && !wanted(d)) {
			errno = 0;
			continue;
		}
		more = realloc(names, (n + 1) * sizeof *names);
		if (more)
			names = more;
		if (!more || !(names[n] = malloc(d->d_reclen)))
			break;
		memcpy(names[n++], d, d->d_reclen);
		errno = 0;
	}
	err = errno;
	SEEN(closedir)(dir);
	errno = err ? err : saved;
	if (err) {
		dir_free_names(names, n);
		return -1;
	}
	if (order && n)
		qsort(names, n, sizeof *names, (int (*)(const void *, const void *))(void (*)(void))order);
	*out = names ? names : calloc(1, sizeof *names);
	return (int)n;
}

SHIM int scandirat(int dirfd_, const char *restrict path, struct dirent ***restrict out, filter_fn wanted, order_fn order)
{
	DIR *dir;
	int fd;

	if (resolve_reach(dirfd_, path) == REACH_OUTSIDE)
		return REAL(scandirat)(dirfd_, path, out, wanted, order);
	fd = SEEN(openat)(dirfd_, path, O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC);
	dir = fd < 0 ? NULL : SEEN(fdopendir)(fd);
	if (!dir) {
		fd_close(fd);
		return -1;
	}
	return scan(dir, out, wanted, order);
}
SHIM_ALIAS(scandirat64, scandirat);

SHIM int scandir(const char *restrict path, struct dirent ***restrict out, filter_fn wanted, order_fn order)
{
	if (resolve_reach(AT_FDCWD, path) == REACH_OUTSIDE)
		return REAL(scandir)(path, out, wanted, order);
	return SEEN(scandirat)(AT_FDCWD, path, out, wanted, order);
}
SHIM_ALIAS(scandir64, scandir);

/* Could the pattern match something of a fixture? The directories before the first wildcard tell. */
static bool pattern_is_far(const char *pattern)
{
	char start[PATH_MAX];
	size_t n = strcspn(pattern, "*?[\\~"), brace = strcspn(pattern, "{");

	/* There may be several. */
	if (brace < n)
		return false;

	if (n >= sizeof start)
		return true;
	while (n > 0 && pattern[n - 1] != '/')
		n--;
	memcpy(start, pattern, n);
	strcpy(start + n, n ? "" : ".");
	return *pattern != '~' && resolve_reach(AT_FDCWD, start) == REACH_OUTSIDE;
}

static struct dirent *glob_readdir(void *dir)
{
	return SEEN(readdir)(dir);
}

static void *glob_opendir(const char *path)
{
	return SEEN(opendir)(path);
}

static void glob_closedir(void *dir)
{
	SEEN(closedir)(dir);
}

SHIM int glob(const char *restrict pattern, int flags, int (*failed)(const char *, int), glob_t *restrict g)
{
	int r;

	if (!run || (flags & GLOB_ALTDIRFUNC) || pattern_is_far(pattern))
		return REAL(glob)(pattern, flags, failed, g);
	g->gl_opendir = glob_opendir;
	g->gl_readdir = glob_readdir;
	g->gl_closedir = glob_closedir;
	g->gl_stat = stat;
	g->gl_lstat = lstat;
	r = REAL(glob)(pattern, flags | GLOB_ALTDIRFUNC, failed, g);
	g->gl_flags &= ~GLOB_ALTDIRFUNC;
	return r;
}
SHIM_ALIAS(glob64, glob);
