/* SPDX-License-Identifier: MIT */
/*
 * A survey: what files, directories (with everything below) and globs lead to, looked at in slices, so that a tree of 100,000 files
 * holds nobody up. Who watches them is told of each place before it is looked at: a change is either seen or heard.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fixd/host/snapshot.h"

struct survey;
struct viewer;

enum name_kind { A_NAME, A_PATTERN, LAST_PATTERN /* whose names are what is looked for */ };

/* What can be told of a place that is to be watched; `path` is absolute. */
struct survey_watch {
	void (*way)(void *arg, const char *path);     /* every directory that is passed on the way to it */
	void (*content)(void *arg, const char *path); /* the file or directory itself */
	void (*names)(void *arg, const char *path, const char *name,
		      enum name_kind kind);	   /* a directory in which such names may come and go */
	void (*tree)(void *arg, const char *path); /* a directory all of whose entries count */
};

/* With the rights of `viewer`; no more than `most` names. `watch` may be NULL: nobody watches. All but `arg` must outlive it. */
struct survey *survey_new(struct viewer *viewer, char *const *patterns, size_t most, const struct survey_watch *watch, void *arg);
/* Goes on until that time (clock.h), at least a little. True: it is complete. */
bool survey_step(struct survey *v, int64_t until);
bool survey_watches(const struct survey *v);
/*
 * NULL, or a sentence (to be freed) why it is not to be relied on: too many names, a directory that could not be read, a viewer that could not
 * be taken on.
 */
char *survey_wrong(const struct survey *v);
/* What was seen, in order; frees the survey. */
struct snapshot survey_take(struct survey *v);
struct survey *survey_free(struct survey *v);

/*
 * What is behind a directory in `patterns` with a '!' before it is excluded of that (base/glob.h): does that make the path one that is
 * not looked at?
 */
bool survey_excludes(char *const *patterns, const char *path);
