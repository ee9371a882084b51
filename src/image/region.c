/* SPDX-License-Identifier: MIT */
#include "image/region.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/vector.h"

struct range {
	uint64_t start, end;
};

struct region {
	uint64_t base, end;
	uint64_t next;	      /* where the next search starts */
	struct vector ranges; /* by address; no two overlap */
};

static uint64_t align_up(uint64_t n)
{
	return (n + REGION_ALIGN - 1) & ~(REGION_ALIGN - 1);
}

struct region *region_new(uint64_t base, uint64_t size)
{
	struct region *r = xcalloc(1, sizeof *r);

	r->base = r->next = align_up(base);
	r->end = base + size;
	return r;
}

struct region *region_free(struct region *r)
{
	if (!r)
		return NULL;
	for (size_t k = 0; k < r->ranges.n; k++)
		free(r->ranges.all[k]);
	vector_deinit(&r->ranges);
	free(r);
	return NULL;
}

static int by_start(const void *key, const void *element)
{
	uint64_t start = *(const uint64_t *)key, other = ((const struct range *)element)->start;

	return start < other ? -1 : start > other;
}

/* A range that ends at the address or before comes before it. */
static int by_end(const void *key, const void *element)
{
	return ((const struct range *)element)->end <= *(const uint64_t *)key ? 1 : -1;
}

/* The first that does not end before that address. */
static size_t find_behind(const struct region *r, uint64_t address)
{
	bool found;

	return vector_search(&r->ranges, &address, by_end, &found);
}

static void add_range(struct region *r, size_t at, uint64_t start, uint64_t end)
{
	struct range *range = xcalloc(1, sizeof *range);

	range->start = start;
	range->end = end;
	vector_insert(&r->ranges, at, range);
}

/* The first gap of `size` bytes in [from, to); *at is the range it lies in front of. 0: none. */
static uint64_t find_gap(const struct region *r, uint64_t from, uint64_t to, uint64_t size, size_t *at)
{
	for (*at = find_behind(r, from); *at < r->ranges.n; ++*at) {
		const struct range *range = r->ranges.all[*at];

		if (range->start >= from && range->start - from >= size)
			break;
		from = range->end;
	}
	return from > to || to - from < size ? 0 : from;
}

uint64_t region_alloc(struct region *r, uint64_t size)
{
	uint64_t start;
	size_t at;

	size = align_up(size ? size : 1);
	start = find_gap(r, r->next, r->end, size, &at);
	if (!start)
		start = find_gap(r, r->base, r->end, size, &at);
	if (!start)
		return 0;
	r->next = start + size;
	add_range(r, at, start, start + size);
	return start;
}

uint64_t region_alloc_seeded(struct region *r, uint64_t size, uint64_t seed)
{
	uint64_t from = r->base + seed % ((r->end - r->base) / REGION_ALIGN) * REGION_ALIGN, start;
	size_t at;

	size = align_up(size ? size : 1);
	start = find_gap(r, from, r->end, size, &at);
	if (!start)
		return region_alloc(r, size);
	add_range(r, at, start, start + size);
	return start;
}

bool region_claim(struct region *r, uint64_t address, uint64_t size)
{
	uint64_t end = address + align_up(size ? size : 1);
	size_t at;

	if (address % REGION_ALIGN || end <= address)
		return false;
	at = find_behind(r, address);
	if (at < r->ranges.n && ((const struct range *)r->ranges.all[at])->start < end)
		return false;
	add_range(r, at, address, end);
	/* As if it had been the last one handed out. */
	if (address >= r->base && end <= r->end && end > r->next)
		r->next = end;
	return true;
}

/* Where the range stands that begins there. False: none does. */
static bool find_range(const struct region *r, uint64_t address, size_t *at)
{
	bool found;

	*at = vector_search(&r->ranges, &address, by_start, &found);
	return found;
}

void region_trim(struct region *r, uint64_t address, uint64_t size)
{
	uint64_t end = address + align_up(size ? size : 1);
	struct range *range;
	size_t at;

	if (!find_range(r, address, &at))
		return;
	range = r->ranges.all[at];
	if (end >= range->end)
		return;
	/* The tail was reserved and never mapped by anybody else: the next range may follow directly. */
	if (r->next == range->end)
		r->next = end;
	range->end = end;
}

void region_release(struct region *r, uint64_t address)
{
	size_t at;

	if (!find_range(r, address, &at))
		return;
	free(r->ranges.all[at]);
	vector_remove(&r->ranges, at);
}
