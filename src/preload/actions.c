/* SPDX-License-Identifier: MIT */
/*
 * The file actions of posix_spawn(). libc opens the files in the child, by itself, later: what is shown is made private, so that
 * the path stays right whatever happens until then. Where the child changes its directory first, its relative paths start there.
 */
#include "preload/resolve.h"

#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct moved {
	struct moved *next;
	const posix_spawn_file_actions_t *actions;
	char path[PATH_MAX]; /* visible; may be relative to where the parent is */
};

static struct moved *moved_list;

/* Where the child of these actions is by then; `path` NULL: where its parent is. 0 or ENOMEM. */
static int set_moved(const posix_spawn_file_actions_t *actions, const char *path)
{
	struct moved **p, *m = NULL;
	int r = 0;

	if (!run)
		return 0;
	lists_take();
	for (p = &moved_list; *p && (*p)->actions != actions; p = &(*p)->next)
		;
	m = *p;
	if (m && !path) {
		*p = m->next;
		free(m);
	} else if (path && !m) {
		m = calloc(1, sizeof *m);
		if (m) {
			m->actions = actions;
			m->next = moved_list;
			moved_list = m;
		}
		r = m ? 0 : ENOMEM;
	}
	if (path && m)
		snprintf(m->path, sizeof m->path, "%s", path);
	lists_leave();
	return r;
}

bool actions_move(const posix_spawn_file_actions_t *actions, const char *path, char *out)
{
	const struct moved *m;
	int n = 0;

	if (!run || *path == '/' || !__atomic_load_n(&moved_list, __ATOMIC_RELAXED))
		return false;
	lists_take();
	for (m = moved_list; m && m->actions != actions; m = m->next)
		;
	if (m)
		n = snprintf(out, PATH_MAX, "%s/%s", m->path, path);
	lists_leave();
	return n > 0 && n < PATH_MAX;
}

SHIM int posix_spawn_file_actions_init(posix_spawn_file_actions_t *actions)
{
	set_moved(actions, NULL);
	return REAL(posix_spawn_file_actions_init)(actions);
}

SHIM int posix_spawn_file_actions_destroy(posix_spawn_file_actions_t *actions)
{
	set_moved(actions, NULL);
	return REAL(posix_spawn_file_actions_destroy)(actions);
}

/* resolve_path() of what the child will mean by the path, which is `full`. */
static int find_for_child(struct resolved *p, const posix_spawn_file_actions_t *actions, const char *path, char *full)
{
	if (!actions_move(actions, path, full))
		snprintf(full, PATH_MAX, "%s", path);
	return resolve_reach(AT_FDCWD, full) == REACH_INSIDE ? resolve_path(p, AT_FDCWD, full, USE_CHANGE) : 0;
}

SHIM int posix_spawn_file_actions_addopen(posix_spawn_file_actions_t *actions, int fd, const char *path, int flags, mode_t mode)
{
	char full[PATH_MAX];
	struct resolved p;
	int r = find_for_child(&p, actions, path, full);

	if (r < 0)
		return errno;
	return REAL(posix_spawn_file_actions_addopen)(actions, fd, r ? p.path : path, flags, mode);
}

SHIM int posix_spawn_file_actions_addchdir_np(posix_spawn_file_actions_t *actions, const char *path)
{
	char full[PATH_MAX];
	struct resolved p;
	int r = find_for_child(&p, actions, path, full), err;

	if (r < 0)
		return errno;
	err = set_moved(actions, r == 1 ? p.visible : full);
	return err ? err : REAL(posix_spawn_file_actions_addchdir_np)(actions, r == 1 ? p.path : path);
}

SHIM int posix_spawn_file_actions_addfchdir_np(posix_spawn_file_actions_t *actions, int fd)
{
	char visible[PATH_MAX];
	bool shared;
	int err;

	if (run && fd_cache_entry_of(fd, visible, sizeof visible, &shared))
		return SEEN(posix_spawn_file_actions_addchdir_np)(actions, visible);
	err = run ? set_moved(actions, fd_cache_path(fd, visible, sizeof visible) ? visible : NULL) : 0;
	if (err)
		return err;
	return REAL(posix_spawn_file_actions_addfchdir_np)(actions, fd);
}
