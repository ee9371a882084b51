/* SPDX-License-Identifier: MIT */
/*
 * Whether data were left by a server that was killed: each that is started over them has to recover first.
 *
 * Promises: a bounded look, of some thousand names in the first two levels; what is found is a mark that a server removes, or
 * changes, when it is stopped.
 */
#pragma once

/* What tells it, to be freed: "pgdata/postmaster.pid is there". NULL: nothing does. */
char *unclean_find(const char *dir);
