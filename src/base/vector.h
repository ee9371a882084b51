/* SPDX-License-Identifier: MIT */
/*
 * A growing array of pointers; also one that is kept in order. What they point at is the owner's. Adding takes amortised O(1),
 * finding in an ordered one O(log n), and inserting there moves what stands behind: for tens of thousands of elements some microseconds.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct vector {
	void **all;
	size_t n, room;
};

void vector_deinit(struct vector *v);
#define _cleanup_vector_ __attribute__((cleanup(vector_deinit)))

void vector_add(struct vector *v, void *p);
void vector_insert(struct vector *v, size_t at, void *p);
void vector_remove(struct vector *v, size_t at);

/* Where the first element stands that is not before `key`; `compare` orders the key and an element. *found: it is equal. */
size_t vector_search(const struct vector *v, const void *key, int (*compare)(const void *key, const void *element), bool *found);
