/* SPDX-License-Identifier: MIT */
/* The descriptors that the helper works with, which the code of a plugin may close, or put something else in the place of. */
#pragma once

#include "builder/work.h"

/* Before a plugin runs. */
void descriptors_note(struct work *w);

/* 0, or the failure of the job: nothing may be written to what lies there now. Does not return where it cannot be told any more. */
int descriptors_check(struct work *w);

/* Only that: without its channel the process ends at once, by a status that says so. May be called inside the allocator. */
void descriptors_check_channel(const struct work *w);
