/* SPDX-License-Identifier: MIT */
/* Texts with ${NAME} in them. */
#pragma once

/*
 * A copy of `s` with each ${NAME} replaced by what `value` says of it, to be freed. NULL, and *wrong (to be freed): a brace is
 * not closed, or `value` returned NULL for a name.
 */
char *template_expand(const char *s, const char *(*value)(const char *name, void *arg), void *arg, char **wrong);
