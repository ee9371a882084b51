/* SPDX-License-Identifier: MIT */
/*
 * A connection to the daemon: requests and their replies, one at a time or several on their way.
 *
 * Promises: no call waits without a limit; a reply that comes too late is thrown away, with its descriptors; a connection that
 * the daemon has closed (it was restarted) is opened again by the next request; a forked child gets its own. The process
 * never dies of a broken connection, and the library prints nothing.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "client/board.h"
#include "client/replay.h"
#include "client/variables.h"
#include "wire/wire.h"

/* What a daemon may give as an error (MAX_ERRNO of the kernel). */
#define ERRNO_MAX 4095

/* An attach that nobody waits for: its answer is looked for. */
struct question {
	uint64_t id; /* 0: there is none */
	uint64_t epoch;
	char *name, *scope_key; /* the latter may be NULL */
};

#define TIMEOUT_MAX_MS 1000000000

struct fixd {
	unsigned refs; /* the caller's until fixd_close(), and one of each view */
	int fd;
	pid_t owner;
	int receive_ms; /* SO_RCVTIMEO now */
	int spare;	/* a descriptor that makes room for one that the answer brings; -1: none is kept */
	uint64_t last_id;
	uint64_t epoch; /* which connection: leases end with theirs */
	int inherited;	/* in a forked child that has one of its own: that of its parent, which is left open; otherwise -1 */
	uint64_t inherited_epoch;
	uint32_t daemon_pid, version; /* of what listens, and what it speaks */
	struct board_map *board;
	struct variables *variables;
	struct replay *replay;		  /* in order */
	struct question question;	  /* that was asked without waiting */
	bool closing;			  /* of a run: told to every connection */
	bool test_told;			  /* to this connection */
	char test[WIRE_TEST_MAX + 1];	  /* that runs, or "" */
	bool local;			  /* FIXD_DISABLE: nobody is asked */
	struct local_image *local_images; /* built here */
	char *path;
	char error[WIRE_SENTENCE_MAX + 256];
};

struct reply {
	_Alignas(8) char body[WIRE_MESSAGE_MAX];
	size_t size; /* of the body */
	int fds[WIRE_FDS_MAX];
	size_t n_fds;
	uint64_t wanted; /* the id asked for: an attach that comes with another is given back; 0: any */
};

/* To f->path. 0, or -errno with a sentence. */
int connection_open(struct fixd *f);
/* The sentence of the last fixd_open() of this thread that failed. */
extern __thread char connection_open_error[512];

void fixd_unref(struct fixd *f);

/* Keeps the sentence and returns `err`. */
int fixd_fail_with(struct fixd *f, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/*
 * Sends a request and waits at most `timeout_ms` for its reply. -errno with a sentence: the daemon's, or what went wrong on the
 * way. On success the caller closes reply->fds.
 */
int connection_request(struct fixd *f, uint16_t type, const void *body, size_t size, int timeout_ms, struct reply *reply);

/* The halves of it, for several requests at once: returns the id, and takes the next reply whatever its id. */
int connection_send(struct fixd *f, uint16_t type, const void *body, size_t size, uint64_t *id);
int connection_receive(struct fixd *f, int timeout_ms, uint64_t *id, struct reply *reply);

/* The same for what is done once: it is only asked when there is a descriptor left for what the answer may bring. */
int connection_request_once(struct fixd *f, uint16_t type, const void *body, size_t size, int timeout_ms, struct reply *reply);

/* CLOCK_MONOTONIC, in ms. */
int64_t connection_now_ms(void);

/* A message nobody answers. Failures are ignored: the connection is gone, and with it what it was about. */
void connection_tell(struct fixd *f, uint16_t type, const void *body, size_t size);

/*
 * A message that nobody answers, of what the test that runs has done. Never waits; false: it could not be said, and nothing else is
 * lost by that.
 */
bool connection_mention(struct fixd *f, uint16_t type, const void *body, size_t size);

/*
 * The same in a forked child, of a lease of its parent's, from that connection: in one message, since parent and children share it.
 */
bool connection_mention_of_parent(struct fixd *f, uint64_t epoch, uint16_t type, const void *body, size_t size);

void reply_close(struct reply *r);

/* Asks without waiting for the answer; the question before is given up. 0, or -errno with a sentence. */
int connection_ask(struct fixd *f, uint16_t type, const char *name, const char *scope_key, const void *body, size_t size);
/* The name in the question that is on its way, or NULL. */
const char *connection_question(const struct fixd *f);
/* Is that the one? */
bool connection_has_asked(const struct fixd *f, const char *name, const char *scope_key);
/* Its answer, as connection_request() gives it. -EAGAIN, without a sentence: it is not there yet, and still on its way. */
int connection_look(struct fixd *f, struct reply *reply);
/* Its answer is thrown away when it comes. */
void connection_give_up(struct fixd *f);

/* Tells the log handler, if there is one. */
void connection_log(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/*
 * Builds an attach request for `name` in `out` (WIRE_MESSAGE_MAX bytes). Returns its size or -errno with a sentence.
 */
ssize_t connection_attach_body(struct fixd *f, char *out, const char *name, const char *key, uint32_t flags, int timeout_ms,
			       const uint64_t *depends, size_t n_depends);
/* Attaches, with the variables that the daemon wants of this environment. The reply is the caller's to take apart and close. */
int connection_attach(struct fixd *f, const char *name, const char *key, uint32_t flags, int timeout_ms, struct reply *reply);

/* A request for every connection to come, too. 0, or -errno with a sentence. */
int connection_establish(struct fixd *f, uint16_t type, const char *key, const void *body, size_t size, struct reply *reply);

/* FIXD_TIMEOUT in ms, or the default. */
int connection_timeout(void);
