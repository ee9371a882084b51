/* SPDX-License-Identifier: MIT */
/*
 * A keeper: the helper process that has built something which must be torn down, and stays to do that: to run the teardown
 * command, to end the processes of a service. The other side is builder/keep.h.
 *
 * Promises: it is told to once, when the image is retired and nobody holds or needs it any more; how that went is reported once;
 * if the process is killed another one does what its note says, and so does one of the next daemon if this one is killed. Then
 * its directory and its port are free.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/link.h"
#include "base/text.h"
#include "fixd/loop/loop.h"

struct work;
struct fixture;
struct image;
struct instance;
struct recovery;

struct keeper {
	struct link link; /* work::keepers */
	struct work *work;
	struct image *image;   /* that it keeps: it has a reference while it ends; NULL: there is none (any more) */
	char *title;	       /* of the instance */
	char *user;	       /* as whom it runs, or NULL */
	char *note;	       /* file */
	struct recovery *from; /* of a daemon that is gone, or NULL */
	char *token;
	char *dir;     /* of a service, or NULL */
	char *view;    /* of its data, or NULL */
	uint16_t port; /* of a service, or 0 */
	int64_t time;  /* for tearing down: the command, and again the processes */
	pid_t pid;     /* 0: not yet, or not any more */
	struct source *process, *channel, *errors;
	int channel_fd, errors_fd; /* of the sources, on their way to another process */
	int service;		   /* pidfd of its process, or -1 */
	pid_t service_pid;
	int hold; /* see wire/job.h; or -1 */
	struct timer limit;
	struct deferred telling;					 /* the instance that it has died */
	struct timer explaining;					 /* how long its helper may take for that */
	void (*on_end)(void *arg, const char *title, const char *wrong); /* who waits for its end, or NULL */
	void *on_end_arg;
	bool ending;	  /* it was told to */
	bool reported;	  /* it has said how it went */
	bool reaping;	  /* it does what another one could not */
	char *died;	  /* a sentence; NULL: it has not ended by itself */
	char *wrong;	  /* a sentence: what went wrong at the end */
	struct text said; /* meanwhile, the newest part */
};

/* Is there anything to tear down when an image of it is gone? */
bool keeper_is_needed(const struct fixture *f);

/* For a build: the note, and what a service is given. NULL and *wrong, a sentence to be freed. */
struct keeper *keeper_prepare(struct instance *i, char **wrong);
/* A descriptor of the note, for the helper; or -errno. */
int keeper_open_note(const struct keeper *k);
/* Nothing was published, and the helper has ended. It is freed, at once or when what is left was torn down. */
void keeper_drop(struct keeper *k);

/* What the helper of a build is, from now on. */
struct helper {
	pid_t pid;
	struct source *process, *channel, *errors;
	int hold;
	pid_t service; /* or 0 */
};

/* The image (NULL: nobody can use it, it is torn down at once) was published by that helper, whose descriptors are taken. */
void keeper_begin(struct keeper *k, const struct helper *h, struct image *im);

/* Nobody holds or needs the image any more. The keeper calls image_unref() for it in the end. */
void keeper_end(struct keeper *k);

/* Has its service ended, and what that means is not told yet? Soon the instance is told, in any case. */
bool keeper_is_dying(struct keeper *k);

/* Does what the note of a daemon that is gone says; then recovery_continue(). False: there is nothing to do. */
bool keeper_reap(struct work *w, const char *note, struct recovery *from);

/* In another process: its helper, and the rest as it was saved. One that was prepared for a build is dropped, which frees it. */
void keeper_resume(struct work *w, struct keeper *k);
/* Before it is saved. */
void keeper_note_fds(struct keeper *k);

/* At the end of the daemon, when there is no time left: those that still run are killed. */
void keepers_abandon(struct work *w);
