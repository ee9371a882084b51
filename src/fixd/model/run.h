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
#include "fixd/loop/timer.h"

struct client;
struct image;
struct session;

struct run {
	struct link link; /* session::runs, or session::past when it has ended */
	struct session *session;
	char *id;
	uint64_t number; /* later ones have greater ones */
	struct link members;
	struct link releases;		/* that wait */
	int64_t began_real, ended_real; /* 0: it has not ended */
	size_t n_joined;		/* members that there ever were, without observers */
	struct vector uses;		/* struct use, by serial */
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
	struct client *client;
	bool observer; /* uses nothing itself */
	bool closing;  /* uses nothing that it has no lease of */
};

/* Finds or begins the run. Who ends it is to call run_leave() when its process ends, whoever has inherited its connection. */
void run_join(struct session *s, const char *id, struct client *c, bool observer);
/* Does nothing when it is a member of none. */
void run_leave(struct client *c);
size_t run_size(const struct run *r);

/* One that there was in another process, without its members. */
struct run *run_resume(struct session *s, struct run *r);
struct use;
void run_resume_use(struct run *r, struct use *u);
/* Nobody is a member of it any more. */
void run_end(struct run *r);
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
	RELEASED_BY_END,    /* nobody is to be told: its client has ended */
};

/* A member that gives up an image, and waits until it is the last, or is not. */
struct release {
	struct link link; /* run::releases, while it waits */
	struct client *client;
	struct image *image; /* a reference */
	struct timer limit;
	void (*answer)(struct release *w, enum released how); /* frees it */
};

/*
 * Gives up an image that it has a lease of. `w`, with `answer` set, is answered once, at once or, with `wait`, after at most
 * `timeout_ms`.
 */
void run_release(struct member *m, struct image *im, struct release *w, bool wait, uint32_t timeout_ms);
/* Nobody has heard that it is the last: the image will be an orphan. */
void run_last_is_lost(struct image *im);

/* A lease of a member has ended, or a connection. */
void run_settle(struct run *r);

/* Could any member still use it? */
bool run_needs(const struct run *r, const struct image *im);
