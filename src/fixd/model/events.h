/* SPDX-License-Identifier: MIT */
/*
 * What has happened: a log of fixed size, in which the newest events take the place of the oldest.
 *
 * Promises: writing an event allocates nothing and calls nothing; the log is a memory file that passes to the next daemon, also when
 * this one is killed.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct client;
struct model;
struct events;
struct image;
struct instance;
struct lease;
struct run;

enum event_kind {
	EVENT_ATTACH,	 /* an image was given out; took: waiting for it */
	EVENT_DETACH,	 /* and given back; took: so long it was held */
	EVENT_BUILD,	 /* began */
	EVENT_READY,	 /* took: its build; text: what it was made from */
	EVENT_FAILED,	 /* text: the sentence */
	EVENT_STALE,	 /* text: why */
	EVENT_RESET,	 /* its reset command has run */
	EVENT_TORN_DOWN, /* the image is gone; text: what went wrong, or nothing */
	EVENT_RUN_BEGAN,
	EVENT_RUN_ENDED,
	EVENT_CHANGED,	  /* a test has changed a view, which was put back */
	EVENT_USED,	  /* a test has had a view of which it is watched who changes it; text: the line that has, or nothing */
	EVENT_DOWNLOAD,	  /* an image comes from the remote; bytes: of it */
	EVENT_DOWNLOADED, /* took; text: what went wrong, or nothing */
	EVENT_UPLOAD,	  /* the same of one that goes there */
	EVENT_UPLOADED,
	EVENT_KINDS
};

/* What the log needs: a head, and a ring that lies there twice, one behind the other: no event is in two pieces. */
#define EVENTS_HEAD 4096
#define EVENTS_SIZE ((size_t)8 << 20)

/* In memory that the caller has, until the log is freed. `resumed`: that is of an earlier daemon, and goes on if it is sound. */
struct events *events_new(void *head, char *log, bool resumed);
struct events *events_free(struct events *e);

/* What has happened to an instance, or to the image `im` of it (or NULL). `text` may be NULL. */
void event_of_instance(const struct instance *i, const struct image *im, enum event_kind kind, const char *text);
/* The image has gone; its instance may be gone, too. */
void event_torn_down(const struct image *im, const char *wrong);
/* A client was given it. `test`: the one it runs, or its scope key; not NUL-terminated. */
void event_attach(const struct client *c, struct lease *l, bool built, int64_t took, const char *test, size_t test_size);
/* The test that it runs has changed so many pages. */
void event_changed(const struct client *c, const struct lease *l, const char *test, uint64_t pages);
/* The test that it runs has used it, and changed it in that line, if it is not empty. */
void event_used(const struct client *c, const struct lease *l, const char *test, const char *line);
void event_detach(const struct lease *l);
/* Between us and the remote. `wrong` may be NULL. */
struct event_transfer {
	const char *title, *session, *wrong;
	uint64_t bytes;
	int64_t took;
};
void event_of_transfer(struct model *m, enum event_kind kind, const struct event_transfer *t);
void event_of_run(const struct run *r, enum event_kind kind);
