/* SPDX-License-Identifier: MIT */
/*
 * A walk over the sessions that a connection may see and their instances, by name, which may stop at any place: it holds no pointers.
 * What comes or goes meanwhile may be seen or not; everything else is seen once.
 */
#pragma once

#include <stdint.h>

struct conn;
struct instance;
struct session;

enum walk_step { WALK_BEGINS, WALK_SESSION, WALK_INSTANCE, WALK_SESSION_ENDS, WALK_ENDS };

struct walk {
	uint64_t session; /* number; 0: before the first one */
	char *key;	  /* of the last instance */
	enum walk_step at;
};

/* *s and *i: where it is now. At WALK_SESSION_ENDS the session may have gone: then *s is NULL. */
enum walk_step walk_next(struct walk *w, const struct conn *c, struct session **s, struct instance **i);
/* On to the next session, without its instances. NULL: there is none. */
struct session *walk_session(struct walk *w, const struct conn *c);
void walk_deinit(struct walk *w);
