/* SPDX-License-Identifier: MIT */
#include "image/region.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/link.h"

struct range {
	struct link link; /* region::ranges, by address */
	uint64_t start, end;
};

struct region {
	uint64_t base, end;
	uint64_t next; /* where the next search starts */
	struct link ranges;
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
	link_init(&r->ranges);
	return r;
}

struct region *region_free(struct region *r)
{
	if (!r)
		return NULL;
	link_for_each_safe(l, &r->ranges)
		free(link_entry(l, struct range, link));
	free(r);
	return NULL;
}

/* The first gap of `size` bytes in [from, to); *before is the range it lies in front of. 0: none. */
static uint64_t find_gap(struct region *r, uint64_t from, uint64_t to, uint64_t size, struct link **before)
{
	link_for_each(l, &r->ranges) {
		struct range *range = link_entry(l, struct range, link);

		if (range->end <= from)
			continue;
		if (range->start >= from && range->start - from >= size)
			break;
		from = range->end;
	}
	if (from > to || to - from < size)
		return 0;
	*before = &r->ranges;
	link_for_each(l, &r->ranges) {
		if (link_entry(l, struct range, link)->start >= from) {
			*before = l;
			break;
		}
	}
	return from;
}

uint64_t region_alloc(struct region *r, uint64_t size)
{
	struct link *before;
	struct range *range;
	uint64_t start;

	size = align_up(size ? size : 1);
	start = find_gap(r, r->next, r->end, size, &before);
	if (!start)
		start = find_gap(r, r->base, r->end, size, &before);
	if (!start)
		return 0;
	range = xcalloc(1, sizeof *range);
	range->start = start;
	range->end = r->next = start + size;
	link_insert(before, &range->link);
	return start;
}

bool region_claim(struct region *r, uint64_t address, uint64_t size)
{
	struct link *before = &r->ranges;
	struct range *range;
	uint64_t end = address + align_up(size ? size : 1);

	if (address % REGION_ALIGN || end <= address)
		return false;
	link_for_each(l, &r->ranges) {
		const struct range *other = link_entry(l, struct range, link);

		if (other->start < end && address < other->end)
			return false;
		if (other->start >= end) {
			before = l;
			break;
		}
	}
	range = xcalloc(1, sizeof *range);
	range->start = address;
	range->end = end;
	link_insert(before, &range->link);
	/* As if it had been the last one handed out. */
	if (address >= r->base && end <= r->end && end > r->next)
		r->next = end;
	return true;
}

static struct range *find_range(struct region *r, uint64_t address)
{
	link_for_each(l, &r->ranges) {
		struct range *range = link_entry(l, struct range, link);

		if (range->start == address)
			return range;
	}
	return NULL;
}

void region_trim(struct region *r, uint64_t address, uint64_t size)
{
	struct range *range = find_range(r, address);
	uint64_t end = address + align_up(size ? size : 1);

	if (!range || end >= range->end)
		return;
	/* The tail was reserved and never mapped by anybody else: the next range may follow directly. */
	if (r->next == range->end)
		r->next = end;
	range->end = end;
}

void region_release(struct region *r, uint64_t address)
{
	struct range *range = find_range(r, address);

	if (!range)
		return;
	link_remove(&range->link);
	free(range);
}
