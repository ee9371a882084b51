/* SPDX-License-Identifier: MIT */
#include "builder/describe.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "builder/types.h"
#include "image/objects.h"

#define PILE_MIN ((size_t)64 << 10)

/* As it was said; the name is an offset into the names. */
struct type {
	size_t size, name;
};

static bool pile_add(struct pile *p, const void *bytes, size_t n)
{
	size_t room = p->room ? p->room : PILE_MIN;
	void *moved;

	while (p->size + n > room)
		room *= 2;
	if (room > p->room) {
		moved = p->bytes ? mremap(p->bytes, p->room, room, MREMAP_MAYMOVE)
				 : mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (moved == MAP_FAILED)
			return false;
		p->bytes = moved;
		p->room = room;
	}
	memcpy(p->bytes + p->size, bytes, n);
	p->size += n;
	return true;
}

/* The number of a type; the newest is looked at first. */
static bool describe_number_of(struct descriptions *d, const char *name, size_t size, uint32_t *number)
{
	const struct type *types = (const struct type *)(const void *)d->types.bytes;
	size_t n = d->types.size / sizeof *types;
	struct type t = { size, d->names.size };

	for (size_t i = n; i-- > 0;) {
		*number = (uint32_t)i;
		if (types[i].size == size && !strcmp(d->names.bytes + types[i].name, name))
			return true;
	}
	*number = (uint32_t)n;
	return pile_add(&d->names, name, strlen(name) + 1) && pile_add(&d->types, &t, sizeof t);
}

void describe_add(struct descriptions *d, const void *p, size_t n, size_t size, const char *type)
{
	struct objects_object o = { .offset = (uintptr_t)p, .count = n };

	if (n == 0 || size == 0)
		return;
	/* Until they are in order: which came first. */
	o.reserved = (uint32_t)(d->objects.size / sizeof o);
	d->full |= !describe_number_of(d, type, size, &o.type) || !pile_add(&d->objects, &o, sizeof o);
}

static int by_place(const void *a, const void *b)
{
	const struct objects_object *x = a, *y = b;

	if (x->offset != y->offset)
		return x->offset < y->offset ? -1 : 1;
	return x->reserved < y->reserved ? -1 : 1;
}

/* In order, as offsets, and of what was described twice the last word. False: *wrong is not in the image. */
static bool order(struct work *w, struct objects_object *objects, const struct type *types, size_t *n, uint64_t *wrong)
{
	uint64_t base = (uintptr_t)w->space.base;
	size_t kept = 0;

	qsort(objects, *n, sizeof *objects, by_place);
	for (size_t i = 0; i < *n; i++) {
		struct objects_object o = objects[i];

		*wrong = o.offset;
		o.offset -= base;
		o.reserved = 0;
		if (o.offset >= w->space.used || o.count > (w->space.used - o.offset) / types[o.type].size)
			return false;
		if (kept && objects[kept - 1].offset == o.offset)
			kept--;
		objects[kept++] = o;
	}
	*n = kept;
	return true;
}

static char *describe_put(char *at, const void *bytes, size_t n)
{
	if (n)
		memcpy(at, bytes, n);
	return at + n;
}

static int write_table(struct work *w, const struct objects_object *objects, size_t n, const struct types *t)
{
	size_t start = (w->space.used + 7) / 8 * 8, skipped = start - w->space.used;
	size_t room = n * sizeof *objects + t->n * sizeof *t->types + t->n_fields * sizeof *t->fields + (t->strings.size + 7) / 8 * 8;
	struct objects_end end = {
		.start = start,
		.n_objects = n,
		.n_types = (uint32_t)t->n,
		.n_fields = (uint32_t)t->n_fields,
		.strings = (uint32_t)t->strings.size,
		.magic = OBJECTS_MAGIC,
	};
	int r;
	char *at = space_extend(&w->space, skipped + room + sizeof end, &r);

	if (!at)
		return work_fail_space(w, r);
	at = describe_put(at + skipped, objects, n * sizeof *objects);
	at = describe_put(at, t->types, t->n * sizeof *t->types);
	at = describe_put(at, t->fields, t->n_fields * sizeof *t->fields);
	describe_put(at, t->strings.data, t->strings.size);
	describe_put(w->space.base + w->space.used - sizeof end, &end, sizeof end);
	return 0;
}

int describe_write(struct work *w, const struct descriptions *d)
{
	struct objects_object *objects = (struct objects_object *)(void *)d->objects.bytes;
	const struct type *types = (const struct type *)(const void *)d->types.bytes;
	size_t n = d->objects.size / sizeof *objects;
	struct types t = { 0 };
	uint64_t wrong;
	int r;

	if (d->full)
		return work_fail(w, -ENOMEM, "no memory for what fixd_builder_describe() was told");
	if (n == 0)
		return 0;
	if (!order(w, objects, types, &n, &wrong))
		return work_fail(w, -EFAULT, "fixd_builder_describe() was given objects at %p, which are not in the image",
				 (void *)(uintptr_t)wrong);
	for (size_t i = 0; i < d->types.size / sizeof *types; i++)
		types_add(&t, d->names.bytes + types[i].name, types[i].size);
	types_read(&t, w->job.source);
	r = write_table(w, objects, n, &t);
	types_deinit(&t);
	return r;
}
