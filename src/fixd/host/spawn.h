/* SPDX-License-Identifier: MIT */
/* Starting a helper process in its own process group. */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

struct spawned {
	pid_t pid;
	int pidfd;
	int channel; /* SOCK_SEQPACKET to the helper; non-blocking */
	int errors;  /* its standard error; non-blocking */
};

/* Finds fixd-builder: $FIXD_BUILDER, beside this program, or where it was installed. 0, or -errno, which was logged. */
int spawn_init(void);

enum spawn_flags {
	/* Its addresses are the same every time, so that an allocator that mixes them into its layout gives equal builds equal bytes. */
	SPAWN_STEADY = 1,
	/* System V objects and message queues that its processes make go with them. Where that is refused, it is as without. */
	SPAWN_OWN_IPC = 2,
};

/* `user` (or NULL) needs root. 0 or -errno; the caller owns the descriptors and reaps the process. */
int spawn_helper(const char *user, enum spawn_flags flags, struct spawned *out);

/* It is on its way out, or that cannot be told: not itself, but its end closes its descriptors. */
bool spawn_is_ending(pid_t pid);

/* Its descriptor says that it has ended: reaps it. `status` stays zero if the kernel does not tell how it ended. */
void spawn_reap(pid_t pid, siginfo_t *status);
