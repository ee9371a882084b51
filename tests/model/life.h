/* SPDX-License-Identifier: MIT */
/* One life of the model, as the words of its history say. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LIFE 400 /* words of a history */

/*
 * In the number of a seed: there are clones; sessions of several users, who define what they build; the daemon is killed, and another one
 * goes on; it becomes another program, and its connections live on.
 */
#define WITH_CLONES (UINT64_C(1) << 40)
#define WITH_USERS (UINT64_C(1) << 41)
#define WITH_RESTARTS (UINT64_C(1) << 42)
#define WITH_RESTARTS_IN_PLACE (UINT64_C(1) << 43)

/* What has happened in lives that ended well. */
struct figures {
	uint64_t lives, steps, built, torn_down;
};
extern struct figures *life_figures;
extern bool life_is_loud; /* each step is told */

/* 0: nothing was wrong; otherwise the step at which something was. The world is left then as it is. */
size_t live(uint64_t ways, const uint32_t *words, size_t n);
/* What was wrong, or NULL. */
const char *life_fault(void);
