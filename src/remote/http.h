/* SPDX-License-Identifier: MIT */
/*
 * What is asked of an HTTP server: GET, HEAD, PUT and (of WebDAV) MKCOL, one URL or many at once.
 *
 * Promises: one that does not answer costs 1 s until it is connected, and as long as it may be silent in all, whatever it is slow with; a
 * transfer that flows has no limit of time; what is longer than expected is cut off; no redirect is followed, and no other protocol spoken.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/text.h"
#include "remote/hash.h"

struct http;

#define PATIENCE_MIN_MS 200
/* It may be silent for so long. NULL, with a line on standard error. */
struct http *http_open(unsigned patience_ms);
/* From now on all ends then (clock_now()), with -ECANCELED; 0: never. */
void http_set_end(struct http *h, int64_t end);
void http_close(struct http *h);

enum http_method { HTTP_GET, HTTP_HEAD, HTTP_PUT, HTTP_MKCOL };

struct http_job {
	enum http_method method;
	char *url;     /* freed with the job */
	uint64_t most; /* bytes of the answer */
	bool soon;     /* all of it within that time, which what comes after it has that much less of */
	/* of a PUT: the caller's until it is done */
	const void *body;
	size_t size;
	char hash[HASH_HEX_SIZE];
	/* How it went: 0; -ENOENT: there is none; -ENOTDIR: there is no directory for it; otherwise -errno, and http_error() says what. */
	int err;
	bool broke;	/* in the middle, and not by silence: it may be tried again */
	int64_t length; /* of what is there, as the server says, or -1 */
	struct text got;
	/* the caller's */
	size_t number;
	unsigned tries;
	void *data; /* freed with the job */
};

int http_do(struct http *h, struct http_job *job);
void http_job_deinit(struct http_job *job);

#define HTTP_AGAIN 1

/* Many: what comes next, and what becomes of it. */
struct http_work {
	/* Fills an empty job. False: there is none now. */
	bool (*next)(void *arg, struct http_job *job);
	/* In the order in which they end. 0; HTTP_AGAIN: it is to be done (again), as it is now; or -errno, which ends all. */
	int (*done)(void *arg, struct http_job *job);
	void *arg;
};

#define HTTP_AT_ONCE 8

/* 0, or what ended it. */
int http_do_all(struct http *h, const struct http_work *w);

/* From now on each request is signed as S3 has it (AWS Signature Version 4). `token` may be NULL. The strings stay the caller's. */
void http_sign(struct http *h, const char *region, const char *id, const char *secret, const char *token);

const char *http_error(const struct http *h);
