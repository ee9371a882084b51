/* SPDX-License-Identifier: MIT */
/*
 * Reports that were made for somebody and not read yet. Their bytes are the daemon's, so that the clients of one user, besides root and
 * the daemon's own, have so many of them at a time; who asks for more waits until one is read.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct conn;
struct server;
struct unread;

/*
 * A report is about to be made. False: it has to wait (inbox_park()), and is asked for again with the same *u, at first NULL. They are made in
 * their order: who reads the first of its answers first does not wait for ever. *u stays NULL for those who are not limited.
 */
bool unread_begin(struct conn *c, struct unread **u);
/* It was sent, and so long it is; or it was not made after all. */
void unread_sent(struct unread *u, uint64_t bytes);
void unread_cancel(struct unread *u);

/* The connection is about to end; what lies in it is remembered until it is gone. */
void unread_leave(struct conn *c);
void unread_deinit(struct server *server);
