/* SPDX-License-Identifier: MIT */
#include "fixd/work/recovery.h"

#include <glob.h>
#include <stdlib.h>
#include <string.h>

#include "fixd/host/treedir.h"
#include "fixd/model/instance.h"
#include "fixd/model/session.h"
#include "fixd/work/keeper.h"
#include "fixd/work/trees.h"
#include "fixd/work/work.h"

struct recovery {
	struct link link; /* work::recoveries */
	struct work *work;
	char *path;
	int lock;     /* -1: the daemon's own directory now */
	char **names; /* the newest first */
	size_t next;  /* whose turn it is, if it is a note */
};

static bool is_note(const char *path)
{
	size_t n = strlen(path);

	return n > strlen(TREES_NOTE) && !strcmp(path + n - strlen(TREES_NOTE), TREES_NOTE);
}

static void recovery_free(struct recovery *l)
{
	trees_remove_later(l->work, l->names ? l->names : xcalloc(1, sizeof *l->names), l->path, l->lock);
	link_remove(&l->link);
	free(l);
}

static void wake(struct instance *i, void *arg)
{
	(void)arg;
	instance_wake(i);
}

void recovery_continue(struct recovery *l)
{
	/* Soon: who waits for one that has had its turn. */
	if (l->work->model->session)
		session_each(l->work->model->session, wake, NULL);
	while (l->names && l->names[l->next]) {
		const char *name = l->names[l->next++];

		if (is_note(name) && keeper_reap(l->work, name, l))
			return;
	}
	recovery_free(l);
}

bool recovery_blocks(const struct work *w, const char *fixture)
{
	size_t n = strlen(fixture);

	link_for_each(m, &w->recoveries) {
		const struct recovery *l = link_entry(m, struct recovery, link);

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
static int leavings_by_serial(const void *a, const void *b)
{
	const char *const *x = a, *const *y = b;
	unsigned long long m = strtoull(strrchr(*x, '-') + 1, NULL, 10), n = strtoull(strrchr(*y, '-') + 1, NULL, 10);

	return m < n ? 1 : m > n ? -1 : 0;
}

/* It is torn down in the background, by its notes; then all of it is removed. */
static void take_over(struct work *w, const char *path, int lock, char *const *used)
{
	_cleanup_free_ char *pattern = xasprintf("%s/*", path);
	struct recovery *l = xcalloc(1, sizeof *l);
	size_t n = 0;
	glob_t g;

	link_insert(&w->recoveries, &l->link);
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
		qsort(l->names, n, sizeof *l->names, leavings_by_serial);
	recovery_continue(l);
}

void recovery_begin(struct work *w)
{
	for (size_t k = 0; k < TREEDIR_PLACES; k++) {
		_cleanup_free_ char *pattern = treedir_path(k, "*");
		glob_t g;

		if (!pattern || glob(pattern, GLOB_NOSORT, NULL, &g) != 0)
			continue;
		for (size_t i = 0; i < g.gl_pathc; i++) {
			int lock = treedir_lock(g.gl_pathv[i]);

			if (lock >= 0)
				take_over(w, g.gl_pathv[i], lock, NULL);
		}
		globfree(&g);
	}
}

void recovery_go_on(struct work *w, char *const *used)
{
	if (w->trees)
		take_over(w, w->trees, -1, used);
}
