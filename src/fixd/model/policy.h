/* SPDX-License-Identifier: MIT */
/* When is an image stale? Questions about an instance: what has happened to its inputs is asked for, and nothing is started or changed here. */
#pragma once

#include <stdint.h>

struct fixture;
struct instance;

enum verdict {
	VERDICT_FRESH,
	VERDICT_STALE,	       /* *cause says why; to be freed */
	VERDICT_COMPARE_BYTES, /* inputs look different, their content decides; *cause as above */
	VERDICT_RUN_CHECK,     /* the check command decides */
	VERDICT_RUN_RESET,     /* it was used, and must be reset first */
	VERDICT_LOOK_ON,       /* the look at its inputs is not over yet */
};

/*
 * For somebody who asked at `asked`: an image built, or a check passed, after that is fresh whatever max-age says.
 * Dependencies must be ready.
 */
enum verdict policy_judge(struct instance *i, int64_t asked, char **cause);

/* What it is called when the definition is another one. */
const char *policy_other_definition(const struct fixture *f);
/* Only what the clock says. When the image turns too old, or INT64_MAX. */
int64_t policy_expires(const struct instance *i);
/* The cause, to be freed, if it is too old now. */
char *policy_too_old(const struct instance *i);
