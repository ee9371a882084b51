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
#include "base/vector.h"
#include "wire/wire.h"

struct conn;
struct image;
struct session;

struct run {
	struct link link; /* session::runs, or session::past when it has ended */
	struct session *session;
	char *id;
	uint64_t number; /* later ones have greater ones */
	struct link members;
	struct link releases; /* that wait */
	int64_t began_real, ended_real; /* 0: it has not ended */
	size_t n_joined;      /* members that there ever were, without observers */
	struct vector uses;   /* struct use, by serial */
};

/* What its members have attached. */
struct use {
	uint64_t serial; /* of the image */
	char *title;
	uint32_t generation;
	uint64_t attaches;
	bool built; /* one of them waited for the build */
};

/* So many images are told apart. */
#define RUN_USES_MAX 4096
/* So many runs of a session are remembered after their end. */
#define RUNS_PAST_MAX 20

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

/* One that there was in another process, without its members. */
struct run *run_resume(struct session *s, struct run *r);
struct use;
void run_resume_use(struct run *r, struct use *u);
/* Nobody is a member of it any more. */
void run_end(struct run *r);
/* Calls `fn` for every release that waits. */
void run_each_release(const struct run *r, void (*fn)(const struct conn *c, const struct wire_header *h, uint64_t serial,
					       int64_t deadline, void *arg), void *arg);

/* An image was attached. */
void run_used(struct run *r, const struct image *im, bool built);
/* The oldest that has ended is forgotten; returns NULL. */
struct run *run_free(struct run *r);

/* The member will attach nothing new. */
void run_closing(struct member *m);

/* What a member is told that gave up an image. */
enum released {
	RELEASED,
	RELEASED_LAST,	    /* nobody else can use it: to be torn down */
	RELEASED_TIMED_OUT, /* others could still use it */
	RELEASED_TWICE,	    /* it waits for that already */
};
typedef void release_answer(struct conn *c, const struct wire_header *h, struct image *im, enum released how);

/* Gives up an image that it has a lease of; `answer` is called once, at once or later, unless the connection ends. */
void run_release(struct member *m, struct image *im, const struct wire_header *h, const struct wire_release *q, release_answer *answer);
/* Nobody has heard that it is the last: the image will be an orphan. */
void run_last_is_lost(struct image *im);

/* A lease of a member has ended, or a connection. */
void run_settle(struct run *r);
void run_forget(struct conn *c);

/* Could any member still use it? */
bool run_needs(const struct run *r, const struct image *im);
