/* SPDX-License-Identifier: MIT */
/* One build, or check, on its way: what queue.c, build.c, which runs it, and publish.c, which ends it, share. */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/link.h"
#include "base/text.h"
#include "fixd/loop/loop.h"
#include "fixd/model/reclaim.h"
#include "image/digest.h"
#include "wire/job.h"

enum purpose { PURPOSE_BUILD, PURPOSE_CHECK, PURPOSE_RESET, PURPOSE_COMPARE, PURPOSE_LOOK };

struct builds {
	struct work *work;
	struct link queue;
	struct link running;
	struct link looking;	      /* at their inputs, before their process and after it */
	size_t n_running;	      /* that have a process, or will */
	uint64_t last_turn, own_turn; /* see user::build_turn; of the daemon itself */
	struct deferred pump;
	struct deferred look_on;
};

struct build {
	struct link link; /* builds::queue, ::looking or ::running */
	struct builds *builds;
	struct instance *instance; /* NULL: abandoned */
	enum purpose purpose;
	pid_t pid;
	struct source *process, *channel, *errors;
	struct timer limit; /* of its time */
	struct text log;
	int64_t started;
	uint64_t granted; /* counted (account.h) */
	bool no_room;	  /* and more would have been allowed */
	bool at_home;	  /* its objects must not be relocated */
	uint64_t wanted;  /* it waits for so many */
	struct mem_waiter room;
	uint64_t limit_bytes; /* of the image and its tree: memory-max */
	uint64_t most;	      /* addresses reserved for the image */
	uint64_t address;     /* 0: no range */
	char *tree;
	struct image **depends; /* references */
	size_t n_depends;
	struct digest section;
	struct watchset *fresh; /* of a comparison: the inputs as they are now */
	char *cause;
	bool timed_out;
	bool remote;		   /* it may come from there, or go there */
	struct transfer *download; /* from the remote, or NULL */
	bool taking;		   /* there was one */
	bool looked;		   /* for it on the remote: its time has begun anew */
	bool asked_to_end;
	bool runs_shell;   /* a command, which may start what leaves its process group */
	const char *wrong; /* what it did to its channel, and was ended for; NULL */
	bool counted;	   /* in builds::n_running */
	int64_t over;	   /* its process has ended then; 0: not yet */
	siginfo_t status;  /* and so */
	bool have_result;
	struct job_result result;
	char *sentence;
	int image_fd, hold, parts; /* or -1 */
	struct keeper *keeper;	   /* that this helper becomes, or NULL */
	struct transfer *offer;	   /* to the remote, which waits for what becomes of this build; or NULL */
};

/* Its process has ended, or is a keeper's now. */
void build_free(struct build *b);
/* How long it may take; ns. */
int64_t build_time_limit(const struct build *b);

/* queue.c: soon looks who can begin. */
void queue_pump(struct builds *bs);
/* Another one may begin in its place. */
void queue_give_up_place(struct build *b);
/* Its inputs are looked at, before its process begins or after it has ended; and as far as that comes. False: not all yet. */
void queue_to_look(struct build *b);
bool queue_look(struct build *b, int64_t until);

/* build.c: what it needs before its process begins; NULL, or a sentence to be freed. */
char *build_prepare(struct build *b);
void build_begin_process(struct build *b);
/* Takes the sentence. */
void build_cannot_start(struct build *b, char *wrong);
/* Asks its process to end. */
void build_end_process(struct build *b);
void build_kill_group(struct build *b);
/* For build::room: there may be memory for it. */
void build_grant_again(struct mem_waiter *r);
