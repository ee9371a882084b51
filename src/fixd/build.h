/* SPDX-License-Identifier: MIT */
/*
 * Builds and checks: processes of fixd-builder, at most `jobs` builds at a time, first come first served. Each is its own
 * process group with a time limit and is gone, with all its children, when its end is reported. What it published is verified
 * before an image is made of it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct builds;
struct daemon;
struct instance;

struct builds *builds_new(struct daemon *d);
/* Ends all builds; nothing is reported any more. */
struct builds *builds_free(struct builds *b);

/* Builds `i`, whose dependencies are pinned. Ends in instance_built() or instance_build_failed(), never at once. */
void build_queue(struct instance *i);

/*
 * Asks whether the current image of `i` still fits: by the bytes of its inputs (`cause` says what looks different), or by its
 * check command. Ends in instance_checked(), never at once.
 */
void build_check(struct instance *i, bool by_bytes, const char *cause);

/* Nobody wants to know any more: the process is killed, nothing is reported. */
void build_abandon(struct instance *i);

/* Bytes the running build of `i` has been granted so far. */
uint64_t build_progress(const struct instance *i);
