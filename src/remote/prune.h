/* SPDX-License-Identifier: MIT */
/*
 * What nobody uses any more, in the directory that a web server gives out as a remote: manifests that were neither written nor read for that
 * long, and pieces that no manifest has.
 *
 * Promises: a piece of a manifest that stays is never removed, nor one that was written within the last day, which an upload may need;
 * nothing is removed that has not the name of a manifest or a piece; no link is followed. An upload that meets it may end as an image
 * without one of its pieces: whoever wants that builds it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct pruned {
	uint64_t manifests, pieces, bytes; /* removed */
	uint64_t kept;			   /* manifests */
};

/* With `dry` nothing is removed. 0, or -errno and a line on standard error. */
int prune(const char *directory, int64_t older_than_s, bool dry, struct pruned *out);
