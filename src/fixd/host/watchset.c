/* SPDX-License-Identifier: MIT */
/* What a set sees: its looks, and what changes between them. */
#include "fixd/host/subscription.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "fixd/host/survey.h"
#include "fixd/host/viewer.h"
#include "wire/record.h"

static void watch_way(void *set, const char *path)
{
	subscribe_way(set, path, 0);
}

/* Of what is there, and of what may appear there. */
static void poll_untold(struct watchset *s, const char *path)
{
	if (!s->polled && !changes_are_told(path))
		s->polled = true;
}

static void watch_content(void *set, const char *path)
{
	subscribe(set, path, NULL, A_NAME, MASK_CONTENT | MASK_SELF);
	poll_untold(set, path);
}

static void watch_names(void *set, const char *path, const char *name, enum name_kind kind)
{
	subscribe(set, path, name, kind, MASK_NAMES | MASK_SELF);
	poll_untold(set, path);
}

static void watch_tree(void *set, const char *path)
{
	subscribe(set, path, NULL, A_NAME, MASK_TREE);
	poll_untold(set, path);
}

static const struct survey_watch watches = { watch_way, watch_content, watch_names, watch_tree };

static void forget_paths(struct vector *paths)
{
	while (paths->n)
		free(paths->all[--paths->n]);
}

static void forget_touched(struct watchset *s)
{
	forget_paths(&s->touched);
	s->look_at_all = false;
}

void watchset_note_move(struct watchset *s, const char *path)
{
	if (!s->moved && !survey_excludes(s->patterns, path))
		s->moved = xstrdup(path);
}

void watchset_note(struct watchset *s, const char *path)
{
	struct look *found = snapshot_find(&s->seen, path);

	if (found && !found->is_dir)
		found->written = true;
	else if (found || snapshot_has_below(&s->seen, path))
		watchset_note_move(s, path);
}

/* One path that something happened to. NULL: it is as it was. */
static char *look_at_one(struct watchset *s, const char *path)
{
	const struct look *was = snapshot_find(&s->seen, path);
	struct stat st;
	struct look is;
	const char *what;

	if (was) {
		is = viewer_stat(s->viewer, path, false, &st) == 0 && S_ISLNK(st.st_mode) && !was->is_dir && was->mode && S_ISLNK(was->mode)
			     ? look_at_link(path, &st)
			     : look_at(s->viewer, path);
		what = look_difference(was, &is, s->polled);
		free(is.path);
		/* It may be another one with the same looks, or have got another name by which it is written to. */
		s->again = true;
		if (!what && is.exists && !is.is_dir)
			watch_content(s, path);
		s->again = false;
	} else {
		/* It is new in a tree, or has gone again. */
		what = viewer_stat(s->viewer, path, false, &st) == 0 && !survey_excludes(s->patterns, path) ? "appeared" : NULL;
	}
	return what ? xasprintf("%s %s", path, what) : NULL;
}

static char *look_at_touched(struct watchset *s)
{
	char *changed = NULL;

	if (!viewer_begin(s->viewer))
		return xstrdup("what it watches cannot be looked at any more");
	for (size_t k = 0; !changed && k < s->touched.n; k++)
		changed = look_at_one(s, s->touched.all[k]);
	viewer_end(s->viewer);
	return changed;
}

/* What happens from now on is not of this look, and stays for the next one. */
static void begin_look(struct watchset *s)
{
	s->look_began = clock_now();
	/* A directory that is new may be where the next file appears. */
	if (s->renamed && !s->deaf) {
		s->old_hearing = s->hearing;
		s->hearing = hearing_new(s);
	}
	s->survey = survey_new(s->viewer, s->patterns, s->most, s->renamed && !s->deaf ? &watches : NULL, s);
	forget_touched(s);
	s->hinted = s->renamed = false;
}

static void end_look(struct watchset *s)
{
	struct snapshot now;
	char *wrong;

	wrong = survey_wrong(s->survey);
	now = survey_take(s->survey);
	s->survey = NULL;
	s->looked = s->look_began;
	s->changed = wrong ? wrong : snapshot_compare(&s->seen, &now, s->polled);
	hearing_leave(s->watcher, s->old_hearing, &now);
	s->old_hearing = NULL;
}

/* What it sees first is what later looks are compared with. */
static void end_first_look(struct watchset *s)
{
	struct snapshot now;

	s->wrong = survey_wrong(s->survey);
	now = survey_take(s->survey);
	s->survey = NULL;
	s->complete = true;
	s->seen = s->restored ? s->before : now;
	if (s->restored) {
		/* What has changed meanwhile, nobody was told of. */
		s->before = (struct snapshot){ 0 };
		s->changed = snapshot_compare(&s->seen, &now, true);
		hearing_leave(s->watcher, NULL, &now);
	}
	/* What was written meanwhile may look as it did. */
	for (size_t k = 0; k < s->modified.n; k++)
		watchset_note(s, s->modified.all[k]);
	forget_paths(&s->modified);
}

/* All of it was looked at. */
static void judge(struct watchset *s)
{
	if (!s->changed && s->moved)
		s->changed = xasprintf("%s was moved", s->moved);
}

static bool is_known(const struct watchset *s, int64_t asked)
{
	return s->changed || (!s->survey && !s->hinted && (!s->polled || s->looked >= asked));
}

bool watchset_look_briefly(struct watchset *s, int64_t asked)
{
	return is_known(s, asked) || watchset_look(s, asked, clock_now() + LOOK_SLICE);
}

bool watchset_look(struct watchset *s, int64_t asked, int64_t until)
{
	if (is_known(s, asked))
		return true;
	/* Of many files usually few are concerned. */
	if (!s->survey && !s->polled && !s->look_at_all) {
		s->changed = look_at_touched(s);
		judge(s);
		forget_touched(s);
		s->hinted = false;
		return true;
	}
	if (!s->survey)
		begin_look(s);
	if (!survey_step(s->survey, until))
		return false;
	if (s->complete)
		end_look(s);
	else
		end_first_look(s);
	judge(s);
	return true;
}

char *watchset_changed(struct watchset *s, int64_t asked)
{
	/* Where a look was at hand that began before, another one follows. */
	if (s->survey)
		watchset_look(s, asked, INT64_MAX);
	watchset_look(s, asked, INT64_MAX);
	return watchset_known_change(s);
}

char *watchset_known_change(const struct watchset *s)
{
	return s->changed ? xstrdup(s->changed) : NULL;
}

/* One path has one name: without empty parts, and those that are the directory itself. */
static char *normal_pattern(const char *pattern)
{
	char *copy = xstrdup(pattern), *to = copy;

	if (*copy != '/')
		return copy; /* what is excluded */
	for (const char *p = copy; *p; p++) {
		if (p[0] == '/' && p[1] == '.' && (p[2] == '/' || !p[2]))
			p++;
		else if (p[0] != '/' || p[1] != '/')
			*to++ = *p;
	}
	if (to > copy + 1 && to[-1] == '/')
		to--;
	if (to == copy)
		*to++ = '/';
	*to = '\0';
	return copy;
}

struct watchset *watchset_new(struct watcher *w, char *const *files, char *const *patterns, size_t most, struct viewer *viewer,
			      void (*hint)(void *arg), void *arg)
{
	struct watchset *s = xcalloc(1, sizeof *s);
	size_t n_files = list_count(files), n_patterns = list_count(patterns);

	s->watcher = w;
	s->most = most;
	s->viewer = viewer;
	s->hint = hint;
	s->arg = arg;
	s->patterns = xcalloc(n_files + n_patterns + 1, sizeof *s->patterns);
	for (size_t i = 0; i < n_files; i++)
		s->patterns[i] = normal_pattern(files[i]);
	for (size_t i = 0; i < n_patterns; i++)
		s->patterns[n_files + i] = normal_pattern(patterns[i]);
	s->hearing = hearing_new(s);
	link_init(&s->in_told);
	link_insert(&w->sets, &s->link);
	s->survey = survey_new(viewer, s->patterns, most, &watches, s);
	return s;
}

struct viewer *watchset_saved_viewer(const struct record *saved)
{
	struct record_reader in = record_inside(saved);
	struct record r;
	bool bad = false;

	while (record_next(&in, &r, &bad)) {
		if (r.field == SAVED_VIEWER)
			return viewer_restore(&r);
	}
	return NULL;
}

void watchset_save(const struct watchset *s, struct text *out)
{
	if (s->viewer)
		viewer_save(s->viewer, SAVED_VIEWER, out);
	snapshot_save(s->restored && !s->complete ? &s->before : &s->seen, out);
}

void watchset_restore(struct watchset *s, const struct record *saved)
{
	s->restored = snapshot_restore(&s->before, saved);
	if (!s->restored)
		s->changed = xstrdup("what it watches is not known");
}

char *watchset_wrong(const struct watchset *s)
{
	return s->wrong ? xstrdup(s->wrong) : NULL;
}

struct watchset *watchset_free(struct watchset *s)
{
	if (!s)
		return NULL;
	survey_free(s->survey);
	hearing_leave(s->watcher, s->old_hearing, &s->before);
	hearing_leave(s->watcher, s->hearing, &s->seen);
	link_remove(&s->link);
	link_remove(&s->in_told);
	forget_paths(&s->modified);
	vector_deinit(&s->modified);
	list_free(s->patterns);
	forget_touched(s);
	vector_deinit(&s->touched);
	free(s->viewer);
	free(s->changed);
	free(s->moved);
	free(s->wrong);
	free(s);
	return NULL;
}

char **watchset_first_files(const struct watchset *s, size_t most, size_t *of)
{
	char **files = xcalloc((s->seen.n < most ? s->seen.n : most) + 1, sizeof *files);
	size_t n = 0;

	*of = s->seen.n;
	for (size_t i = 0; i < s->seen.n && n < most; i++) {
		if (i && !strcmp(s->seen.all[i].path, s->seen.all[i - 1].path))
			continue;
		files[n++] = xstrdup(s->seen.all[i].path);
	}
	return files;
}

char **watchset_files(const struct watchset *s)
{
	size_t n;

	return watchset_first_files(s, SIZE_MAX, &n);
}

/* What happened may concern the one path, or anything. */
