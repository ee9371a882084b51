/* SPDX-License-Identifier: MIT */
/*
 * A spare fork: one that a template has made before anybody asked, so that whoever asks does not wait until its memory is copied.
 *
 * Promises: what a spare is given to do it does as a fork would that is made then; it has no descriptor of the template but its own
 * end of a socket pair, ends with the template, and runs nothing of the program's before it is given away but what stands behind every
 * fork (pthread_atfork(3)); one that is lost before costs nobody more than the fork that is made in its place.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

struct call;

struct spare {
	pid_t pid; /* 0: there is none */
	int fd;	   /* of the template; it says there that it waits, and hears of its call */
};

/* Before the fork that is to become one: the two ends. 0 or -errno. */
int spare_prepare(int ends[2]);
/* In the template, behind it: takes over one end, closes the other. `pid` may be that of a fork that failed. */
void spare_keep(struct spare *s, pid_t pid, int ends[2]);
/* In the spare, a child of `template`: waits until it is given away, and then has the call. Does not return if the template ends. */
void spare_wait(int end, pid_t template, struct call *what);

/* Gives it away. Its pid; 0: there is none that waits, and nothing was given. */
pid_t spare_give(struct spare *s, const struct call *what);
/* Something has become of a child: true if that was it, which is gone then. */
bool spare_reap(struct spare *s);
void spare_end(struct spare *s);
