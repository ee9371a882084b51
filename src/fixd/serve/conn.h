/* SPDX-License-Identifier: MIT */
/*
 * Connections. A message is checked against its row of the request table before a handler sees it; whoever breaks the
 * protocol, floods, or does not read its answers loses its connection, its leases and its place in every queue, and nobody
 * else notices.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/link.h"
#include "fixd/model/client.h"
#include "fixd/model/run.h"
#include "fixd/serve/inbox.h"
#include "wire/wire.h"

struct server;
struct image;

/* A request that is still to be answered. */
struct unanswered {
	struct link link; /* conn::unanswered */
	struct conn *conn;
	void (*forget)(struct unanswered *u); /* the connection ends: frees it */
};

struct conn {
	struct link link; /* server::conns */
	struct server *server;
	struct source *source;
	struct client client;
	gid_t gid;
	struct source *process; /* of a member of a run: tells when it has ended */
	struct inbox inbox;
	bool broken; /* it cannot or will not be answered: what it says is not heard */
	bool ended;  /* it says nothing more, and goes when what it has said was handled */
	bool greeted;
	bool stop_requested; /* it has asked for the end of the daemon, and waits for it */
	char *refusal;	     /* why it is not allowed */
	struct link unanswered;
};

/* A release (model/run.h), and the request that it answers. */
struct asked_release {
	struct release release;
	struct wire_header request;
};

static inline struct conn *conn_of(struct client *c)
{
	return container_of(c, struct conn, client);
}

struct conn *conn_new(struct server *server, int fd);
/* Everything of it goes but the connection itself: what it says is not heard any more, and its end is that of the daemon. */
void conn_retire(struct conn *c);
/* Everything of it goes; the pointer is dead. */
void conn_drop(struct conn *c, const char *why);

/* It is a member of that run of its session, until its process ends or it does. */
void conn_join_run(struct conn *c, const char *run, bool observer);

void conn_add_unanswered(struct conn *c, struct unanswered *u, void (*forget)(struct unanswered *u));
void conn_remove_unanswered(struct unanswered *u);

/* It does not read its answers. */
bool conn_is_stuck(const struct conn *c);

/* One answer. */
void conn_reply(struct conn *c, const struct wire_header *to, const void *body, size_t size);
/* Calls `done` when the client has it, or with -errno when it never will; `fd` (-1: none) stays the caller's until then. */
void conn_reply_told(struct conn *c, const struct wire_header *to, const void *body, size_t size, int fd, void (*done)(void *arg, int err),
		     void *arg);
void conn_reply_fd(struct conn *c, const struct wire_header *to, const void *body, size_t size, int fd, bool close_after);
/* The body, and the descriptors of images, which are held until they were sent. */
void conn_reply_images(struct conn *c, const struct wire_header *to, const void *body, size_t size, struct image **images, size_t n);
/* A report: takes the text and sends it as a sealed memfd. */
void conn_reply_text(struct conn *c, const struct wire_header *to, const char *data, size_t size);
void conn_reply_error(struct conn *c, const struct wire_header *to, int err, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* Stops the daemon once everything was sent. */
void conn_stop_after_reply(struct conn *c);

/* The listening socket. */
struct listener;

/*
 * Binds server::socket (a dead socket is replaced), or takes the socket of LISTEN_FDS, or `listening` (-1: none) with the lock of its path,
 * of a daemon before this one. -EADDRINUSE: a daemon answers there. -EMLINK: several sockets were handed over.
 */
int listener_new(struct server *server, int listening, int lock);
/* Who may connect has changed. */
void listener_permit(struct listener *l);
/* Its path was removed: nobody can connect any more. */
bool listener_is_lost(const struct listener *l);
/* What passes to another process. */
void listener_fds(const struct listener *l, int *fd, int *lock);
struct listener *listener_free(struct listener *l);
