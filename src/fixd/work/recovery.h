/* SPDX-License-Identifier: MIT */
/*
 * Recovery: what a daemon that is gone has left in its directory is torn down by its notes, one after the other, the newest first, and then
 * removed. Meanwhile no fixture of the same name is built.
 */
#pragma once

#include <stdbool.h>

struct recovery;
struct work;

/* Of all daemons of this user that are gone. */
void recovery_begin(struct work *w);
/* Of this daemon's own directory, which another process had: what is not in `used` that one has not finished. */
void recovery_go_on(struct work *w, char *const *used);
/* The turn of one note is over. */
void recovery_continue(struct recovery *r);
/* Is anything of that fixture among what is still to be torn down? */
bool recovery_blocks(const struct work *w, const char *fixture);
