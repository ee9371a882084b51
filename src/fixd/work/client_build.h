/* SPDX-License-Identifier: MIT */
/*
 * An offer: a client that asked for an instance is its builder now. Its side of the conversation is wire/offer.h.
 *
 * Promises: what it publishes is verified before anybody sees it; when it dies, hangs up or takes longer than the policy
 * allows the instance hears of it, once.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/rows.h"

struct client;
struct image;
struct instance;
struct offer;

/*
 * Before the client reads them, the inputs are looked at with its rights, which its socket `peer` tells: later edits are noticed. False:
 * that is not over, and is to be asked again.
 */
bool offer_look(struct instance *i, const struct client *c, int peer);
/*
 * Makes the client, which is at `test`, the builder of `i`; *client_end is its side of the channel, to be closed by the caller. Ends in
 * instance_built(), instance_build_failed() or instance_builder_lost(), never at once. NULL, or a sentence to be freed. After
 * offer_look().
 */
char *offer_new(struct instance *i, struct client *c, struct image *const *depends, size_t n_depends, const char *test, size_t test_size,
		int *client_end);

/* For another process: what it knows itself; and there, as it was in the record. False: it makes no sense any more. */
struct link;
struct record;
struct state;
/* How one is saved. */
extern const struct row offer_rows[];
const struct offer *offer_of_client(const struct link *in_client);
const struct instance *offer_instance(const struct offer *o);
/* The images that it builds from. */
struct image *const *offer_depends(const struct offer *o, size_t *n);
void offer_save(const struct offer *o, struct state *s);
bool offer_resume(struct instance *i, struct client *c, const struct record *saved, int (*resolve)(void *arg, int number), void *arg);

/* The connection has ended, and with it the builder. */
void offer_forget_all(struct client *c);

/* Nobody wants the image any more: the channel is closed, nothing is reported. */
void offer_abandon(struct instance *i);

/* Who builds it, or NULL. */
struct client *offer_builder(const struct instance *i);

/* The most bytes the image may have. */
uint64_t offer_limit(const struct instance *i);
