/* SPDX-License-Identifier: MIT */
#include "config/identity.h"
#include "fixd/work/trees.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <linux/magic.h>
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
#include "fixd/host/worker.h"
#include "fixd/model/instance.h"
#include "fixd/model/session.h"
#include "fixd/work/keeper.h"
#include "fixd/work/work.h"

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

/* Of this user's daemons; what follows is random, so that nobody can make it before. */
static char *directory(size_t k, const char *behind)
{
	const char *base = candidate(k);

	return on_tmpfs(base) ? xasprintf("%s/fixd-trees-%u-%s", base, (unsigned)geteuid(), behind) : NULL;
}

/*
 * The directory, locked: a descriptor, to be kept for as long as the trees are. -EWOULDBLOCK: its daemon lives. A directory of
 * that name that is not ours was put there by somebody else.
 */
static int trees_lock_directory(const char *path)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (st.st_uid != geteuid() || (st.st_mode & 022))
		return -EPERM;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return -errno;
	/* Removed between our open() and the lock. */
	if (fstat(fd, &st) < 0 || st.st_nlink == 0)
		return -ENOENT;
	return fd_steal(&fd);
}

static int trees_remove_directory(const char *path)
{
	return rmdir(path) < 0 && errno != ENOTEMPTY ? -errno : 0;
}

struct leftover {
	struct link link; /* work::leftovers */
	struct work *work;
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

/* What is to be removed, by the worker. */
struct removal {
	struct work_item item;
	char **paths;
	char *home; /* they are all in, to be removed as well; or NULL */
	int lock;   /* of the home, or -1 */
};

static void remove_all(void *arg)
{
	struct removal *m = arg;
	int r;

	for (size_t i = 0; m->paths[i]; i++) {
		if (m->home && is_held(m->paths[i])) {
			log_info("%s is still in use, and left for the next daemon", m->paths[i]);
			continue;
		}
		r = tree_remove(m->paths[i]);
		if (r < 0 && r != -ENOENT)
			log_warn(r, "cannot remove %s", m->paths[i]);
	}
	if (m->lock >= 0 && (r = trees_remove_directory(m->home)) < 0)
		log_warn(r, "cannot remove %s", m->home);
}

static void removal_free(void *arg)
{
	struct removal *m = arg;

	fd_close(m->lock);
	list_free(m->paths);
	free(m->home);
	free(m);
}

/* Takes the paths and the home. */
static void remove_later(struct work *w, char **paths, char *home, int lock)
{
	struct removal *m = xcalloc(1, sizeof *m);

	m->item = (struct work_item){ .work = remove_all, .done = removal_free, .arg = m };
	m->paths = paths;
	m->home = home;
	m->lock = lock;
	worker_add(w->worker, &m->item);
}

void trees_discard(struct work *w, const char *path)
{
	char **paths = xcalloc(2, sizeof *paths);

	paths[0] = xasprintf("%s.gone", path);
	if (rename(path, paths[0]) < 0) {
		free(paths[0]);
		paths[0] = xstrdup(path);
	}
	remove_later(w, paths, NULL, -1);
}

static void leftover_free(struct leftover *l)
{
	remove_later(l->work, l->names ? l->names : xcalloc(1, sizeof *l->names), l->path, l->lock);
	link_remove(&l->link);
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
	if (l->work->model->session)
		session_each(l->work->model->session, wake, NULL);
	while (l->names && l->names[l->next]) {
		const char *name = l->names[l->next++];

		if (is_note(name) && keeper_reap(l->work, name, l))
			return;
	}
	leftover_free(l);
}

bool leftover_of(const struct work *w, const char *fixture)
{
	size_t n = strlen(fixture);

	link_for_each(m, &w->leftovers) {
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
static void take_over(struct work *w, const char *path, int lock, char *const *used)
{
	_cleanup_free_ char *pattern = xasprintf("%s/*", path);
	struct leftover *l = xcalloc(1, sizeof *l);
	size_t n = 0;
	glob_t g;

	link_insert(&w->leftovers, &l->link);
	l->work = w;
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

void trees_init(struct work *w)
{
	for (size_t k = 0; k < N_CANDIDATES; k++) {
		_cleanup_free_ char *pattern = directory(k, "*");
		glob_t g;

		if (!pattern || glob(pattern, GLOB_NOSORT, NULL, &g) != 0)
			continue;
		for (size_t i = 0; i < g.gl_pathc; i++) {
			int lock = trees_lock_directory(g.gl_pathv[i]);

			if (lock >= 0)
				take_over(w, g.gl_pathv[i], lock, NULL);
		}
		globfree(&g);
	}
}

void trees_resume(struct work *w, char *const *used)
{
	if (w->trees)
		take_over(w, w->trees, -1, used);
}

void trees_deinit(struct work *w)
{
	int r = w->trees ? trees_remove_directory(w->trees) : 0;

	if (r < 0)
		log_warn(r, "cannot remove %s", w->trees);
	w->trees_lock = fd_close(w->trees_lock);
	free(w->trees);
	w->trees = NULL;
}

/* Where the most room is: in a container one of them may be very small. To be freed; NULL: nowhere. */
static char *choose_home(void)
{
	char *best = NULL;
	uint64_t most = 0;

	for (size_t k = 0; k < N_CANDIDATES; k++) {
		char *path = directory(k, "XXXXXX");
		struct statfs fs;

		if (path && statfs(candidate(k), &fs) == 0 && (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize > most) {
			most = (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize;
			free(best);
			best = path;
			continue;
		}
		free(path);
	}
	return best;
}

static int trees_make_home(struct work *w)
{
	int r = -ENOENT;

	/* Another daemon of the user that starts may take what is not locked yet for left behind, and remove it. */
	for (int tries = 0; tries < 10; tries++) {
		char *path = choose_home();

		if (!path)
			return -ENOENT;
		if (!mkdtemp(path)) {
			r = -errno;
			free(path);
			return r;
		}
		w->trees_lock = trees_lock_directory(path);
		/* Others find what they are told of; they cannot open it, and so not lock it. */
		if (w->trees_lock >= 0 && chmod(path, 0711) == 0) {
			w->trees = path;
			return 0;
		}
		r = w->trees_lock < 0 ? w->trees_lock : -errno;
		w->trees_lock = fd_close(w->trees_lock);
		trees_remove_directory(path);
		free(path);
	}
	return r;
}

static int give_to(const char *path, const char *user)
{
	const struct identity *id = user ? identity_of(user) : NULL;

	return id && chown(path, id->uid, id->gid) < 0 ? -errno : 0;
}

/* A name that nothing of this daemon, or of one before it, has. */
static int new_path(struct work *w, const char *name, const char *suffix, char **out)
{
	int r = w->trees ? 0 : trees_make_home(w);

	if (r == 0)
		*out = xasprintf("%s/%s-%llu%s", w->trees, name, (unsigned long long)++w->model->last_serial, suffix);
	return r;
}

int trees_make(struct work *w, const char *name, const char *user, char **out)
{
	_cleanup_free_ char *path = NULL;
	int r = new_path(w, name, "", &path);

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

int trees_note(struct work *w, const char *name, const char *user, char **out)
{
	_cleanup_free_ char *path = NULL;
	_cleanup_fd_ int fd = -1;
	int r = new_path(w, name, NOTE, &path);

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
