/* SPDX-License-Identifier: MIT */
/*
 * What has happened: a log of fixed size, in which the newest events take the place of the oldest.
 *
 * Promises: writing an event allocates nothing and calls nothing; the log is a memory file that passes to the next daemon, also when
 * this one is killed; a client reads only what it may see, and waits for more without being answered for each.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct conn;
struct daemon;
struct events;
struct image;
struct instance;
struct lease;
struct run;
struct wire_header;

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
	EVENT_CHANGED, /* a test has changed a view, which was put back */
	EVENT_KINDS
};

/* A new one; or with a descriptor (-1: there is none) that of an earlier daemon, which is taken. NULL: no memory file. */
struct events *events_new(int fd);
struct events *events_free(struct events *e);
/* To be passed on; stays ours. */
int events_fd(const struct events *e);

/* What has happened to an instance, or to the image `im` of it (or NULL). `text` may be NULL. */
void event_of_instance(const struct instance *i, const struct image *im, enum event_kind kind, const char *text);
/* The image has gone; its instance may be gone, too. */
void event_torn_down(const struct image *im, const char *wrong);
/* A client was given it. `test`: the one it runs, or its scope key; not NUL-terminated. */
void event_attach(const struct conn *c, struct lease *l, bool built, int64_t took, const char *test, size_t test_size);
/* The test that it runs has changed so many pages. */
void event_changed(const struct conn *c, const struct lease *l, uint64_t pages);
void event_detach(const struct lease *l);
void event_of_run(const struct run *r, enum event_kind kind);

/*
 * Answers with the events (wire_report) from the number `from` on, at once if there are any, otherwise when there are or after
 * `wait_ms`.
 */
void events_ask(struct conn *c, const struct wire_header *h, uint64_t from, uint32_t wait_ms);
/* Nobody is to wait any longer. */
void events_end(struct daemon *d);
