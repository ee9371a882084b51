/* SPDX-License-Identifier: MIT */
/*
 * Copy-up: what is to be changed is copied into the scratch directory first, where all processes of the run find it from then on.
 * Of a tree that is one file, and the directories on the way to it. In such a directory everything that has not been copied is a
 * symbolic link to what the shared one has, a marker, which is not a link to the program: the kernel follows it, and what would not
 * follow it is given its target. Markers are short, which makes them cheap: by way of one long link, relative to where they are. One process copies, the others wait for it; one that dies half-way leaves nothing that counts.
 */
#include "preload/shim.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/attributes.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/tree.h"

static int lock_run(short type, int fd)
{
	struct flock l = { .l_type = type, .l_whence = SEEK_SET };
	int r;

	do {
		r = (int)kernel(SYS_fcntl, fd, F_OFD_SETLKW, &l);
	} while (r < 0 && errno == EINTR);
	return r;
}

static int copy_piece(int from, int to, off_t at, off_t end)
{
	while (at < end) {
		ssize_t n = sendfile(to, from, &at, (size_t)(end - at));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return (int)n; /* 0: it has become shorter meanwhile */
	}
	return 0;
}

int copyup_bytes(int from, int to, off_t size)
{
	for (off_t at = 0, data, hole; at < size; at = hole) {
		data = lseek(from, at, SEEK_DATA);
		if (data < 0)
			data = errno == ENXIO ? size : at;
		if (data >= size)
			break;
		hole = lseek(from, data, SEEK_HOLE);
		if (hole < 0 || hole > size)
			hole = size;
		if (lseek(to, data, SEEK_SET) < 0 || copy_piece(from, to, data, hole) < 0)
			return -1;
	}
	return ftruncate(to, size);
}

/* When it has its owner: a file that is given away loses its capabilities. */
static int finish(int fd, mode_t mode, struct timespec mtime)
{
	const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, mtime };

	return REAL(fchmod)(fd, mode) < 0 || REAL(futimens)(fd, times) < 0 ? -1 : 0;
}

int image_open(const struct run_entry *e, int flags)
{
	char path[64];
	struct stat st;

	for (int k = 0; k < 2; k++) {
		int fd;

		if (k == 0)
			snprintf(path, sizeof path, "/proc/self/fd/%d", e->fd);
		else
			snprintf(path, sizeof path, "/proc/%u/fd/%d", run->keeper, e->fd);
		fd = REAL(open)(path, flags);
		if (fd >= 0 && REAL(fstat)(fd, &st) == 0 && st.st_ino == e->inode && st.st_dev == run->device)
			return fd;
		if (fd < 0 && (errno == EMFILE || errno == ENFILE))
			return -1;
		fd_close(fd);
	}
	errno = EIO;
	return -1;
}

static int copy_image(const struct run_entry *e, const char *to, bool empty)
{
	const struct timespec mtime = { .tv_sec = e->mtime, .tv_nsec = e->mtime_ns };
	_cleanup_fd_ int in = empty ? -1 : image_open(e, O_RDONLY | O_CLOEXEC), out = -1;

	if (!empty && in < 0)
		return -1;
	out = REAL(open)(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (out < 0 || (!empty && copyup_bytes(in, out, (off_t)e->size) < 0))
		return -1;
	/* Who may not give files away has them himself. */
	return owner_copy(out, e->uid, e->gid) < 0 ? -1 : finish(out, e->mode, mtime);
}

/* Trees. */

/* What is being copied, and where to: `path` in the run's own tree, by way of `draft`. */
struct copy_up {
	struct run_entry *e;
	unsigned what; /* USE_... */
	bool leaves;   /* the last one as it is, whatever that is */
	char path[PATH_MAX], target[PATH_MAX], draft[PATH_MAX];
};

static uid_t path_table_owner(const struct run_entry *e, uid_t uid)
{
	return uid == e->owner ? e->uid : uid;
}

static int finish_like(const struct run_entry *e, int from, int to, const struct stat *st)
{
	struct stat of_copy;

	if (REAL(fstat)(to, &of_copy) < 0)
		return -1;
	inodes_note(of_copy.st_ino, st->st_ino);
	if (owner_copy(to, path_table_owner(e, st->st_uid), st->st_gid) < 0 || attributes_copy(from, to, false, NULL, NULL) < 0)
		return -1;
	return finish(to, st->st_mode & 07777, st->st_mtim);
}

static int copy_file(const struct copy_up *c, const struct stat *st)
{
	_cleanup_fd_ int in = REAL(open)(c->target, O_RDONLY | O_NOFOLLOW | O_CLOEXEC), out = -1;

	if (in < 0)
		return -1;
	out = REAL(open)(c->draft, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (out < 0 || (c->what != USE_REPLACE && copyup_bytes(in, out, st->st_size) < 0))
		return -1;
	return finish_like(c->e, in, out, st);
}

static int copy_link(const struct run_entry *e, int from, int to, const char *name, const struct stat *st)
{
	const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, st->st_mtim };
	char target[PATH_MAX];
	ssize_t n = REAL(readlinkat)(from, name, target, sizeof target - 1);

	if (n < 0)
		return -1;
	target[n] = '\0';
	if (REAL(symlinkat)(target, to, name) < 0 || owner_copy_at(to, name, path_table_owner(e, st->st_uid), st->st_gid) < 0)
		return -1;
	return REAL(utimensat)(to, name, times, AT_SYMLINK_NOFOLLOW);
}

/* A FIFO or a socket that runs shared would join them. */
static int copy_special(const struct run_entry *e, int to, const char *name, const struct stat *st)
{
	const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, st->st_mtim };
	char path[PATH_MAX];

	if (REAL(mknodat)(to, name, (st->st_mode & S_IFMT) | 0600, st->st_rdev) < 0)
		return -1;
	/* What the directory's default list has given it: there may be none, or no such lists at all. */
	snprintf(path, sizeof path, "/proc/self/fd/%d/%s", to, name);
	REAL(lremovexattr)(path, "system.posix_acl_access");
	return owner_copy_at(to, name, path_table_owner(e, st->st_uid), st->st_gid) < 0 ||
			       REAL(fchmodat)(to, name, st->st_mode & 07777, 0) < 0 ||
			       REAL(utimensat)(to, name, times, AT_SYMLINK_NOFOLLOW) < 0
		       ? -1
		       : 0;
}

static int mark(const struct copy_up *c, int to, const char *name)
{
	const char *directory = path_below(c->target, run_string(c->e->tree));
	char text[PATH_MAX];
	int n = 3;

	memcpy(text, "../", 4);
	for (const char *p = directory; *p && n < PATH_MAX / 2; p++) {
		if (*p == '/')
			n += sprintf(text + n, "../");
	}
	if (snprintf(text + n, sizeof text - (size_t)n, "%s%s/%s", run_string(c->e->marker), directory, name) >= (int)sizeof text - n) {
		errno = ENAMETOOLONG;
		return -1;
	}
	return REAL(symlinkat)(text, to, name);
}

static int copy_entry(const struct copy_up *c, int from, int to, const struct dirent *d)
{
	struct stat st;

	if (d->d_type == DT_REG || d->d_type == DT_DIR)
		return mark(c, to, d->d_name);
	if (REAL(fstatat)(from, d->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -1;
	if (S_ISLNK(st.st_mode))
		return copy_link(c->e, from, to, d->d_name, &st);
	if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode) || copy_special(c->e, to, d->d_name, &st) < 0)
		return mark(c, to, d->d_name);
	return 0;
}

/* One directory, of markers. */
static int copy_directory(const struct copy_up *c, const struct stat *st)
{
	_cleanup_fd_ int to = REAL(mkdir)(c->draft, 0700) < 0 ? -1 : REAL(open)(c->draft, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = to < 0 ? NULL : REAL(opendir)(c->target);
	struct dirent *d;
	int r = dir ? 0 : -1;

	while (r == 0 && (d = REAL(readdir)(dir))) {
		if (strcmp(d->d_name, ".") && strcmp(d->d_name, ".."))
			r = copy_entry(c, dirfd(dir), to, d);
	}
	if (r == 0)
		r = finish_like(c->e, dirfd(dir), to, st);
	if (dir)
		REAL(closedir)(dir);
	return r;
}

bool copyup_expand(const struct run_entry *e, char *text)
{
	const char *tree = run_string(e->tree), *rest = e->kind == RUN_TREE ? path_behind(text, run_string(e->marker)) : NULL;

	if (!rest || strlen(tree) + strlen(rest) >= PATH_MAX)
		return false;
	memmove(text + strlen(tree), rest, strlen(rest) + 1);
	memcpy(text, tree, strlen(tree));
	return true;
}

bool copyup_marker(const struct run_entry *e, const char *path, char *target)
{
	int saved = errno;
	ssize_t n = REAL(readlink)(path, target, PATH_MAX - 1);

	errno = saved;
	if (n <= 0)
		return false;
	target[n] = '\0';
	return copyup_expand(e, target);
}

static int exchange(const struct copy_up *c, bool directory)
{
	if (!directory)
		return REAL(rename)(c->draft, c->path);
	if (REAL(renameat2)(AT_FDCWD, c->draft, AT_FDCWD, c->path, RENAME_EXCHANGE) == 0)
		return REAL(unlink)(c->draft);
	if (errno != EINVAL && errno != ENOSYS)
		return -1;
	/* Of file systems that cannot exchange it is missing for a moment. */
	return REAL(unlink)(c->path) < 0 ? -1 : REAL(rename)(c->draft, c->path);
}

/* Who moves a directory must be allowed to write to it, also where it is a user's own: its .. changes. */
static int exchange_opened(const struct copy_up *c, bool directory)
{
	struct stat st;
	int r;

	if (!directory)
		return exchange(c, false);
	if (REAL(lstat)(c->draft, &st) < 0 || REAL(chmod)(c->draft, (st.st_mode & 07777) | 0700) < 0)
		return -1;
	r = exchange(c, true);
	return REAL(chmod)(r < 0 ? c->draft : c->path, st.st_mode & 07777) < 0 ? -1 : r;
}

/*
 * The draft takes the place of the marker at `path`, which is never missing. The directory that it is in, which may be one that
 * nobody may write to, has not been changed by that.
 */
static int copyup_put(const struct copy_up *c, bool directory)
{
	char above[PATH_MAX];
	bool opened = false;
	struct stat st;
	int r;

	snprintf(above, sizeof above, "%.*s", (int)(strrchr(c->path, '/') - c->path), c->path);
	if (REAL(stat)(above, &st) < 0)
		return -1;
	r = exchange(c, directory);
	if (r < 0 && errno == EACCES) {
		opened = REAL(chmod)(above, (st.st_mode & 07777) | 0700) == 0;
		r = exchange_opened(c, directory);
	}
	if (r == 0)
		r = REAL(utimensat)(AT_FDCWD, above, (const struct timespec[2]){ { .tv_nsec = UTIME_OMIT }, st.st_mtim }, 0);
	if (opened && REAL(chmod)(above, st.st_mode & 07777) < 0)
		return -1;
	return r;
}

static int copy_name(void *arg, const char *name);

/* What the marker at `path` stands for, in its place. Nothing, if there is none. */
static int copy_marked(struct copy_up *c)
{
	struct stat st;
	int r;

	if (!copyup_marker(c->e, c->path, c->target))
		return 0;
	tree_remove(c->draft); /* of one that was killed */
	if (REAL(lstat)(c->target, &st) < 0)
		return -1;
	r = S_ISDIR(st.st_mode) ? copy_directory(c, &st) : copy_file(c, &st);
	if (r == 0)
		r = copyup_put(c, S_ISDIR(st.st_mode));
	if (r == 0 && !S_ISDIR(st.st_mode) && st.st_nlink > 1)
		r = hardlinks_each(c->e, st.st_ino, copy_name, c);
	return r;
}

static int copy_way(struct copy_up *c, const char *rest);

/* Another name of what was just copied to `path`, at that path in the shared tree: if the run has left it alone it follows. */
static int copy_name(void *arg, const char *name)
{
	struct copy_up *c = arg;
	const char *rest = path_below(name, run_string(c->e->tree));
	struct copy_up other = { .e = c->e, .what = USE_CHANGE, .leaves = true };
	int r;

	if (!strcmp(name, c->target))
		return 0;
	memcpy(other.draft, c->draft, sizeof other.draft);
	r = copy_way(&other, rest);
	if (r < 0 || !copyup_marker(c->e, other.path, other.target) || strcmp(other.target, name) != 0)
		return r;
	return REAL(link)(c->path, other.draft) < 0 ? -1 : copyup_put(&other, false);
}

/* Everything below: what has been moved must not show where it comes from, and what is watched not that it is copied. */
static int copy_below(struct copy_up *c)
{
	DIR *dir = REAL(opendir)(c->path);
	size_t n = strlen(c->path);
	struct dirent *d;
	struct stat st;
	int r = 0;

	while (dir && r == 0 && (d = REAL(readdir)(dir))) {
		if (!strcmp(d->d_name, ".") || !strcmp(d->d_name, "..") || n + 1 + strlen(d->d_name) >= sizeof c->path)
			continue;
		sprintf(c->path + n, "/%s", d->d_name);
		r = copy_marked(c);
		if (r == 0 && REAL(lstat)(c->path, &st) == 0 && S_ISDIR(st.st_mode))
			r = copy_below(c);
		c->path[n] = '\0';
	}
	if (dir)
		REAL(closedir)(dir);
	return r;
}

/*
 * A name goes away or gets another meaning: what it is the name of need not be there, unless that is a directory, or has other names,
 * which tell how many there are.
 */
static bool is_left(const char *path, unsigned what)
{
	struct stat st;

	return what == USE_REMOVE && REAL(stat)(path, &st) == 0 && !S_ISDIR(st.st_mode) && st.st_nlink == 1;
}

/* From the root of the tree to what is at `rest` in it, and that itself as far as it is needed; c->path is its path then. */
static int copy_way(struct copy_up *c, const char *rest)
{
	int r = 0;

	strcpy(c->path, run_string(c->e->own));
	while (r == 0 && *rest) {
		size_t n = strcspn(rest + 1, "/") + 1;

		if (strlen(c->path) + n >= sizeof c->path) {
			errno = ENAMETOOLONG;
			return -1;
		}
		*(char *)mempcpy(c->path + strlen(c->path), rest, n) = '\0';
		rest += n;
		if (*rest || !(c->leaves || is_left(c->path, c->what)))
			r = copy_marked(c);
	}
	if (r == 0 && c->what == USE_ALL)
		r = copy_below(c);
	return r;
}

static int copy_root(struct copy_up *c)
{
	struct stat st;

	tree_remove(c->draft);
	strcpy(c->target, run_string(c->e->tree));
	if (REAL(lstat)(c->target, &st) < 0 || copy_directory(c, &st) < 0)
		return -1;
	return REAL(rename)(c->draft, run_string(c->e->own));
}

static int make_tree(struct run_entry *e, const char *rest, unsigned what)
{
	struct copy_up c = { .e = e, .what = what };
	int r, err;

	snprintf(c.draft, sizeof c.draft, "%s.new", run_string(e->own));
	r = entry_is_private(e) ? 0 : copy_root(&c);
	if (r == 0) {
		__atomic_store_n(&e->state, RUN_PRIVATE, __ATOMIC_RELEASE);
		r = copy_way(&c, rest);
	}
	err = errno;
	if (r < 0)
		tree_remove(c.draft);
	errno = err;
	return r;
}

static int make_file(struct run_entry *e, bool empty)
{
	char draft[PATH_MAX];
	int err;

	snprintf(draft, sizeof draft, "%s.new", run_string(e->own));
	if (copy_image(e, draft, empty) == 0 && REAL(rename)(draft, run_string(e->own)) == 0) {
		__atomic_store_n(&e->state, RUN_PRIVATE, __ATOMIC_RELEASE);
		return 0;
	}
	err = errno;
	REAL(unlink)(draft);
	errno = err;
	return -1;
}

/* Whoever holds the lock is not interrupted: a handler, or what comes after a jump out of one, would wait for it for ever. */
static int make_locked(struct run_entry *e, const char *rest, unsigned what)
{
	_cleanup_fd_ int lock = REAL(open)(run_string(run->lock), O_RDWR | O_CLOEXEC);
	int r = 0, err;

	if (lock < 0 || lock_run(F_WRLCK, lock) < 0)
		return -1;
	if (e->kind == RUN_TREE) {
		r = make_tree(e, rest, what);
		if (!is_guest())
			fd_cache_follow(e);
	} else if (!entry_is_private(e)) {
		r = make_file(e, what == USE_REPLACE);
	}
	err = errno;
	/* A child that another thread has forked meanwhile shares the lock. */
	lock_run(F_UNLCK, lock);
	errno = err;
	return r;
}

/* Is there nothing to be copied at or below `path`? Both are buffers of PATH_MAX bytes. */
static bool is_own_below(const struct run_entry *e, char *path, char *target)
{
	size_t n = strlen(path);
	bool own = true;
	struct dirent *d;
	struct stat st;
	DIR *dir;

	if (copyup_marker(e, path, target))
		return false;
	if (REAL(lstat)(path, &st) < 0 || !S_ISDIR(st.st_mode))
		return true;
	dir = REAL(opendir)(path);
	while (dir && own && (d = REAL(readdir)(dir))) {
		if (!strcmp(d->d_name, ".") || !strcmp(d->d_name, ".."))
			continue;
		own = n + 1 + strlen(d->d_name) < PATH_MAX;
		if (!own)
			break;
		sprintf(path + n, "/%s", d->d_name);
		own = is_own_below(e, path, target);
		path[n] = '\0';
	}
	if (!dir)
		return false;
	REAL(closedir)(dir);
	return own;
}

/* Is there nothing to be copied on the way, as far as it exists? */
static bool is_own(const struct run_entry *e, const char *rest, unsigned what)
{
	char path[PATH_MAX], target[PATH_MAX];
	int saved = errno;

	if (!entry_is_private(e))
		return false;
	if (e->kind == RUN_FILE || strlen(run_string(e->own)) + strlen(rest) >= sizeof path)
		return true;
	strcpy(path, run_string(e->own));
	while (*rest) {
		size_t n = strcspn(rest + 1, "/") + 1;

		*(char *)mempcpy(path + strlen(path), rest, n) = '\0';
		rest += n;
		if (copyup_marker(e, path, target) && (*rest || !is_left(path, what)))
			return false;
	}
	if (what == USE_ALL && !is_own_below(e, path, target)) {
		errno = saved;
		return false;
	}
	errno = saved;
	return true;
}

static void say_why_not(const struct run_entry *e, const char *visible, int err)
{
	char what[160];

	snprintf(what, sizeof what, "it cannot be copied into the scratch directory of the run, and is left as it is: %s",
		 strerrordesc_np(err));
	shim_say(e, visible, what);
}

/* What is to be writable for it, whatever runs do: the file, or what its name is in. False: there is none. */
static bool look_at_asked(const struct run_entry *e, const char *rest, unsigned what, struct stat *st)
{
	bool of_tree = e->kind == RUN_TREE && *rest;
	char path[PATH_MAX];

	if (e->kind == RUN_FILE && what != USE_REMOVE) {
		*st = (struct stat){ .st_mode = e->mode, .st_uid = e->uid, .st_gid = e->gid };
		return true;
	}
	snprintf(path, sizeof path, "%s%s", run_string(of_tree ? e->tree : e->path), rest);
	if (what == USE_REMOVE || REAL(stat)(path, st) < 0)
		*strrchr(path, '/') = '\0';
	if (REAL(stat)(*path ? path : "/", st) < 0)
		return false;
	st->st_uid = path_table_owner(e, st->st_uid);
	return true;
}

/* By a process that has given its privileges up, and could not do it without a run. */
static bool is_forbidden(const struct run_entry *e, const char *rest, unsigned what)
{
	struct stat st;

	return geteuid() != e->uid && look_at_asked(e, rest, what, &st) && rights_allow(&st, W_OK, true) < 0;
}

int copyup_make(struct run_entry *e, const char *visible, unsigned what)
{
	const char *rest = path_below(visible, run_string(e->path));
	int saved = errno, r, err, cancel;
	sigset_t all, before;

	if (is_own(e, rest, what))
		return 0;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	r = make_locked(e, rest, what);
	err = errno;
	pthread_setcancelstate(cancel, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r < 0 && !(err == EACCES && is_forbidden(e, rest, what)))
		say_why_not(e, visible, err);
	errno = r < 0 ? err : saved;
	return r;
}
