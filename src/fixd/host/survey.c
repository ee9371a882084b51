/* SPDX-License-Identifier: MIT */
#include "fixd/host/survey.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/glob.h"
#include "base/path.h"
#include "base/text.h"
#include "base/vector.h"
#include "fixd/host/viewer.h"

/* So many names are looked at before the clock is. */
#define NAMES_AT_ONCE 16

/* A directory that is still to be read. */
struct place {
	char *path;
	const char *rest; /* of the pattern, whose first part its names are to match; NULL: all of it counts, with everything below */
};

struct survey {
	struct viewer *viewer;
	char *const *patterns; /* the next one */
	char **excluded;       /* of the tree that is being looked at, or NULL */
	size_t root;	       /* length of its path */
	size_t visited, most;  /* names */
	const struct survey_watch *watch;
	void *arg;
	char *wrong; /* why it is not to be relied on */
	struct vector places;
	DIR *dir;	     /* that is being read */
	struct place *place; /* its */
	struct snapshot list;
	struct snapshot_sorting sorting;
};

static void give_up(struct survey *v, const char *path, int err)
{
	if (!v->wrong)
		v->wrong = xasprintf("what it watches cannot be looked at: %s: %s", path, strerror(err));
}

static struct dirent *read_counted(struct survey *v)
{
	struct dirent *e;
	int r;

	/* So that no pattern walks over a whole disk. */
	if (v->visited >= v->most) {
		v->wrong = v->wrong ? v->wrong : xasprintf("what it watches has more than %zu names to look through", v->most);
		return NULL;
	}
	v->visited++;
	e = dir_next(v->dir, &r);
	if (r < 0)
		give_up(v, v->place->path, -r);
	return e;
}

static void survey_add_place(struct survey *v, char *path, const char *rest)
{
	struct place *p = xcalloc(1, sizeof *p);

	p->path = path;
	p->rest = rest;
	vector_add(&v->places, p);
}

static void place_free(struct place *p)
{
	if (p)
		free(p->path);
	free(p);
}

/* A link inside a tree: it, and the file that it leads to. A directory is not followed: it may be anywhere, also above. */
static void add_link(struct survey *v, const char *path, const struct stat *link)
{
	_cleanup_free_ char *target = NULL;
	struct stat st;

	snapshot_add(&v->list, look_at_link(path, link));
	if (v->watch)
		v->watch->way(v->arg, path);
	if (viewer_stat(v->viewer, path, true, &st) < 0 || S_ISDIR(st.st_mode) || !(target = realpath(path, NULL)))
		return;
	if (v->watch)
		v->watch->content(v->arg, target);
	snapshot_add(&v->list, look_at(v->viewer, target));
}

/* `found`: by a glob, whose directories are watched; otherwise the way to it is still to be. */
static void add_path(struct survey *v, const char *path, bool found)
{
	struct stat st;
	struct look e;

	if (v->watch && (!found || (viewer_stat(v->viewer, path, false, &st) == 0 && S_ISLNK(st.st_mode))))
		v->watch->way(v->arg, path);
	if (v->watch)
		v->watch->content(v->arg, path);
	/* After the watch is there: an edit is either seen here or heard later. */
	e = look_at(v->viewer, path);
	snapshot_add(&v->list, e);
	if (e.is_dir)
		survey_add_place(v, xstrdup(path), NULL);
}

static bool is_pattern(const char *part, size_t n)
{
	return strcspn(part, "*?[") < n;
}

/* A part that is no pattern, without its backslashes. */
static char *survey_append(const char *path, const char *part, size_t n)
{
	struct text t = { 0 };

	text_printf(&t, "%s/", path);
	for (size_t k = 0; k < n; k++) {
		if (part[k] == '\\' && k + 1 < n)
			k++;
		text_add(&t, part + k, 1);
	}
	return text_steal(&t);
}

/* From `path` on, which a glob has found (or the root): to the next part that is a pattern, or to the end. `path` is taken. */
static void survey_go_on(struct survey *v, char *path, const char *rest, bool found)
{
	struct stat st;

	while (*(rest += strspn(rest, "/"))) {
		size_t n = strcspn(rest, "/");
		char *next;

		if (is_pattern(rest, n)) {
			if (v->watch && !found)
				v->watch->way(v->arg, *path ? path : "/");
			survey_add_place(v, path, rest);
			return;
		}
		next = survey_append(path, rest, n);
		/* It may be still to come. */
		if (v->watch && found)
			v->watch->names(v->arg, path, strrchr(next, '/') + 1, A_NAME);
		free(path);
		path = next;
		rest += n;
	}
	if (!found || viewer_stat(v->viewer, path, false, &st) == 0)
		add_path(v, path, found);
	free(path);
}

static void open_next(struct survey *v)
{
	struct place *p = v->place = v->places.all[--v->places.n];
	const char *path = *p->path ? p->path : "/";

	if (v->watch && p->rest) {
		_cleanup_free_ char *part = xstrndup(p->rest, strcspn(p->rest, "/"));

		v->watch->names(v->arg, path, part, p->rest[strcspn(p->rest, "/")] ? A_PATTERN : LAST_PATTERN);
	} else if (v->watch) {
		v->watch->tree(v->arg, path);
	}
	v->dir = viewer_opendir(v->viewer, path);
	/* What has gone or is refused is so until something is heard of it. */
	if (!v->dir && errno != ENOENT && errno != ENOTDIR && errno != EACCES && errno != EPERM && errno != ELOOP && errno != ENAMETOOLONG)
		give_up(v, path, errno);
}

static void close_dir(struct survey *v)
{
	if (v->dir)
		closedir(v->dir);
	v->dir = NULL;
	place_free(v->place);
	v->place = NULL;
}

static void match(struct survey *v, const char *name)
{
	const char *rest = v->place->rest;
	size_t n = strcspn(rest, "/");
	_cleanup_free_ char *part = xstrndup(rest, n);
	struct stat st;
	char *child;

	if (!glob_match_file(part, name))
		return;
	child = xasprintf("%s/%s", v->place->path, name);
	if (v->watch && rest[n] && viewer_stat(v->viewer, child, false, &st) == 0 && S_ISLNK(st.st_mode))
		v->watch->way(v->arg, child);
	survey_go_on(v, child, rest + n, true);
}

static void survey_read_one(struct survey *v)
{
	const struct dirent *d = v->dir ? read_counted(v) : NULL;
	struct stat st = { 0 };
	char *child;

	if (!d) {
		close_dir(v);
		return;
	}
	if (v->place->rest) {
		match(v, d->d_name);
		return;
	}
	child = xasprintf("%s/%s", v->place->path, d->d_name);
	if (v->excluded && glob_excludes(v->excluded, child + v->root + 1)) {
		free(child);
		return;
	}
	if (viewer_stat(v->viewer, child, false, &st) == 0 && S_ISLNK(st.st_mode)) {
		add_link(v, child, &st);
	} else {
		/* What is written by another name of it, its directory does not tell. */
		if (v->watch && S_ISREG(st.st_mode) && st.st_nlink > 1)
			v->watch->content(v->arg, child);
		snapshot_add(&v->list, look_at(v->viewer, child));
	}
	if (S_ISDIR(st.st_mode))
		survey_add_place(v, child, NULL);
	else
		free(child);
}

/* What stands behind a directory with a '!' before it; the list to be freed, not what it has. NULL: nothing does. */
static char **excluded_of(char *const *behind)
{
	char **list = NULL;

	for (size_t n = 0; behind[n] && behind[n][0] == '!'; n++) {
		list = xrealloc(list, (n + 2) * sizeof *list);
		list[n] = behind[n] + 1;
		list[n + 1] = NULL;
	}
	return list;
}

static void begin_pattern(struct survey *v)
{
	const char *pattern = *v->patterns++;
	_cleanup_free_ char *path = glob_text(pattern);

	free(v->excluded);
	v->excluded = excluded_of(v->patterns);
	v->root = strlen(path);
	v->patterns += list_count(v->excluded);
	survey_go_on(v, xstrdup(""), pattern, false);
}

bool survey_excludes(char *const *patterns, const char *path)
{
	bool excluded = false;

	for (; *patterns && !excluded; patterns++) {
		_cleanup_free_ char *literal = glob_text(*patterns);
		const char *rest = **patterns == '!' ? NULL : path_below(path, literal);
		char **list = rest && *rest == '/' ? excluded_of(patterns + 1) : NULL;

		/* It, or a directory on the way to it. */
		for (size_t n = 1; list && !excluded && n <= strlen(rest); n++) {
			_cleanup_free_ char *part = rest[n] == '/' || !rest[n] ? xstrndup(rest + 1, n - 1) : NULL;

			excluded = part && glob_excludes(list, part);
		}
		free(list);
	}
	return excluded;
}

/* False: everything was looked at. */
static bool look_at_more(struct survey *v)
{
	if (v->place)
		survey_read_one(v);
	else if (v->places.n)
		open_next(v);
	else if (*v->patterns)
		begin_pattern(v);
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
		v->wrong = v->wrong ? v->wrong : xstrdup("what it watches cannot be looked at with the rights of its user");
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

char *survey_wrong(const struct survey *v)
{
	return v->wrong ? xstrdup(v->wrong) : NULL;
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
	while (v->places.n)
		place_free(v->places.all[--v->places.n]);
	vector_deinit(&v->places);
	snapshot_deinit(&v->list);
	free(v->excluded);
	free(v->wrong);
	free(v);
	return NULL;
}
