/* SPDX-License-Identifier: MIT */
#include "fixd/work/trees.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/tree.h"
#include "config/identity.h"
#include "fixd/host/treedir.h"
#include "fixd/host/worker.h"
#include "fixd/work/work.h"

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
	if (m->lock >= 0 && (r = treedir_remove(m->home)) < 0)
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

void trees_remove_later(struct work *w, char **paths, char *home, int lock)
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
	trees_remove_later(w, paths, NULL, -1);
}

void trees_deinit(struct work *w)
{
	int r = w->trees ? treedir_remove(w->trees) : 0;

	if (r < 0)
		log_warn(r, "cannot remove %s", w->trees);
	w->trees_lock = fd_close(w->trees_lock);
	free(w->trees);
	w->trees = NULL;
}

static int give_to(const char *path, const char *user)
{
	const struct identity *id = user ? identity_of(user) : NULL;

	return id && chown(path, id->uid, id->gid) < 0 ? -errno : 0;
}

/* A name that nothing of this daemon, or of one before it, has. */
static int new_path(struct work *w, const char *name, const char *suffix, char **out)
{
	if (!w->trees) {
		int lock = treedir_make(&w->trees);

		if (lock < 0)
			return lock;
		w->trees_lock = lock;
	}
	*out = xasprintf("%s/%s-%llu%s", w->trees, name, (unsigned long long)++w->model->last_serial, suffix);
	return 0;
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
	int r = new_path(w, name, TREES_NOTE, &path);

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
