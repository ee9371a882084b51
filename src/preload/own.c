/* SPDX-License-Identifier: MIT */
/*
 * The first change to a fixture: its bytes are copied into the scratch directory, where all processes of the run find them from
 * then on. One of them copies, the others wait for it; one that dies half-way leaves nothing that counts.
 */
#include "preload/shim.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "base/fd.h"

static int lock_run(short type, int fd)
{
	struct flock l = { .l_type = type, .l_whence = SEEK_SET };
	int r;

	do {
		r = fcntl(fd, F_OFD_SETLKW, &l);
	} while (r < 0 && errno == EINTR);
	return r;
}

static int copy_bytes(int from, int to, uint64_t size)
{
	off_t at = 0;

	while ((uint64_t)at < size) {
		ssize_t n = sendfile(to, from, &at, size - (uint64_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		if (n == 0)
			break; /* it has become shorter meanwhile */
	}
	return 0;
}

/* Who may not give files away has them himself. */
static int finish(int fd, uid_t uid, gid_t gid, mode_t mode, struct timespec mtime)
{
	const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, mtime };

	if (geteuid() == 0 && fchown(fd, uid, gid) < 0 && errno != EPERM && errno != EINVAL)
		return -1;
	return fchmod(fd, mode) < 0 || futimens(fd, times) < 0 ? -1 : 0;
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
	if (out < 0 || (!empty && copy_bytes(in, out, e->size) < 0))
		return -1;
	return finish(out, e->uid, e->gid, e->mode, mtime);
}

static int copy_tree(const struct run_entry *e, int from, int to);

static int copy_directory(const struct run_entry *e, int from, int to, const char *name)
{
	_cleanup_fd_ int in = REAL(openat)(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), out = -1;

	if (in < 0 || REAL(mkdirat)(to, name, 0700) < 0)
		return -1;
	out = REAL(openat)(to, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return out < 0 ? -1 : copy_tree(e, in, out);
}

static uid_t shown_owner(const struct run_entry *e, uid_t uid)
{
	return uid == e->owner ? e->uid : uid;
}

static int copy_file(const struct run_entry *e, int from, int to, const char *name, const struct stat *st)
{
	_cleanup_fd_ int in = REAL(openat)(from, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC), out = -1;

	if (in < 0)
		return -1;
	out = REAL(openat)(to, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (out < 0 || copy_bytes(in, out, (uint64_t)st->st_size) < 0)
		return -1;
	return finish(out, shown_owner(e, st->st_uid), st->st_gid, st->st_mode & 07777, st->st_mtim);
}

static int copy_link(int from, int to, const char *name, const struct stat *st)
{
	const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, st->st_mtim };
	char target[PATH_MAX];
	ssize_t n = REAL(readlinkat)(from, name, target, sizeof target - 1);

	if (n < 0)
		return -1;
	target[n] = '\0';
	if (REAL(symlinkat)(target, to, name) < 0)
		return -1;
	return REAL(utimensat)(to, name, times, AT_SYMLINK_NOFOLLOW);
}

static int copy_entry(const struct run_entry *e, int from, int to, const char *name)
{
	struct stat st;

	if (REAL(fstatat)(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -1;
	if (S_ISDIR(st.st_mode))
		return copy_directory(e, from, to, name);
	return S_ISLNK(st.st_mode) ? copy_link(from, to, name, &st) : copy_file(e, from, to, name, &st);
}

/* What is in the directory, then what the directory itself looks like. */
static int copy_tree(const struct run_entry *e, int from, int to)
{
	struct dirent *d;
	struct stat st;
	DIR *dir = REAL(fdopendir)(REAL(dup)(from));
	int r = dir ? 0 : -1;

	while (r == 0 && (d = REAL(readdir)(dir))) {
		if (strcmp(d->d_name, ".") && strcmp(d->d_name, ".."))
			r = copy_entry(e, from, to, d->d_name);
	}
	if (dir)
		REAL(closedir)(dir);
	if (r == 0 && REAL(fstat)(from, &st) == 0)
		r = finish(to, shown_owner(e, st.st_uid), st.st_gid, st.st_mode & 07777, st.st_mtim);
	return r;
}

static int copy(const struct run_entry *e, const char *to, bool empty)
{
	_cleanup_fd_ int in = -1, out = -1;

	if (e->kind == RUN_FILE)
		return copy_image(e, to, empty);
	in = REAL(open)(run_string(e->tree), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (in < 0 || REAL(mkdir)(to, 0700) < 0)
		return -1;
	out = REAL(open)(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return out < 0 ? -1 : copy_tree(e, in, out);
}

static int make(struct run_entry *e, bool empty)
{
	char draft[PATH_MAX];
	int err;

	snprintf(draft, sizeof draft, "%s.new", run_string(e->own));
	tree_remove(draft); /* of one that was killed */
	if (copy(e, draft, empty) == 0 && REAL(rename)(draft, run_string(e->own)) == 0) {
		__atomic_store_n(&e->state, RUN_PRIVATE, __ATOMIC_RELEASE);
		return 0;
	}
	err = errno;
	tree_remove(draft);
	errno = err;
	return -1;
}

/* Whoever holds the lock is not interrupted: a handler, or what comes after a jump out of one, would wait for it for ever. */
static int make_locked(struct run_entry *e, bool empty)
{
	_cleanup_fd_ int lock = REAL(open)(run_string(run->lock), O_RDWR | O_CLOEXEC);
	int r = 0, err;

	if (lock < 0 || lock_run(F_WRLCK, lock) < 0)
		return -1;
	if (!entry_is_private(e) && (r = make(e, empty)) == 0 && e->kind == RUN_TREE && !is_guest())
		where_follow(e);
	err = errno;
	/* A child that another thread has forked meanwhile shares the lock. */
	lock_run(F_UNLCK, lock);
	errno = err;
	return r;
}

int own_make(struct run_entry *e, bool empty)
{
	int saved = errno, r, err, cancel;
	sigset_t all, before;

	if (entry_is_private(e))
		return 0;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	r = make_locked(e, empty);
	err = errno;
	pthread_setcancelstate(cancel, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r < 0)
		shim_say(e, run_string(e->path), "it cannot be copied into the scratch directory of the run, and is left as it is");
	errno = r < 0 ? err : saved;
	return r;
}
