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
#include "fixd/serve/inbox.h"
#include "wire/wire.h"

struct daemon;
struct image;
struct member;
struct session;
struct user;

/* A request that is still to be answered. */
struct unanswered {
	struct link link; /* conn::unanswered */
	struct conn *conn;
	void (*forget)(struct unanswered *u); /* the connection ends: frees it */
};

struct conn {
	struct link link; /* daemon::conns */
	struct daemon *daemon;
	struct source *source;
	uint64_t id;
	uid_t uid;
	gid_t gid;
	pid_t pid;
	struct inbox inbox;
	bool broken; /* it cannot or will not be answered: what it says is not heard */
	bool ended;  /* it says nothing more, and goes when what it has said was handled */
	bool greeted;
	bool last;  /* it has asked for the end of the daemon, and waits for it */
	bool owner; /* the daemon's user, or root */
	char *refusal; /* why it is not allowed */
	char *test; /* that it runs, if it says so */
	struct user *user;	 /* a reference */
	struct session *session; /* that it joined, or NULL */
	struct member *member;	 /* of a run, or NULL */
	struct link leases;
	struct link unanswered;
	struct link offers;  /* offer::in_conn: what this client builds */
	size_t n_pending;
};

struct conn *conn_new(struct daemon *d, int fd);
/* Everything of it goes but the connection itself: what it says is not heard any more, and its end is that of the daemon. */
void conn_retire(struct conn *c);
/* Everything of it goes; the pointer is dead. */
void conn_drop(struct conn *c, const char *why);

void conn_add_unanswered(struct conn *c, struct unanswered *u, void (*forget)(struct unanswered *u));
void conn_remove_unanswered(struct unanswered *u);

/* It does not read its answers. */
bool conn_is_stuck(const struct conn *c);

/* One answer. */
void conn_reply(struct conn *c, const struct wire_header *to, const void *body, size_t size);
/* Calls `done` when the client has it, or with -errno when it never will; `fd` (-1: none) stays the caller's until then. */
void conn_reply_told(struct conn *c, const struct wire_header *to, const void *body, size_t size, int fd,
		     void (*done)(void *arg, int err), void *arg);
void conn_reply_fd(struct conn *c, const struct wire_header *to, const void *body, size_t size, int fd, bool close_after);
/* The body, and the descriptors of images, which are held until they were sent. */
void conn_reply_images(struct conn *c, const struct wire_header *to, const void *body, size_t size, struct image **images, size_t n);
/* A report: takes the text and sends it as a sealed memfd. */
void conn_reply_text(struct conn *c, const struct wire_header *to, const char *data, size_t size);
void conn_reply_error(struct conn *c, const struct wire_header *to, int err, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* Stops the daemon once everything was sent. */
void conn_stop_after_reply(struct conn *c);

/* The listening socket. */
struct listener;

/* Binds `path` (a dead socket is replaced), or takes the socket of LISTEN_FDS. -EADDRINUSE: a daemon answers there. */
int listener_new(struct daemon *d, struct listener **out);
/* Who may connect has changed. */
void listener_permit(struct listener *l);
/* What passes to another process. */
void listener_fds(const struct listener *l, int *fd, int *lock);
struct listener *listener_free(struct listener *l);
