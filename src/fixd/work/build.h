/* SPDX-License-Identifier: MIT */
/*
 * Builds and checks: processes of fixd-builder, at most `jobs` builds at a time, first come first served. Each is its own
 * process group with a time limit and is gone, with all its children, when its end is reported. What it published is verified
 * before an image is made of it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "fixd/model/policy.h"

struct builds;
struct work;
struct instance;
struct text;

struct builds *builds_new(struct work *w);
/* Asks all builds to end; nothing is reported any more. work::ended is called for each. */
void builds_end(struct builds *b);
/* After all nothing is to end: begins again what is queued. */
void builds_resume(struct builds *b);
bool builds_are_over(const struct builds *b);
struct builds *builds_free(struct builds *b);

/* Builds `i`, whose dependencies are pinned. Ends in instance_built() or instance_build_failed(), never at once. */
void build_queue(struct instance *i);

/*
 * Asks whether the current image of `i` still fits: by the bytes of its inputs (`cause` says what looks different), or by its
 * check command; or resets it. Ends in instance_compared(), instance_checked() or instance_was_reset(), never at once.
 */
void build_check(struct instance *i, enum verdict what, const char *cause);

/* Nobody wants to know any more: the process is killed, nothing is reported. */
void build_abandon(struct instance *i);

/* True: it had not begun, and is called off; nothing is reported. */
bool build_withdraw(struct instance *i);
/* What the build of `i` has said so far that is under way; NULL: there is none. */
const struct text *build_words(const struct instance *i);
/* Bytes the running build of `i` has been granted so far. */
uint64_t build_progress(const struct instance *i);
