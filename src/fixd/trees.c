/* SPDX-License-Identifier: MIT */
#include "fixd/trees.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <linux/magic.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/text.h"
#include "fixd/daemon.h"
#include "fixd/instance.h"
#include "fixd/keeper.h"
#include "fixd/session.h"
#include "image/digest.h"

#define NOTE ".note"

static bool on_tmpfs(const char *path)
{
	struct statfs fs;

	return path && statfs(path, &fs) == 0 && fs.f_type == TMPFS_MAGIC && access(path, W_OK) == 0;
}

#define N_CANDIDATES 4

/* Of a unit with RuntimeDirectory=: the first one. */
static const char *runtime_directory(void)
{
	static char first[PATH_MAX];
	const char *all = secure_getenv("RUNTIME_DIRECTORY");

	if (!all)
		return NULL;
	snprintf(first, sizeof first, "%.*s", (int)strcspn(all, ":"), all);
	return first;
}

/* Every place where a tmpfs may be. */
static const char *candidate(size_t k)
{
	switch (k) {
	case 0:
		return runtime_directory();
	case 1:
		return secure_getenv("XDG_RUNTIME_DIR");
	case 2:
		return "/dev/shm";
	default:
		return "/run";
	}
}

static char *directory(const struct daemon *d, size_t k)
{
	const char *base = candidate(k);
	struct digest name = digest_bytes(d->socket, strlen(d->socket));

	if (!on_tmpfs(base))
		return NULL;
	return xasprintf("%s/fixd-trees-%u-%08x", base, (unsigned)geteuid(), (unsigned)name.low);
}

/*
 * The directory, locked: a descriptor, to be kept for as long as the trees are. -EWOULDBLOCK: its daemon lives. A directory of
 * that name that is not ours was put there by somebody else.
 */
static int lock_directory(const char *path)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
		return -errno;
	if (st.st_uid != geteuid())
		return -EPERM;
	/* Removed between our open() and the lock. */
	if (fstat(fd, &st) < 0 || st.st_nlink == 0)
		return -ENOENT;
	return fd_steal(&fd);
}

struct leftover {
	struct link link; /* daemon::leftovers */
	struct daemon *daemon;
	char *path;
	int lock;     /* -1: the daemon's own directory now */
	char **names; /* the newest first */
	size_t next;  /* whose turn it is, if it is a note */
};

static bool is_note(const char *path)
{
	size_t n = strlen(path);

	return n > strlen(NOTE) && !strcmp(path + n - strlen(NOTE), NOTE);
}

/* Somebody who attached it while its daemon lived holds it. */
static bool is_held(const char *path)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

static void leftover_free(struct leftover *l)
{
	int r = 0;

	for (size_t i = 0; l->names && l->names[i]; i++) {
		if (is_held(l->names[i])) {
			log_info("%s is still in use, and left for the next daemon", l->names[i]);
			continue;
		}
		r = tree_remove(l->names[i]);
		if (r < 0 && r != -ENOENT)
			log_warn(r, "cannot remove what a killed daemon left at %s", l->names[i]);
	}
	if (l->lock >= 0 && rmdir(l->path) < 0 && errno != ENOTEMPTY)
		log_warn(-errno, "cannot remove %s", l->path);
	fd_close(l->lock);
	link_remove(&l->link);
	list_free(l->names);
	free(l->path);
	free(l);
}

static void wake(struct instance *i, void *arg)
{
	(void)arg;
	instance_wake(i);
}

void leftover_continue(struct leftover *l)
{
	/* Soon: who waits for one that has had its turn. */
	if (l->daemon->session)
		session_each(l->daemon->session, wake, NULL);
	while (l->names && l->names[l->next]) {
		const char *name = l->names[l->next++];

		if (is_note(name) && keeper_reap(l->daemon, name, l))
			return;
	}
	leftover_free(l);
}

bool leftover_of(const struct daemon *d, const char *fixture)
{
	size_t n = strlen(fixture);

	link_for_each(m, &d->leftovers) {
		const struct leftover *l = link_entry(m, struct leftover, link);

		/* The one whose turn it is has not had it yet. */
		for (size_t k = l->next ? l->next - 1 : 0; l->names && l->names[k]; k++) {
			const char *name = strrchr(l->names[k], '/') + 1;

			if (is_note(name) && !strncmp(name, fixture, n) && strrchr(name, '-') == name + n)
				return true;
		}
	}
	return false;
}

/* NAME-SERIAL, NAME-SERIAL.note: what was made later may need what was made earlier. */
static int by_serial(const void *a, const void *b)
{
	const char *const *x = a, *const *y = b;
	unsigned long long m = strtoull(strrchr(*x, '-') + 1, NULL, 10), n = strtoull(strrchr(*y, '-') + 1, NULL, 10);

	return m < n ? 1 : m > n ? -1 : 0;
}

/* It is torn down in the background, by its notes; then all of it is removed. */
static void take_over(struct daemon *d, const char *path, int lock, char *const *used)
{
	_cleanup_free_ char *pattern = xasprintf("%s/*", path);
	struct leftover *l = xcalloc(1, sizeof *l);
	size_t n = 0;
	glob_t g;

	link_insert(&d->leftovers, &l->link);
	l->daemon = d;
	l->path = xstrdup(path);
	l->lock = lock;
	if (glob(pattern, GLOB_NOSORT | GLOB_PERIOD, NULL, &g) == 0) {
		l->names = xcalloc(g.gl_pathc + 1, sizeof *l->names);
		for (size_t i = 0; i < g.gl_pathc; i++) {
			const char *name = strrchr(g.gl_pathv[i], '/') + 1;

			if (strcmp(name, ".") && strcmp(name, "..") && strchr(name, '-') && !(used && list_has(used, g.gl_pathv[i])))
				l->names[n++] = xstrdup(g.gl_pathv[i]);
		}
		globfree(&g);
	}
	if (n)
		qsort(l->names, n, sizeof *l->names, by_serial);
	leftover_continue(l);
}

void trees_init(struct daemon *d)
{
	for (size_t k = 0; k < N_CANDIDATES; k++) {
		_cleanup_free_ char *pattern = NULL, *own = directory(d, k);
		glob_t g;

		if (!own)
			continue;
		pattern = xasprintf("%s/fixd-trees-%u-*", candidate(k), (unsigned)geteuid());
		if (glob(pattern, GLOB_NOSORT, NULL, &g) != 0)
			continue;
		for (size_t i = 0; i < g.gl_pathc; i++) {
			int lock = lock_directory(g.gl_pathv[i]);

			if (lock >= 0 && !d->trees && !strcmp(g.gl_pathv[i], own)) {
				d->trees = xstrdup(own);
				d->trees_lock = lock;
				lock = -1;
			} else if (lock < 0) {
				continue;
			}
			take_over(d, g.gl_pathv[i], lock, NULL);
		}
		globfree(&g);
	}
}

void trees_resume(struct daemon *d, char *const *used)
{
	if (d->trees)
		take_over(d, d->trees, -1, used);
}

void trees_deinit(struct daemon *d)
{
	if (d->trees && rmdir(d->trees) < 0 && errno != ENOTEMPTY)
		log_warn(-errno, "cannot remove %s", d->trees);
	if (d->trees)
		d->trees_lock = fd_close(d->trees_lock);
	free(d->trees);
	d->trees = NULL;
}

/* Where the most room is: in a container one of them may be very small. */
static int make_home(struct daemon *d)
{
	_cleanup_free_ char *best = NULL;
	uint64_t most = 0;

	for (size_t k = 0; k < N_CANDIDATES; k++) {
		char *path = directory(d, k);
		struct statfs fs;

		if (path && statfs(candidate(k), &fs) == 0 && (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize > most) {
			most = (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize;
			free(best);
			best = path;
			continue;
		}
		free(path);
	}
	if (!best)
		return -ENOENT;
	/*
	 * Another daemon that starts may take a directory that is not locked yet for an orphan: then once more. One that tears down
	 * what an earlier daemon has left in it has it for some time: then another name.
	 */
	for (int tries = 0; tries < 10; tries++) {
		_cleanup_free_ char *path = d->trees_lock == -EWOULDBLOCK ? xasprintf("%s-%d", best, tries) : xstrdup(best);

		if (mkdir(path, 0755) < 0 && errno != EEXIST)
			return -errno;
		d->trees_lock = lock_directory(path);
		if (d->trees_lock >= 0) {
			d->trees = xstrdup(path);
			return 0;
		}
		if (d->trees_lock != -ENOENT && d->trees_lock != -EWOULDBLOCK)
			break;
	}
	return d->trees_lock;
}

static int give_to(const char *path, const char *user)
{
	struct passwd *pw = user ? getpwnam(user) : NULL;

	return pw && chown(path, pw->pw_uid, pw->pw_gid) < 0 ? -errno : 0;
}

/* A name that nothing of this daemon, or of one before it, has. */
static int new_path(struct daemon *d, const char *name, const char *suffix, char **out)
{
	int r = d->trees ? 0 : make_home(d);

	if (r == 0)
		*out = xasprintf("%s/%s-%llu%s", d->trees, name, (unsigned long long)++d->last_serial, suffix);
	return r;
}

int trees_make(struct daemon *d, const char *name, const char *user, char **out)
{
	_cleanup_free_ char *path = NULL;
	int r = new_path(d, name, "", &path);

	if (r < 0)
		return r;
	if (mkdir(path, 0700) < 0)
		return -errno;
	r = give_to(path, user);
	if (r < 0) {
		rmdir(path);
		return r;
	}
	*out = path;
	path = NULL;
	return 0;
}

int trees_note(struct daemon *d, const char *name, const char *user, char **out)
{
	_cleanup_free_ char *path = NULL;
	_cleanup_fd_ int fd = -1;
	int r = new_path(d, name, NOTE, &path);

	if (r < 0)
		return r;
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	r = give_to(path, user);
	if (r < 0) {
		unlink(path);
		return r;
	}
	*out = path;
	path = NULL;
	return 0;
}
