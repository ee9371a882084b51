/* SPDX-License-Identifier: MIT */
/*
 * The command of a run: it is started where the fixtures are shown, by mounts or by the shim, and waited for.
 *
 * Promises: it ends with fixctl, however that ends; where there can be no mounts and none were demanded, it has the shim.
 */
#pragma once

#include "fixctl/run.h"

struct command {
	struct fixctl *ctl;
	struct run_options options;
	char **argv;
	char id[64];
	char *shim;   /* libfixd-preload.so */
	char *socket; /* of the daemon */
	struct fixd *f;
	struct scratch scratch;
	struct keeper keeper;
	struct shown_list shown;
	char **places; /* directories that something is shown in */
	int *trees;    /* as the run has them, or NULL */
	struct follow follow;
	uint64_t transfers_from; /* for transfers_wait() */
};

/* With its end the exit code of fixctl. What it has changed is told, if that is wanted. */
int command_execute(struct command *c);
/* Trees that are mounted are there for everybody; files are shown by the shim. */
bool command_needs_shim(const struct command *c, bool mount);
