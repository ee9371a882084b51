/* SPDX-License-Identifier: MIT */
/* The room that talks to clients: what its files have in common. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/link.h"
#include "fixd/loop/loop.h"
#include "fixd/model/model.h"
#include "fixd/serve/control.h"
#include "fixd/serve/inbox.h"
#include "fixd/work/work.h"

struct server {
	struct model *model;
	struct work *work;
	struct control control;
	struct listener *listener;
	char *socket; /* path */
	char *alias;  /* that leads there, for clients who do not know it, or NULL */
	struct link conns;
	size_t n_conns;
	struct inboxes inboxes;
	struct link followers;	 /* who waits for events */
	struct timer gathering;	 /* what they are told together */
	struct deferred telling; /* the next of them */
	struct link unread;	 /* reports (serve/unread.h) */
	struct reloads *reloads;
	struct link cleanups; /* that wait for teardowns */
	int64_t started;
	uint64_t n_configs; /* that were read */
};

void server_init(struct server *server, struct model *m, struct work *w);
/* Everybody is dropped but who waits for the end of the daemon. */
void server_end(struct server *server);
/* The last ones, too. */
void server_deinit(struct server *server);
