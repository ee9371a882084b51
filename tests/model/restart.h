/* SPDX-License-Identifier: MIT */
/* The daemon of a world is killed, and another one goes on with what was saved. */
#pragma once

#include <sys/types.h>

#include "base/link.h"
#include "wire/rows.h"

struct image;

struct saved {
	struct state state;
	int *fds; /* its descriptors, to be handed over */
};

/* `conns`: conn::link of all connections, which are out of the list then. */
struct saved world_save(struct link *conns);
/* Into a world that has just begun; frees it. `hold`: what a process has held whose connection has ended. 0 or -errno. */
int world_load(struct saved *saved, void (*hold)(pid_t pid, struct image *im));
