/* SPDX-License-Identifier: MIT */
/*
 * A pseudo-terminal for a process of another session, shown on the terminal (or whatever it is) of this one.
 *
 * Promises: what is typed here goes there, control characters, too; what it writes is written here, the last of it before
 * pty_close() returns; the terminal here is then as it was. Who does not read there keeps nobody here from anything.
 */
#pragma once

#include <poll.h>

struct pty;

/* NULL, with a line on standard error. */
struct pty *pty_open(void);
/* The three descriptors of who gets it. */
const int *pty_fds(const struct pty *t);
/* For poll(2): what is typed here, unless some of it is still to be read there; and what is written there. */
void pty_poll(const struct pty *t, struct pollfd p[2]);
/* Passes on what can be; waits for nobody. */
void pty_pass(struct pty *t, const struct pollfd p[2]);
/* It gets the size of the one here. */
void pty_resize(struct pty *t);
/* The one here is as it was, and is again what it became. */
void pty_pause(struct pty *t);
void pty_resume(struct pty *t);
void pty_close(struct pty *t);
