/* SPDX-License-Identifier: MIT */
/*
 * A cleanup: somebody wants images given up, now.
 *
 * Promises: whoever asks is answered with what was removed and what is still in use once everything that nobody holds any more has been
 * torn down, and with what went wrong with that; a daemon that ends or restarts answers before.
 */
#pragma once

#include <stdint.h>

struct cleanup;
struct conn;
struct server;
struct wire_header;

/* Retires what matches one of `patterns`, a list, and all conditions in `flags` (enum wire_cleanup_flags). `older_than`: ns, or negative. */
void cleanup_ask(struct conn *c, const struct wire_header *h, const char *patterns, uint32_t flags, int64_t older_than);

/* Nobody is to wait any longer. */
void cleanups_end(struct server *server);
