/* SPDX-License-Identifier: MIT */
/* One build, or check, on its way: what build.c, which runs it, and publish.c, which ends it, share. */
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

struct builds;

enum purpose { PURPOSE_BUILD, PURPOSE_CHECK, PURPOSE_RESET, PURPOSE_COMPARE, PURPOSE_LOOK };

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
	uint64_t wanted;  /* it waits for so many */
	struct mem_waiter room;
	uint64_t limit_bytes; /* of the image and its tree: memory-max */
	uint64_t most;	      /* addresses reserved for the image */
	uint64_t address; /* 0: no range */
	char *tree;
	struct image **depends; /* references */
	size_t n_depends;
	struct digest section;
	struct watchset *fresh; /* of a comparison: the inputs as they are now */
	char *cause;
	bool timed_out;
	bool asked_to_end;
	bool counted;	/* in builds::n_running */
	int64_t over;	/* its process has ended then; 0: not yet */
	siginfo_t status; /* and so */
	bool have_result;
	struct job_result result;
	char *sentence;
	int image_fd, hold;
	struct keeper *keeper; /* that this helper becomes, or NULL */
};

/* Its process has ended, or is a keeper's now. */
void build_free(struct build *b);
/* How long it may take; ns. */
int64_t build_time_limit(const struct build *b);
