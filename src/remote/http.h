/* SPDX-License-Identifier: MIT */
/*
 * What is asked of an HTTP server: GET, HEAD and PUT of one URL.
 *
 * Promises: one that does not answer costs 1 s until it is connected and 2 s from then on; a transfer that flows has no limit of time; what
 * is longer than expected is cut off; no redirect is followed, and no other protocol spoken.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct http;

/* `seconds` for each silence. NULL, with a line on standard error. */
struct http *http_open(unsigned seconds);
void http_close(struct http *h);

/* From now on each request is signed as S3 has it (AWS Signature Version 4). `token` may be NULL. The strings stay the caller's. */
void http_sign(struct http *h, const char *region, const char *id, const char *secret, const char *token);

/* Called with the body as it comes; 0 or -errno, which ends it. */
typedef int (*http_sink)(void *arg, const void *data, size_t size);

/* 0; -ENOENT: there is none; otherwise -errno, and http_error() says what. At most `most` bytes, and `soon`: all of it within the silence. */
int http_get(struct http *h, const char *url, uint64_t most, int soon, http_sink sink, void *arg);
int http_head(struct http *h, const char *url);
/* The bytes of a file, whose SHA-256 in hex this is. */
int http_put(struct http *h, const char *url, int fd, uint64_t size, const char *hash);
/* Called with the bytes of the file at hand that are sent. */
void http_sent(struct http *h, void (*fn)(void *arg, uint64_t bytes), void *arg);
const char *http_error(const struct http *h);
