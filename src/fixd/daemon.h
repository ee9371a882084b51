/* SPDX-License-Identifier: MIT */
/* The daemon: its rooms put together, how it starts and ends. One thread, besides the worker's. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "fixd/keep/keep.h"
#include "fixd/loop/loop.h"
#include "fixd/model/model.h"
#include "fixd/serve/server.h"
#include "fixd/work/work.h"

struct daemon {
	struct model model;
	struct work work;
	struct server server;
	struct keep keep;
	struct timer idle;
	const char *leaving; /* why, while what goes to the remote is waited for; or NULL */
	struct timer sweep;
	struct deferred ending; /* everything ends */
	int64_t watchdog;	/* ns between two signs of life, or 0 */
	struct timer alive;
	int signals;	   /* of the loop */
	int log_level;	   /* of the command line; -1: as configured */
	int64_t idle_exit; /* of the command line, for a file that says none */
	bool cold;	   /* nothing is built before somebody asks */
};

/* What it is started with; all of it is the daemon's then. */
struct daemon_settings {
	struct config *config;
	char *socket, *program, **argv; /* path; of the program; how it was started */
	char *alias;			/* another path of the socket, or NULL */
	int log_level;
	int64_t idle_exit;
	bool cold;
};

/* 0, or -errno, which was logged. daemon_finish() either way. */
int daemon_start(struct daemon *d, const struct daemon_settings *s);
/* Until it is to stop. `ready_fd` is told when clients may connect (-1: nobody). */
int daemon_run(struct daemon *d, int ready_fd);
void daemon_finish(struct daemon *d);
