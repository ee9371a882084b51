/* SPDX-License-Identifier: MIT */
/*
 * The region: the stretch of addresses from which every image gets its own range, so that a pointer into an image means the
 * same in every process. Ranges are multiples of 2 MiB. A freed range is used again as late as possible (the search goes on
 * from the last range handed out), because a process may still have mapped what it no longer holds a lease on.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define REGION_BASE UINT64_C(0x7e8000000000)
/* Up to where the kernel may put a process's own mappings: it starts at most 1 TiB below the top (arch/x86, mmap_rnd_bits 28). */
#define REGION_SIZE (UINT64_C(448) << 30)
#define REGION_ALIGN (UINT64_C(2) << 20)

struct region;

struct region *region_new(uint64_t base, uint64_t size);
struct region *region_free(struct region *r);

/* The address of a range of at least `size` bytes, or 0 if there is none. */
uint64_t region_alloc(struct region *r, uint64_t size);
/* The same, behind a place that follows from `seed`, if there is room. The search by the other one does not go on from there. */
uint64_t region_alloc_seeded(struct region *r, uint64_t size, uint64_t seed);
/* That very range. False: something lies there. */
bool region_claim(struct region *r, uint64_t address, uint64_t size);
/* Gives back what lies behind the first `size` bytes of the range at `address`. */
void region_trim(struct region *r, uint64_t address, uint64_t size);
void region_release(struct region *r, uint64_t address);
