/* SPDX-License-Identifier: MIT */
/*
 * Effects: what the model wants done by others, and what it asks of them, the time, too. They are given to it at the start, by the
 * room work/ or by a test. None of them calls the model back before it returns.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "fixd/model/policy.h"

struct image;
struct instance;
struct session;
struct watchset;
struct work;

#define BOARD_NO_SLOT UINT32_MAX

struct effects {
	/* The time, in ns: one that never jumps, by which ages are measured; and that of people. */
	int64_t (*now)(void);
	int64_t (*real)(void);
	/* Ends in instance_built(), instance_build_failed() or instance_build_again(). */
	void (*build)(struct instance *i);
	/* True: the build of it had not begun, and will not. */
	bool (*withdraw)(struct instance *i);
	/* Ends in instance_compared(), instance_checked() or instance_was_reset(). `cause` is copied; it may be NULL. */
	void (*check)(struct instance *i, enum verdict what, const char *cause);
	/* Whatever is at work on it, a client, too: nothing is reported any more. */
	void (*abandon)(struct instance *i);
	/* The image has a reference until it was torn down, and then none. */
	void (*tear_down)(struct image *im);
	/* Is the root directory of a session there? 0, or -errno: also that its user may not look. */
	int (*look_at_root)(const struct session *s);
	/*
	 * The inputs of an instance, as they were seen: looks for one slice of time at what has changed, for somebody who asked at `asked`;
	 * false: that is not over. Then what it has found; or both, however long it takes. NULL, or a sentence to be freed.
	 */
	bool (*look)(struct watchset *inputs, int64_t asked);
	char *(*found)(const struct watchset *inputs);
	char *(*changed)(struct watchset *inputs, int64_t asked);
	struct watchset *(*forget)(struct watchset *inputs);
	/*
	 * What clients see without asking: in a slot of the board the value of what is current, or 0. A new value, and a slot if there is none
	 * yet; one that there was before; and the slot is given back.
	 */
	uint64_t (*show_new)(struct work *w, uint32_t *slot);
	void (*show)(struct work *w, uint32_t slot, uint64_t value);
	void (*show_no_more)(struct work *w, uint32_t slot);
	void (*remove_tree)(struct work *w, const char *path);
	/* Has what keeps it (image::kept_by) ended by itself a moment ago, though nobody was told? instance_service_died() or instance_compared() is to follow. */
	bool (*is_dying)(struct image *im);
	/* Is what an earlier daemon left of a fixture of that name still being torn down? */
	bool (*is_blocked)(const struct work *w, const char *fixture);
};
