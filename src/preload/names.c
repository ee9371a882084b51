/* SPDX-License-Identifier: MIT */
/* Two names: renaming, and linking. */
#include "preload/shim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/attributes.h"
#include "base/fd.h"
#include "base/path.h"

/* Two paths, of which at least one is shown: where both really are. */
struct pair {
	struct resolved from, to;
	int from_fd, to_fd;
	const char *from_path, *to_path;
};

static int find_side(struct resolved *p, int fd, const char *path, unsigned use, int *real_fd, const char **real_path)
{
	int r = is_inside(fd, path) ? resolve_path(p, fd, path, use) : 0;

	*real_fd = r == 1 ? AT_FDCWD : fd;
	*real_path = r == 0 ? path : p->image ? p->visible : p->path;
	if (r == 0)
		p->entry = NULL;
	return r < 0 ? -1 : 0;
}

static int find_from(struct pair *x, int fd, const char *path, unsigned use)
{
	return find_side(&x->from, fd, path, use, &x->from_fd, &x->from_path);
}

static int find_to(struct pair *x, int fd, const char *path, unsigned use)
{
	return find_side(&x->to, fd, path, use | USE_LAST, &x->to_fd, &x->to_path);
}

/* A FIFO or a device. */
static int copy_node(const struct pair *x, const struct stat *st, const char *draft, const struct timespec times[2])
{
	if (REAL(mknodat)(x->to_fd, draft, st->st_mode, st->st_rdev) < 0)
		return -1;
	return owner_copy_at(x->to_fd, draft, st->st_uid, st->st_gid) < 0 || REAL(fchmodat)(x->to_fd, draft, st->st_mode & 07777, 0) < 0
		       ? -1
		       : REAL(utimensat)(x->to_fd, draft, times, AT_SYMLINK_NOFOLLOW);
}

static bool is_copied(mode_t mode)
{
	return S_ISREG(mode) || S_ISLNK(mode) || S_ISFIFO(mode) || S_ISCHR(mode) || S_ISBLK(mode);
}

/* Its owner may rename what it may not read itself. */
static int open_to_copy(const struct pair *x, const struct stat *st)
{
	int fd = REAL(openat)(x->from_fd, x->from_path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	if (fd >= 0 || errno != EACCES || REAL(fchmodat)(x->from_fd, x->from_path, (st->st_mode & 07777) | 0400, 0) < 0)
		return fd;
	fd = REAL(openat)(x->from_fd, x->from_path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (REAL(fchmodat)(x->from_fd, x->from_path, st->st_mode & 07777, 0) == 0 || fd < 0)
		return fd;
	REAL(close)(fd);
	return -1;
}

static int copy_to(const struct pair *x, const struct stat *st, const char *draft)
{
	const struct timespec times[2] = { st->st_atim, st->st_mtim };
	_cleanup_fd_ int in = -1, out = -1;

	if (S_ISLNK(st->st_mode)) {
		char target[PATH_MAX];
		ssize_t n = REAL(readlinkat)(x->from_fd, x->from_path, target, sizeof target - 1);

		if (n < 0)
			return -1;
		target[n] = '\0';
		if (x->to.entry)
			__atomic_store_n(&x->to.entry->links, 1, __ATOMIC_RELEASE);
		else
			links_made(target, x->to_fd, x->to_path);
		return REAL(symlinkat)(target, x->to_fd, draft);
	}
	if (!S_ISREG(st->st_mode))
		return copy_node(x, st, draft, times);
	in = open_to_copy(x, st);
	if (in < 0)
		return -1;
	out = REAL(openat)(x->to_fd, draft, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (out < 0 || copyup_bytes(in, out, st->st_size) < 0)
		return -1;
	if (owner_copy(out, st->st_uid, st->st_gid) < 0 || attributes_copy(in, out, false, NULL, NULL) < 0)
		return -1;
	return REAL(fchmod)(out, st->st_mode & 07777) < 0 || REAL(futimens)(out, times) < 0 ? -1 : 0;
}

/* The directory of a path, to be looked at: with a slash and a dot. */
static void above(const char *path, char text[PATH_MAX])
{
	size_t n = place_length(path);

	while (n > 0 && path[n - 1] != '/')
		n--;
	snprintf(text, PATH_MAX, "%.*s.", (int)n, path);
}

/* What is at `path` may be taken away there: it is the last thing that is done. 0, or -1 and errno. */
static int check_removable(int fd, const char *path, const struct stat *st)
{
	char directory[PATH_MAX];
	struct stat in;
	uid_t uid = geteuid();

	above(path, directory);
	if (REAL(faccessat)(fd, directory, W_OK | X_OK, AT_EACCESS) < 0 || REAL(fstatat)(fd, directory, &in, 0) < 0)
		return -1;
	if (!(in.st_mode & S_ISVTX) || uid == 0 || uid == in.st_uid || uid == st->st_uid)
		return 0;
	errno = EPERM;
	return -1;
}

/* Beside `path`, a name that nobody else takes, neither a thread nor a process of another namespace. */
static int name_draft(const char *path, char draft[PATH_MAX])
{
	char directory[PATH_MAX];
	uint64_t random;

	if (kernel(SYS_getrandom, &random, sizeof random, 0) != sizeof random)
		return -1;
	above(path, directory);
	if (snprintf(draft, PATH_MAX, "%s/.fixd-%016llx~", directory, (unsigned long long)random) < PATH_MAX)
		return 0;
	errno = ENAMETOOLONG;
	return -1;
}

/* Between the scratch directory and elsewhere a name cannot move: a file is copied first. */
static APART int rename_by_copy(const struct pair *x, int flags)
{
	char draft[PATH_MAX];
	int err, to_directory = -1;
	struct stat st;

	if (REAL(fstatat)(x->to_fd, x->to_path, &st, AT_SYMLINK_NOFOLLOW) == 0)
		to_directory = S_ISDIR(st.st_mode);
	if (REAL(fstatat)(x->from_fd, x->from_path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -1;
	/* As if both were on one file system. */
	if (to_directory >= 0 && to_directory != S_ISDIR(st.st_mode)) {
		errno = to_directory ? EISDIR : ENOTDIR;
		return -1;
	}
	if (!is_copied(st.st_mode) || (flags & ~RENAME_NOREPLACE)) {
		errno = EXDEV;
		return -1;
	}
	if (check_removable(x->from_fd, x->from_path, &st) < 0 || name_draft(x->to_path, draft) < 0)
		return -1;
	if (copy_to(x, &st, draft) == 0 && (flags ? REAL(renameat2)(x->to_fd, draft, x->to_fd, x->to_path, (unsigned)flags)
						  : REAL(renameat)(x->to_fd, draft, x->to_fd, x->to_path)) == 0)
		return REAL(unlinkat)(x->from_fd, x->from_path, 0);
	err = errno;
	REAL(unlinkat)(x->to_fd, draft, 0);
	errno = err;
	return -1;
}

/* What one side of rename() is the name of. */
struct named {
	bool there, directory, slash;
};

/* Is what it is in a directory? 0, or -1 and errno. */
static APART int check_parent(const struct resolved *p, int fd, const char *path)
{
	char directory[PATH_MAX];
	struct stat st;

	/* What is shown there has a place. */
	if (p->entry && p->image)
		return 0;
	/* No path at all. */
	if (!*path || strnlen(path, PATH_MAX) == PATH_MAX)
		return REAL(fstatat)(fd, path, &st, 0);
	above(path, directory);
	return REAL(fstatat)(fd, directory, &st, 0);
}

/* 0, also if nothing is there, or -1 and errno. */
static APART int look_at_name(const struct resolved *p, int fd, const char *path, struct named *name)
{
	size_t n = place_length(path);
	struct resolved found;
	int saved = errno, r;
	struct stat st;

	name->slash = path[n] == '/';
	found.entry = p->entry;
	found.image = p->entry && p->image;
	found.relative = false;
	snprintf(found.path, sizeof found.path, "%.*s", (int)n, path);
	r = p->entry ? stat_place(&found, &st, false) : REAL(fstatat)(fd, found.path, &st, AT_SYMLINK_NOFOLLOW);
	name->there = r == 0;
	name->directory = r == 0 && S_ISDIR(st.st_mode);
	if (r < 0 && errno != ENOENT)
		return -1;
	errno = saved;
	return 0;
}

static bool is_in(const struct resolved *p, const struct resolved *directory)
{
	const char *rest = p->entry && directory->entry ? path_below(p->visible, directory->visible) : NULL;

	return rest && *rest;
}

/* What makes it fail before anything is touched, in the kernel's order: errno, or 0. */
static int why_no_rename(const struct pair *x, unsigned flags)
{
	bool exchange = flags & RENAME_EXCHANGE;
	struct named from, to;

	if (place_ends_in_dots(x->from_path))
		return EBUSY;
	if (place_ends_in_dots(x->to_path))
		return flags & RENAME_NOREPLACE ? EEXIST : EBUSY;
	if (look_at_name(&x->from, x->from_fd, x->from_path, &from) < 0)
		return errno;
	if (!from.there)
		return ENOENT;
	if (look_at_name(&x->to, x->to_fd, x->to_path, &to) < 0)
		return errno;
	if (to.there && (flags & RENAME_NOREPLACE))
		return EEXIST;
	if (!to.there && exchange)
		return ENOENT;
	if ((exchange && !to.directory && to.slash) || (!from.directory && (from.slash || (!exchange && to.slash))))
		return ENOTDIR;
	if (is_in(&x->to, &x->from))
		return EINVAL;
	if (is_in(&x->from, &x->to))
		return exchange ? EINVAL : ENOTEMPTY;
	if (to.there && !exchange && from.directory != to.directory)
		return from.directory ? ENOTDIR : EISDIR;
	return 0;
}

static int check_rename(const struct pair *x, unsigned flags)
{
	int err = why_no_rename(x, flags);

	if (err)
		errno = err;
	return err ? -1 : 0;
}

/* What the path is in: a fixture, or NULL. Nothing is changed. */
static APART const struct run_entry *entry_at(int dirfd, const char *path)
{
	struct resolved p;

	return is_inside(dirfd, path) && resolve_path(&p, dirfd, path, USE_READ | USE_LAST) == 1 ? p.entry : NULL;
}

/* Between a fixture and elsewhere, as between file systems, only files can move; two names can be exchanged only within one. */
static APART bool rename_crosses(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
	int saved = errno;
	struct stat st;
	bool crosses = entry_at(from_fd, from) != entry_at(to_fd, to) &&
		       ((flags & RENAME_EXCHANGE) || (SEEN(fstatat)(from_fd, from, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode)));

	errno = crosses ? EXDEV : saved;
	return crosses;
}

static APART int rename_shown(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
	struct pair x;
	int r;

	if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE) || flags == (RENAME_NOREPLACE | RENAME_EXCHANGE)) {
		errno = EINVAL; /* as file systems without the others say */
		return -1;
	}
	if (find_from(&x, from_fd, from, USE_READ | USE_LAST) < 0 || check_parent(&x.from, x.from_fd, x.from_path) < 0 ||
	    find_to(&x, to_fd, to, USE_READ) < 0 || check_parent(&x.to, x.to_fd, x.to_path) < 0 || check_rename(&x, flags) < 0 ||
	    rename_crosses(from_fd, from, to_fd, to, flags) || find_from(&x, from_fd, from, USE_ALL | USE_LAST) < 0 ||
	    find_to(&x, to_fd, to, flags & RENAME_EXCHANGE ? USE_ALL : USE_REMOVE) < 0)
		return -1;
	r = flags ? REAL(renameat2)(x.from_fd, x.from_path, x.to_fd, x.to_path, flags)
		  : REAL(renameat)(x.from_fd, x.from_path, x.to_fd, x.to_path);
	if (r < 0 && errno == EXDEV)
		return rename_by_copy(&x, (int)flags);
	/* A link may have come along from elsewhere; and it may be where we are that was renamed. */
	if (r == 0 && x.to.entry && x.to.entry != x.from.entry)
		__atomic_store_n(&x.to.entry->links, 1, __ATOMIC_RELEASE);
	if (r == 0) {
		links_moved(from_fd, from, to_fd, to);
		cwd_cache_renamed();
		cwd_cache_moved();
	}
	return r;
}

/* Into a tree that is mounted, or out of it. */
static APART int rename_mounted(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
	struct pair x = { .from_fd = from_fd, .to_fd = to_fd, .from_path = from, .to_path = to };

	if (resolve_is_mounted(from_fd, from) || resolve_is_mounted(to_fd, to))
		return rename_by_copy(&x, (int)flags);
	errno = EXDEV;
	return -1;
}

static int rename_any(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
	int r;

	if (is_inside(from_fd, from) || is_inside(to_fd, to))
		return rename_shown(from_fd, from, to_fd, to, flags);
	/* What is shown in it would stay behind. */
	if (dirops_has_fixtures(from_fd, from)) {
		shim_say(NULL, from, "a directory that a fixture is shown in cannot be renamed in a run");
		errno = EROFS;
		return -1;
	}
	r = flags ? REAL(renameat2)(from_fd, from, to_fd, to, flags) : REAL(renameat)(from_fd, from, to_fd, to);
	if (r == 0 && links_are_there())
		links_moved(from_fd, from, to_fd, to);
	return likely(r == 0 || errno != EXDEV || !run) ? r : rename_mounted(from_fd, from, to_fd, to, flags);
}

SHIM int rename(const char *from, const char *to)
{
	return rename_any(AT_FDCWD, from, AT_FDCWD, to, 0);
}

SHIM int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
	return rename_any(from_fd, from, to_fd, to, 0);
}

SHIM int renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
	return rename_any(from_fd, from, to_fd, to, flags);
}

static bool pair_is_shown(int from_fd, const char *from, int to_fd, const char *to)
{
	return is_inside(from_fd, from) || is_inside(to_fd, to);
}

/* Within one tree. Elsewhere a second name would be one for the run's own copy: that is another file system. */
static APART int link_shown(int from_fd, const char *from, int to_fd, const char *to, int flags)
{
	unsigned how = flags & AT_SYMLINK_FOLLOW ? 0 : USE_LAST;
	bool from_shown = is_inside(from_fd, from), to_shown = is_inside(to_fd, to);
	const struct run_entry *entry = NULL;
	struct named name;
	struct pair x;
	struct stat st;

	if (flags & ~(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH))
		return REAL(linkat)(from_fd, from, to_fd, to, flags);
	if (from_shown) {
		if (resolve_path(&x.from, from_fd, from, USE_READ | how) < 0 || stat_place(&x.from, &st, how == 0) < 0)
			return -1;
		entry = x.from.entry;
		from_shown = entry != NULL;
	} else if (REAL(fstatat)(from_fd, from, &st, (how ? AT_SYMLINK_NOFOLLOW : 0) | (flags & AT_EMPTY_PATH)) < 0) {
		return -1;
	}
	if (find_to(&x, to_fd, to, USE_READ) < 0 || check_parent(&x.to, x.to_fd, x.to_path) < 0)
		return -1;
	if (!place_ends_in_dots(x.to_path) && look_at_name(&x.to, x.to_fd, x.to_path, &name) < 0)
		return -1;
	to_shown = x.to.entry != NULL;
	if (place_ends_in_dots(x.to_path) || name.there || name.slash) {
		errno = place_ends_in_dots(x.to_path) || name.there ? EEXIST : ENOENT;
		return -1;
	}
	if (S_ISDIR(st.st_mode)) {
		errno = EPERM;
		return -1;
	}
	/* A file without a name, or one of the run's own by its descriptor. */
	if (to_shown && !from_shown && ((flags & AT_EMPTY_PATH) || !strncmp(from, "/proc/", 6))) {
		if (resolve_path(&x.to, to_fd, to, USE_CHANGE | USE_LAST) < 0)
			return -1;
		return REAL(linkat)(from_fd, from, AT_FDCWD, x.to.path, flags);
	}
	if (entry != x.to.entry || (entry && entry->kind == RUN_FILE)) {
		errno = EXDEV;
		return -1;
	}
	if (find_from(&x, from_fd, from, USE_ALL | how) < 0 || find_to(&x, to_fd, to, USE_CHANGE) < 0)
		return -1;
	return REAL(linkat)(x.from_fd, x.from_path, x.to_fd, x.to_path, flags);
}

SHIM int link(const char *from, const char *to)
{
	return pair_is_shown(AT_FDCWD, from, AT_FDCWD, to) ? link_shown(AT_FDCWD, from, AT_FDCWD, to, 0) : REAL(link)(from, to);
}

/* What nobody may change would have the other name. */
static bool is_shared_file(int fd)
{
	char visible[PATH_MAX];
	bool shared;

	return fd_cache_entry_of(fd, visible, sizeof visible, &shared) && shared;
}

SHIM int linkat(int from_fd, const char *from, int to_fd, const char *to, int flags)
{
	char link[FD_PATH_SIZE];

	if (run && (flags & AT_EMPTY_PATH) && !*from && from_fd >= 0 && is_shared_file(from_fd))
		return SEEN(linkat)(AT_FDCWD, fd_path(from_fd, link), to_fd, to, AT_SYMLINK_FOLLOW);
	return pair_is_shown(from_fd, from, to_fd, to) ? link_shown(from_fd, from, to_fd, to, flags)
						       : REAL(linkat)(from_fd, from, to_fd, to, flags);
}
