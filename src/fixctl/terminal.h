/* SPDX-License-Identifier: MIT */
/*
 * A pseudo-terminal for a process of another session, shown on the terminal (or whatever it is) of this one.
 *
 * Promises: what is typed here goes there, control characters, too; what it writes is written here, the last of it before
 * terminal_close() returns; the terminal here is then as it was.
 */
#pragma once

#include <stdbool.h>

struct terminal;

/* NULL, with a line on standard error. */
struct terminal *terminal_open(void);
/* The three descriptors of who gets it. */
const int *terminal_fds(const struct terminal *t);
/* For poll(2): what is typed here, or -1 when that has ended; what is written there. */
int terminal_input(const struct terminal *t);
int terminal_output(const struct terminal *t);
/* Passes on what is readable. */
void terminal_pass(struct terminal *t, bool input, bool output);
/* It gets the size of the one here. */
void terminal_resize(struct terminal *t);
/* The one here is as it was, and is again what it became. */
void terminal_pause(struct terminal *t);
void terminal_resume(struct terminal *t);
void terminal_close(struct terminal *t);
