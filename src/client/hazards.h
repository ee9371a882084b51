/* SPDX-License-Identifier: MIT */
/*
 * The audit at a checkpoint: what this process has that a fork of it would not have (threads, children, timers), or would have in common
 * with all others (sockets, pipes, locks, shared memory).
 *
 * Promises: each that is not allowed is told on standard error by its kind and by what it is: a thread by its name and what it is in, a
 * socket by its addresses, a mapping by its file. Nothing of it is changed. In the main thread.
 */
#pragma once

#include <stddef.h>

/* By `rules` (wire/fork.h) and with the descriptors that are kept on purpose. How many errors there are. */
unsigned hazards_tell(const char *rules, const int *keep_fds, size_t n_keep_fds);

/* Where descriptors are of the daemon's connection there is nothing instead: a fork has its own when it needs one. */
void hazards_drop_daemon(void);
