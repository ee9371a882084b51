/* SPDX-License-Identifier: MIT */
/*
 * A snapshot: how files were when they were looked at, in the order of their paths. What is compared is what stat(2) says, and that
 * a write was heard. Of a directory only that it is one: its entries have looks of their own.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

struct record;
struct text;
struct viewer;

struct look {
	char *path;
	bool exists, is_dir;
	bool written; /* a write was heard since */
	mode_t mode;  /* 0: not known */
	int64_t mtime;
	int64_t ctime; /* 0: not known */
	off_t size;
	ino_t ino;
	dev_t dev;
};

struct snapshot {
	struct look *all;
	size_t n, room;
};

/* Between viewer_begin() and viewer_end() of `v`. The look of a link is that of the file that it leads to, but for look_at_link(). */
struct look look_at(const struct viewer *v, const char *path);
struct look look_at_link(const char *path, const struct stat *st);
/* Two looks at one path; `unheard`: nobody has told of writes, after which the other times may have been put back. NULL: no difference. */
const char *look_difference(const struct look *was, const struct look *is, bool unheard);

void snapshot_add(struct snapshot *list, struct look e);
/* How far the sorting of one has come; zeroed at first. */
struct snapshot_sorting {
	size_t heaped, left;
	bool begun;
};
/* After all were added, until that time (clock.h). True: it is in order. */
bool snapshot_sort(struct snapshot *list, struct snapshot_sorting *at, int64_t until);
struct look *snapshot_find(const struct snapshot *list, const char *path);
/* Is there anything in that directory? */
bool snapshot_has_below(const struct snapshot *list, const char *directory);
/* NULL, or what is different, in a sentence to be freed. */
char *snapshot_compare(const struct snapshot *was, const struct snapshot *now, bool unheard);
void snapshot_deinit(struct snapshot *list);

/* The fields of a saved set of watched files. */
enum saved_watch {
	SAVED_LOOK = 1,
	SAVED_PATH,
	SAVED_EXISTS,
	SAVED_IS_DIR,
	SAVED_WRITTEN,
	SAVED_MTIME,
	SAVED_SIZE,
	SAVED_INO,
	SAVED_DEV,
	SAVED_MODE,
	SAVED_VIEWER,
	SAVED_CTIME
};
void snapshot_save(const struct snapshot *list, struct text *out);
/* False: it is torn. */
bool snapshot_restore(struct snapshot *list, const struct record *saved);
