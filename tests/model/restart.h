/* SPDX-License-Identifier: MIT */
/* The daemon of a world is killed, or becomes another program, and another one goes on with what was saved. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/link.h"
#include "fixd/keep/state.h"

struct conn;
struct image;
struct instance;

struct saved {
	struct state state;
	int *fds; /* its descriptors, to be handed over */
};

/* `conns`: conn::link of all connections, which are out of the list then. */
struct saved world_save(enum state_for purpose, struct link *conns);
/* Into a world that has just begun; frees it. `hold`: what a process has held whose connection has ended. 0 or -errno. */
int world_load(struct saved *saved, void (*hold)(pid_t pid, struct image *im));

/* Of connections that live on, for it; what they are in a life is known there. */
struct conn *life_connection(uint64_t id);		    /* as it was before, or the one that takes its place */
const struct instance *life_question(const struct conn *c); /* that it waits for, or NULL */
/* In the next daemon: it asks again (NULL: that is not there any more), it lets go and waits, it joins. */
void life_ask_again(struct conn *c, struct instance *i);
void life_release_again(struct conn *c, struct image *im, uint32_t timeout_ms);
