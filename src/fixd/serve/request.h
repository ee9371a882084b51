/* SPDX-License-Identifier: MIT */
/* The requests of clients: one row of a table each, one handler each. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/wire.h"

struct conn;

/* One message of a client, at an address that is a multiple of eight. `c` may be gone afterwards. */
void request_dispatch(struct conn *c, const void *data, size_t size);

/* Is it a message that has no answer? */
bool request_is_note(const void *data, size_t size);

/* Calls `fn` for every attach of the connection that waits. */
struct instance;
struct image;
void attach_each(const struct conn *c,
		 void (*fn)(const struct wire_header *h, uint32_t flags, const struct instance *i, struct image *const *depends,
			    size_t n_depends, int64_t deadline, void *arg),
		 void *arg);
/* One that waited in another process. */
void attach_resume(struct conn *c, const struct wire_header *h, const struct wire_attach *a, const uint64_t *depends, struct instance *i);
void release_resume(struct conn *c, const struct wire_header *h, struct image *im, const struct wire_release *q);

/* handle_NAME() for each. False: the message is malformed. */
#define REQUEST_HANDLER(name, type, body, tail, flags) \
	bool handle_##name(struct conn *c, const struct wire_header *h, const void *body_, size_t size);
WIRE_REQUESTS(REQUEST_HANDLER)
