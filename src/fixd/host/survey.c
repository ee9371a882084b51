/* SPDX-License-Identifier: MIT */
#include "fixd/host/survey.h"

#include <dirent.h>
#include <errno.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/text.h"
#include "base/vector.h"
#include "fixd/host/viewer.h"

/* So many names are looked at before the clock is. */
#define NAMES_AT_ONCE 16

struct survey {
	struct viewer *viewer;
	char *const *patterns; /* the next one */
	size_t visited, most;  /* names */
	const struct survey_watch *watch;
	void *arg;
	bool too_large;
	glob_t found; /* of the last glob */
	size_t n_found, next_found;
	struct vector dirs; /* paths of directories that are still to be read */
	DIR *dir;	    /* that is being read */
	char *path;	    /* its */
	struct snapshot list;
	struct snapshot_sorting sorting;
};

/* The one whose glob is looked up: each name read counts, so that no pattern walks over a whole disk. */
static struct survey *globbing;

static struct dirent *read_counted(struct survey *v, DIR *dir)
{
	if (v->visited >= v->most) {
		v->too_large = true;
		return NULL;
	}
	v->visited++;
	return readdir(dir);
}

static struct dirent *glob_read(void *dir)
{
	return read_counted(globbing, dir);
}

static bool may_see(const char *path, bool read)
{
	if (viewer_may_see(globbing->viewer, path, read))
		return true;
	errno = EACCES;
	return false;
}

static int glob_stat(const char *path, struct stat *st)
{
	return may_see(path, false) ? stat(path, st) : -1;
}

static int glob_lstat(const char *path, struct stat *st)
{
	return may_see(path, false) ? lstat(path, st) : -1;
}

static void *glob_open(const char *path)
{
	return may_see(path, true) ? opendir(path) : NULL;
}

static void glob_close(void *dir)
{
	closedir(dir);
}

static int find(struct survey *v, const char *pattern, int flags, glob_t *g)
{
	*g = (glob_t){
		.gl_opendir = glob_open, .gl_readdir = glob_read, .gl_closedir = glob_close, .gl_stat = glob_stat, .gl_lstat = glob_lstat
	};
	globbing = v;
	return glob(pattern, flags | GLOB_ALTDIRFUNC, NULL, g);
}

/* A link inside a tree: it, and the file that it leads to. A directory is not followed: it may be anywhere, also above. */
static void add_link(struct survey *v, const char *path, const struct stat *link)
{
	_cleanup_free_ char *target = NULL;
	struct stat st;

	snapshot_add(&v->list, look_at_link(path, link));
	if (v->watch)
		v->watch->way(v->arg, path);
	if (!viewer_may_see(v->viewer, path, false) || stat(path, &st) < 0 || S_ISDIR(st.st_mode) || !(target = realpath(path, NULL)))
		return;
	if (v->watch)
		v->watch->content(v->arg, target);
	snapshot_add(&v->list, look_at(v->viewer, target));
}

static void open_next(struct survey *v)
{
	v->path = v->dirs.all[--v->dirs.n];
	if (v->watch)
		v->watch->tree(v->arg, v->path);
	v->dir = viewer_may_see(v->viewer, v->path, true) ? opendir(v->path) : NULL;
}

static void close_dir(struct survey *v)
{
	if (v->dir)
		closedir(v->dir);
	v->dir = NULL;
	free(v->path);
	v->path = NULL;
}

static void read_one(struct survey *v)
{
	const struct dirent *d = v->dir ? read_counted(v, v->dir) : NULL;
	struct stat st = { 0 };
	char *child;

	if (!d) {
		close_dir(v);
		return;
	}
	if (!strcmp(d->d_name, ".") || !strcmp(d->d_name, ".."))
		return;
	child = xasprintf("%s/%s", v->path, d->d_name);
	if (lstat(child, &st) < 0 || !S_ISLNK(st.st_mode))
		snapshot_add(&v->list, look_at(v->viewer, child));
	else
		add_link(v, child, &st);
	if (S_ISDIR(st.st_mode))
		vector_add(&v->dirs, child);
	else
		free(child);
}

static void add_path(struct survey *v, const char *path)
{
	struct look e;

	if (v->watch) {
		v->watch->way(v->arg, path);
		v->watch->content(v->arg, path);
	}
	/* After the watch is there: an edit is either seen here or heard later. */
	e = look_at(v->viewer, path);
	snapshot_add(&v->list, e);
	if (e.is_dir)
		vector_add(&v->dirs, xstrdup(path));
}

/* The directories in which the parts of a glob are looked up. */
static void watch_glob(struct survey *v, const char *pattern)
{
	for (const char *slash = pattern; slash; slash = strchr(slash + 1, '/')) {
		_cleanup_free_ char *prefix = xstrndup(pattern, slash > pattern ? (size_t)(slash - pattern) : 1);
		size_t part = strcspn(slash + 1, "/");
		_cleanup_free_ char *next = xstrndup(slash + 1, part);
		glob_t g;

		if (!strpbrk(next, "*?[") && !strpbrk(prefix, "*?["))
			continue;
		if (!strpbrk(prefix, "*?[")) {
			/* It may be still to come. */
			v->watch->way(v->arg, prefix);
			v->watch->names(v->arg, prefix);
			continue;
		}
		if (find(v, prefix, GLOB_NOSORT, &g) != 0)
			continue;
		for (size_t i = 0; i < g.gl_pathc; i++) {
			v->watch->way(v->arg, g.gl_pathv[i]);
			v->watch->names(v->arg, g.gl_pathv[i]);
		}
		globfree(&g);
	}
}

static void next_pattern(struct survey *v)
{
	const char *pattern = *v->patterns++;

	if (!strpbrk(pattern, "*?[")) {
		add_path(v, pattern);
		return;
	}
	if (v->watch)
		watch_glob(v, pattern);
	if (find(v, pattern, 0, &v->found) != 0)
		return;
	v->n_found = v->found.gl_pathc;
	v->next_found = 0;
}

static void next_found(struct survey *v)
{
	add_path(v, v->found.gl_pathv[v->next_found++]);
	if (v->next_found < v->n_found)
		return;
	globfree(&v->found);
	v->n_found = v->next_found = 0;
}

/* False: everything was looked at. */
static bool look_at_more(struct survey *v)
{
	if (v->path)
		read_one(v);
	else if (v->dirs.n)
		open_next(v);
	else if (v->next_found < v->n_found)
		next_found(v);
	else if (*v->patterns)
		next_pattern(v);
	else
		return false;
	return true;
}

struct survey *survey_new(struct viewer *viewer, char *const *patterns, size_t most, const struct survey_watch *watch, void *arg)
{
	struct survey *v = xcalloc(1, sizeof *v);

	v->viewer = viewer;
	v->patterns = patterns;
	v->most = most;
	v->watch = watch;
	v->arg = arg;
	return v;
}

bool survey_step(struct survey *v, int64_t until)
{
	bool more = true;

	if (!viewer_begin(v->viewer)) {
		v->too_large = true;
		return true;
	}
	for (unsigned n = 1; more && (n % NAMES_AT_ONCE || clock_now() < until); n++)
		more = look_at_more(v);
	viewer_end(v->viewer);
	return !more && snapshot_sort(&v->list, &v->sorting, until);
}

bool survey_watches(const struct survey *v)
{
	return v->watch;
}

bool survey_too_large(const struct survey *v)
{
	return v->too_large;
}

struct snapshot survey_take(struct survey *v)
{
	struct snapshot list = v->list;

	v->list = (struct snapshot){ 0 };
	survey_free(v);
	return list;
}

struct survey *survey_free(struct survey *v)
{
	if (!v)
		return NULL;
	close_dir(v);
	if (v->n_found)
		globfree(&v->found);
	while (v->dirs.n)
		free(v->dirs.all[--v->dirs.n]);
	vector_deinit(&v->dirs);
	snapshot_deinit(&v->list);
	free(v);
	return NULL;
}
