/* SPDX-License-Identifier: MIT */
/*
 * The end of a build: an image, its keeper, or what went wrong. Nothing that a helper says is believed: what it has published is verified
 * before anybody sees it.
 */
#pragma once

struct build;

/* Its process has ended, or has published what it will keep; its inputs were looked at since. Frees it, and tells the instance. */
void publish_build(struct build *b);
/* The same for a check, a comparison of inputs and a reset. */
void publish_check(struct build *b);
