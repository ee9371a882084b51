/* SPDX-License-Identifier: MIT */
/*
 * Globs as of fnmatch(3): `*`, `?`, `[...]` and `\`. In time that grows with the length of the pattern times that of the text, whatever
 * they are: fnmatch() itself takes exponentially long for a pattern of many stars, and patterns come from anybody.
 */
#pragma once

#include <stdbool.h>

/* The pattern of which this text is the only match, and the text of a pattern without wildcards; to be freed. */
char *glob_literal(const char *text);
char *glob_text(const char *pattern);

bool glob_match(const char *pattern, const char *text);
/* Of file names: a period at the beginning is only matched by a period. */
bool glob_match_file(const char *pattern, const char *name);
/*
 * Does one of the patterns leave this path out of the tree that it is in? One without a slash is of a name, wherever that is, others
 * are of the path; a slash at the end says no more.
 */
bool glob_excludes(char *const *patterns, const char *path);
