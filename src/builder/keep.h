/* SPDX-License-Identifier: MIT */
/*
 * Keeping: what a helper does after it has built something that must be torn down. It holds the processes of a service, hears of
 * their end, and tears down when its channel ends, whoever ended that.
 *
 * Promises: the teardown command of what was published runs once, within its time; no process of a service is left, also none
 * that has gone into the background; the private directory is empty, and the note says so. If the helper is killed, the note
 * tells another one what is left to do.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct work;

struct keep {
	struct work *work;
	int signals; /* tells of children */
	int note;
	int64_t since;	 /* clock_real(): nothing of it was started before */
	char **before;	 /* System V objects that are not of the service */
	int hold[2];	 /* a pipe: the reading end is ours, the other one is for those who need what we keep */
	pid_t main;	 /* of the service, which is its process group, too; 0: there is none, or it has ended */
	int main_status; /* as waitpid() has it */
	pid_t command;	 /* that is run beside it; 0: it has ended */
	int command_status;
	int64_t empty_since; /* of the file that says that it is ready; 0: it is not there, or not empty */
	int output;	     /* of the service, to be passed on to the log; -1: nothing */
	int notify;	     /* of a service its socket, until it is ready; of a template for good; or -1 */
	int sandbox;	     /* tells how the service ends that is in one; or -1 */
	int touch;	     /* of the data of a service, until it is used (builder/touch.h); or -1 */
	char *unclean;	     /* what is to be told of its data (builder/unclean.h), or NULL */
	int log;	     /* the reading end of the log, which the daemon reads as long as it lives; -1: it is no pipe */
	int say;	     /* the other end, where we do not wait; -1: standard error will do */
	pid_t daemon;
	int next_daemon;     /* the process of the one that has taken its place, if that is not the same; or -1 */
	int64_t next_sample; /* clock_now(): of what it takes before it is ready */
};

/* clang-format off */
#define KEEP_EMPTY { .note = -1, .hold = { -1, -1 }, .output = -1, .notify = -1, .sandbox = -1, .log = -1, .say = -1, .next_daemon = -1, .touch = -1 }
/* clang-format on */

/* Before anything is started that would have to be torn down. 0 or what work_fail() returned. */
int keep_begin(struct keep *k, struct work *w);
/* Writes down what there is. 0 or what work_fail() returned. */
int keep_note(struct keep *k);

/*
 * Waits at most `ms` (-1: for ever) until something happens: a child ends (and is reaped), `fd` (or -1) is readable, the channel
 * ends. False: it has ended.
 */
bool keep_wait(struct keep *k, int fd, int ms);
bool keep_has_children(void);

/* Bytes that the processes of the service take, and the files that they have written. */
uint64_t keep_usage(const struct keep *k);
/* That counts as memory of the image: of services in a sandbox, and of templates. */
bool keep_is_measured(const struct keep *k);

/* What was published is kept until the channel ends, and torn down. */
_Noreturn void keep_on(struct keep *k);
/* The same in a process that has nothing of the builder's: for all but services. `argv` of main() there: keep_resume(). */
_Noreturn void keep_anew(struct keep *k);
_Noreturn void keep_resume(char **argv);

/* Nothing was published: ends what was started. */
void keep_abandon(struct keep *k);

/* Does what a helper that was killed could not. 0 or what work_fail() returned. */
int keep_reap(struct work *w);
