/* SPDX-License-Identifier: MIT */
/*
 * A run: one invocation of a test runner within a session, and the connections that are its members. It begins with the first
 * member and ends with the last one, however that ends (the end of the process counts, also when forked children still hold
 * the connection).
 *
 * Promises: of the members that could still use an image, exactly one is told that it is the last, after all others have
 * released it or are gone; images that live no longer than a run are retired at its end.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/link.h"
#include "wire/wire.h"

struct conn;
struct image;
struct session;

struct run {
	struct link link; /* session::runs */
	struct session *session;
	char *id;
	struct link members;
	struct link releases; /* that wait */
};

struct member {
	struct link link; /* run::members */
	struct run *run;
	struct conn *conn;
	struct source *process; /* tells when it has ended */
	bool observer; /* uses nothing itself */
	bool closing;  /* uses nothing that it has no lease of */
};

/* Finds or begins the run. */
struct member *run_join(struct session *s, const char *id, struct conn *c, bool observer);
struct member *run_leave(struct member *m);
size_t run_size(const struct run *r);

/* The member will attach nothing new. */
void run_closing(struct member *m);

/* Gives up an image that it has a lease of; the connection is answered, at once or later. */
void run_release(struct member *m, struct image *im, const struct wire_header *h, const struct wire_release *q);

/* A lease of a member has ended, or a connection. */
void run_settle(struct run *r);
void run_forget(struct conn *c);

/* Could any member still use it? */
bool run_needs(const struct run *r, const struct image *im);
