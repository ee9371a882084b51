/* SPDX-License-Identifier: MIT */
/*
 * A survivor: a process that held images of a daemon that was killed. Its connection is gone, and it may not know that yet; what it
 * held is not torn down under it, and is not given to another one if it is exclusive, until it ends or attaches it anew.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/link.h"

struct work;
struct image;

struct survivor {
	struct link link; /* work::survivors */
	struct work *work;
	pid_t pid;
	struct link leases; /* lease::in_client */
	struct source *process;
};

/* Does nothing when there is no such process any more. */
void survivor_hold(struct work *w, pid_t pid, struct image *im);
/* It asks for the image again: from now on it holds it by its connection, or not at all. */
void survivor_returns(struct work *w, pid_t pid, const struct image *im);
/* One lease of it less. */
void survivor_lets_go(struct work *w, pid_t pid, const struct image *im);
/* At the end of the daemon. */
void survivors_end(struct work *w);
