/* SPDX-License-Identifier: MIT */
/*
 * A pseudo-terminal for a process of another session, shown on the terminal (or whatever it is) of this one.
 *
 * Promises: what is typed here goes there, control characters, too; what it writes is written here, the last of it before
 * pty_close() returns; the terminal here is then as it was.
 */
#pragma once

#include <stdbool.h>

struct pty;

/* NULL, with a line on standard error. */
struct pty *pty_open(void);
/* The three descriptors of who gets it. */
const int *pty_fds(const struct pty *t);
/* For poll(2): what is typed here, or -1 when that has ended; what is written there. */
int pty_input(const struct pty *t);
int pty_output(const struct pty *t);
/* Passes on what is readable. */
void pty_pass(struct pty *t, bool input, bool output);
/* It gets the size of the one here. */
void pty_resize(struct pty *t);
/* The one here is as it was, and is again what it became. */
void pty_pause(struct pty *t);
void pty_resume(struct pty *t);
void pty_close(struct pty *t);
