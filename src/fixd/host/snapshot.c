/* SPDX-License-Identifier: MIT */
#include "fixd/host/snapshot.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/text.h"
#include "fixd/host/viewer.h"
#include "wire/record.h"

static void take_stat(struct look *e, const struct stat *st)
{
	e->exists = true;
	e->is_dir = S_ISDIR(st->st_mode);
	e->mode = st->st_mode;
	if (e->is_dir)
		return; /* its entries are looked at, its own times say nothing */
	e->mtime = st->st_mtim.tv_sec * NSEC_PER_SEC + st->st_mtim.tv_nsec;
	e->ctime = st->st_ctim.tv_sec * NSEC_PER_SEC + st->st_ctim.tv_nsec;
	e->size = st->st_size;
	e->ino = st->st_ino;
	e->dev = st->st_dev;
}

struct look look_at(const struct viewer *v, const char *path)
{
	struct look e = { .path = xstrdup(path) };
	struct stat st;

	if (viewer_stat(v, path, true, &st) == 0)
		take_stat(&e, &st);
	return e;
}

struct look look_at_link(const char *path, const struct stat *st)
{
	struct look e = { .path = xstrdup(path) };

	take_stat(&e, st);
	return e;
}

void snapshot_add(struct snapshot *list, struct look e)
{
	if (list->n == list->room) {
		list->room = list->room ? 2 * list->room : 16;
		list->all = xrealloc(list->all, list->room * sizeof *list->all);
	}
	list->all[list->n++] = e;
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct look *)a)->path, ((const struct look *)b)->path);
}

void snapshot_deinit(struct snapshot *list)
{
	for (size_t i = 0; i < list->n; i++)
		free(list->all[i].path);
	free(list->all);
	*list = (struct snapshot){ 0 };
}

const char *look_difference(const struct look *was, const struct look *is, bool unheard)
{
	if (was->exists != is->exists)
		return is->exists ? "appeared" : "vanished";
	if (was->is_dir != is->is_dir || was->ino != is->ino || was->dev != is->dev)
		return "was replaced";
	if (was->size != is->size)
		return "changed (size)";
	if (was->mtime != is->mtime)
		return "changed (mtime)";
	if (was->mode && was->mode != is->mode)
		return "changed (mode)";
	if (unheard && was->ctime && was->ctime != is->ctime)
		return "changed (ctime)";
	return was->written ? "was written" : NULL;
}

char *snapshot_compare(const struct snapshot *before, const struct snapshot *now, bool unheard)
{
	size_t i = 0, k = 0;

	while (i < before->n || k < now->n) {
		const struct look *was = i < before->n ? &before->all[i] : NULL;
		const struct look *is = k < now->n ? &now->all[k] : NULL;
		int order = !was ? 1 : !is ? -1 : strcmp(was->path, is->path);
		const char *what = order < 0 ? "vanished" : order > 0 ? "appeared" : look_difference(was, is, unheard);

		if (what)
			return xasprintf("%s %s", order > 0 ? is->path : was->path, what);
		i += order <= 0;
		k += order >= 0;
	}
	return NULL;
}

static void snapshot_sift_down(struct look *all, size_t place, size_t n)
{
	struct look e = all[place];

	for (size_t child; (child = 2 * place + 1) < n; place = child) {
		if (child + 1 < n && by_path(&all[child], &all[child + 1]) < 0)
			child++;
		if (by_path(&e, &all[child]) >= 0)
			break;
		all[place] = all[child];
	}
	all[place] = e;
}

/* Few are sorted at once; many by a heap, which can be left and taken up at any element. */
#define SORT_AT_ONCE 500
#define SIFTS_AT_ONCE 32

bool snapshot_sort(struct snapshot *list, struct snapshot_sorting *at, int64_t until)
{
	if (list->n < SORT_AT_ONCE) {
		if (list->n)
			qsort(list->all, list->n, sizeof *list->all, by_path);
		return true;
	}
	if (!at->begun)
		*at = (struct snapshot_sorting){ .heaped = list->n / 2, .left = list->n, .begun = true };
	for (unsigned k = 1; at->heaped > 0 || at->left > 1; k++) {
		if (at->heaped > 0) {
			snapshot_sift_down(list->all, --at->heaped, list->n);
		} else {
			struct look greatest = list->all[0];

			list->all[0] = list->all[--at->left];
			list->all[at->left] = greatest;
			snapshot_sift_down(list->all, 0, at->left);
		}
		if (k % SIFTS_AT_ONCE == 0 && clock_now() >= until)
			return false;
	}
	return true;
}

struct look *snapshot_find(const struct snapshot *list, const char *path)
{
	struct look key = { .path = (char *)path };

	return list->n ? bsearch(&key, list->all, list->n, sizeof key, by_path) : NULL;
}

bool snapshot_has_below(const struct snapshot *list, const char *directory)
{
	_cleanup_free_ char *prefix = xasprintf("%s/", directory);
	size_t n = strlen(prefix), from = 0, to = list->n;

	while (from < to) {
		size_t middle = from + (to - from) / 2;

		if (strcmp(list->all[middle].path, prefix) < 0)
			from = middle + 1;
		else
			to = middle;
	}
	while (from < list->n && !strncmp(list->all[from].path, prefix, n)) {
		if (list->all[from++].exists)
			return true;
	}
	return false;
}

static struct look restore_look(const struct record *saved)
{
	struct record_reader in = record_inside(saved);
	struct look e = { 0 };
	struct record r;
	bool bad = false;

	while (record_next(&in, &r, &bad)) {
		switch (r.field) {
		case SAVED_PATH:
			free(e.path);
			e.path = record_dup(&r);
			break;
		case SAVED_EXISTS:
			e.exists = r.number;
			break;
		case SAVED_IS_DIR:
			e.is_dir = r.number;
			break;
		case SAVED_WRITTEN:
			e.written = r.number;
			break;
		case SAVED_MTIME:
			e.mtime = (int64_t)r.number;
			break;
		case SAVED_CTIME:
			e.ctime = (int64_t)r.number;
			break;
		case SAVED_SIZE:
			e.size = (off_t)r.number;
			break;
		case SAVED_INO:
			e.ino = r.number;
			break;
		case SAVED_DEV:
			e.dev = r.number;
			break;
		case SAVED_MODE:
			e.mode = (mode_t)r.number;
			break;
		}
	}
	if (!e.path)
		e.path = xstrdup("");
	return e;
}

void snapshot_save(const struct snapshot *list, struct text *out)
{
	for (size_t i = 0; i < list->n; i++) {
		const struct look *e = &list->all[i];
		size_t mark = record_begin(out, SAVED_LOOK, RECORD_OBJECT);

		record_string(out, SAVED_PATH, e->path);
		record_bool(out, SAVED_EXISTS, e->exists);
		record_bool(out, SAVED_IS_DIR, e->is_dir);
		record_bool(out, SAVED_WRITTEN, e->written);
		record_time(out, SAVED_MTIME, e->mtime);
		record_time(out, SAVED_CTIME, e->ctime);
		record_u64(out, SAVED_SIZE, (uint64_t)e->size);
		record_u64(out, SAVED_INO, e->ino);
		record_u64(out, SAVED_DEV, e->dev);
		record_u64(out, SAVED_MODE, e->mode);
		record_end(out, mark);
	}
}

bool snapshot_restore(struct snapshot *list, const struct record *saved)
{
	struct record_reader in = record_inside(saved);
	struct record r;
	bool bad = false;

	while (record_next(&in, &r, &bad)) {
		if (r.field == SAVED_LOOK)
			snapshot_add(list, restore_look(&r));
	}
	return !bad;
}
