/* SPDX-License-Identifier: MIT */
/*
 * Following a command in the foreground: it gets the signals that are sent to us, we stop when it stops, and end as it ends.
 *
 * Promises: no signal is lost that comes before there is a command; what the terminal has sent it already it does not get twice.
 */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

#define EXIT_NOT_EXECUTABLE 126 /* as shells have it */
#define EXIT_NOT_FOUND 127
#define EXIT_SIGNAL 128

struct follow {
	sigset_t held; /* signals that wait for the command */
	sigset_t mask; /* as we got it */
	bool ignores_children;
};

/* First of all. */
void follow_init(struct follow *f);
/* Before the command is started. */
void follow_begin(struct follow *f);
/* In its process: signals as we got them. */
void follow_restore(const struct follow *f);
/* Becomes the command; otherwise a line on standard error, and an exit status. */
int follow_execute(const struct follow *f, char **argv);
/*
 * Until its end: its exit status, 128+N when it has died of signal N. `lost` (or NULL) is asked now and then: true, and the command is
 * killed.
 */
int follow(struct follow *f, pid_t pid, bool (*lost)(void *arg), void *arg);
