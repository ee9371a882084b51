/* SPDX-License-Identifier: MIT */
/*
 * What a fork takes over from who asked for it: arguments, environment, directory, umask, limits, ignored signals, descriptors 0, 1 and 2.
 *
 * Promises: a call that is not whole is refused before there is a fork, with a sentence; the descriptors of a call are closed
 * with it. What this program has set in its own environment since its start stays set in its forks.
 */
#pragma once

#include <sys/types.h>

#include "wire/fork.h"

struct call {
	struct fork_call head;
	int fds[FORK_FDS];
	char *text;
	char **args, **environment; /* into the text */
};

/* From a connection that has something. 0; -EAGAIN: nothing has come; -ENOTCONN: its end; or -errno with a sentence in `wrong`. */
int call_receive(int connection, struct call *c, char wrong[FORK_SENTENCE_MAX]);
/* Its descriptors. */
void call_close(struct call *c);
void call_deinit(struct call *c);

/* At the checkpoint: what of the environment is this program's own. 0 or -errno. */
int forked_note_environment(void);

/* In the fork: it ends with this sentence. */
_Noreturn void forked_fail(const struct call *c, const char *sentence);
/* In the fork, a child of `template`: everything but the arguments. Ends the process with a sentence if it cannot be. */
void forked_become(const struct call *c, pid_t template);
