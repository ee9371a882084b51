/* SPDX-License-Identifier: MIT */
/*
 * Reading the configuration again: in a thread, since the file, the sources that it names and the name service may be slow or be on
 * another machine.
 *
 * Promises: what is read for somebody is read after the question, once for all who have asked meanwhile, and each is answered; nothing
 * is changed by a file with a mistake.
 */
#pragma once

#include <stddef.h>

struct conn;
struct reloads;
struct server;
struct wire_header;

struct reloads *reloads_new(struct server *server);
/* Nobody is answered any more. What never ends is not waited for. */
struct reloads *reloads_free(struct reloads *r);
/* `c` is answered when it was read; NULL: nobody. */
void reload_ask(struct server *server, struct conn *c, const struct wire_header *h);
/* The messages of that connection that were not answered yet: for a daemon that takes the place of this one, and reads for them. */
void reload_each(const struct conn *c, void (*fn)(const void *data, size_t size, void *arg), void *arg);
