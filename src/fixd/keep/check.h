/* SPDX-License-Identifier: MIT */
/*
 * Is a saved state one that a daemon could have written? Every field has its type and its range, every reference a target, every path is
 * in the directory of the daemon's trees, and no number would signal a process that cannot be one of ours. It is asked before anything
 * of the state is used. Fields that are not known are of a newer version, and passed over.
 */
#pragma once

#include <stddef.h>

/* NULL, or a sentence (to be freed) that says what is wrong. */
char *state_check(const void *records, size_t size);
