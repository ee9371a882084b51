/* SPDX-License-Identifier: MIT */
/*
 * The account: what is counted against memory-max, the number of descriptors and the limits of users. Bytes are those of images and notes,
 * in whole pages, and of what running builds have been granted. Nothing else writes these numbers.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct model;
struct user;

/* That a keeper has open at most. */
#define KEEPER_DESCRIPTORS 5

struct account {
	uint64_t bytes;
	size_t n_images; /* and notes of orphans: a descriptor each */
	size_t n_keepers;
	/* Of those, of images that are being torn down. */
	uint64_t ending_bytes;
	size_t n_ending;
};

/* In whole pages. */
uint64_t account_pages(uint64_t bytes);

/* A descriptor of an image or note; `u`: whose clients made it, or NULL. */
void account_add_image(struct model *m, struct user *u);
/* One that was nobody's is that user's now. */
void account_charge_image(struct user *u);
void account_remove_image(struct model *m, struct user *u);
void account_add_bytes(struct model *m, struct user *u, uint64_t bytes);
void account_remove_bytes(struct model *m, struct user *u, uint64_t bytes);
void account_add_keeper(struct model *m);
void account_remove_keeper(struct model *m);
void account_begin_ending(struct model *m, uint64_t bytes);
void account_end_ending(struct model *m, uint64_t bytes);

/* One that is being torn down takes `now` bytes instead of `before`. */
void account_recount_ending(struct model *m, uint64_t before, uint64_t now);

/* Descriptors that are in use, without those that a teardown will give back. */
size_t account_descriptors(const struct model *m);
/* Bytes likewise. */
uint64_t account_lasting_bytes(const struct model *m);
