/* SPDX-License-Identifier: MIT */
#include "image/objects.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define DEPTH_MAX 16 /* of types in types: no plugin can make us go round */

_Static_assert(sizeof(struct objects_object) == 24, "objects_object");
_Static_assert(sizeof(struct objects_type) == 24, "objects_type");
_Static_assert(sizeof(struct objects_field) == 32, "objects_field");
_Static_assert(sizeof(struct objects_end) == 48, "objects_end");

struct table {
	const struct objects_object *objects;
	const struct objects_type *types;
	const struct objects_field *fields;
	const char *strings;
	struct objects_end end;
};

struct name {
	char *text;
	size_t room, length;
};

__attribute__((format(printf, 2, 3))) static void put(struct name *n, const char *fmt, ...)
{
	size_t left = n->length < n->room ? n->room - n->length : 0;
	va_list ap;
	int r;

	va_start(ap, fmt);
	r = vsnprintf(left ? n->text + n->length : NULL, left, fmt, ap);
	va_end(ap);
	n->length += r > 0 ? (size_t)r : 0;
}

/* False: there is none, or it is not right. */
static bool find_table(struct table *t, const char *image, size_t size)
{
	struct objects_end *e = &t->end;
	uint64_t need;

	if (size < sizeof *e || size % 8)
		return false;
	memcpy(e, image + size - sizeof *e, sizeof *e);
	if (memcmp(e->magic, OBJECTS_MAGIC, sizeof e->magic) != 0 || e->start % 8 || e->start > size || e->n_objects > size || !e->strings)
		return false;
	need = e->n_objects * sizeof *t->objects + e->n_types * sizeof *t->types + e->n_fields * sizeof *t->fields + e->strings;
	if (need > size - sizeof *e || e->start > size - sizeof *e - need)
		return false;
	t->objects = (const struct objects_object *)(const void *)(image + e->start);
	t->types = (const struct objects_type *)(const void *)(t->objects + e->n_objects);
	t->fields = (const struct objects_field *)(const void *)(t->types + e->n_types);
	t->strings = (const char *)(t->fields + e->n_fields);
	return t->strings[e->strings - 1] == '\0';
}

static const char *string_at(const struct table *t, uint32_t at)
{
	return at < t->end.strings ? t->strings + at : "?";
}

static const struct objects_type *type_at(const struct table *t, uint32_t number)
{
	const struct objects_type *type = number < t->end.n_types ? &t->types[number] : NULL;

	return type && type->size && type->fields <= t->end.n_fields && type->n_fields <= t->end.n_fields - type->fields ? type : NULL;
}

/* The last one that begins there or before. */
static const struct objects_object *find_object(const struct table *t, uint64_t offset)
{
	size_t low = 0, high = t->end.n_objects;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (t->objects[mid].offset <= offset)
			low = mid + 1;
		else
			high = mid;
	}
	return low ? &t->objects[low - 1] : NULL;
}

static const struct objects_field *find_field(const struct table *t, const struct objects_type *type, uint64_t at)
{
	for (uint32_t i = 0; i < type->n_fields; i++) {
		const struct objects_field *f = &t->fields[type->fields + i];

		if (at >= f->offset && at - f->offset < f->size && f->element)
			return f;
	}
	return NULL;
}

/* What is `at` bytes into something of that type. */
static void put_inside(const struct table *t, const struct objects_type *type, uint64_t at, struct name *n)
{
	const struct objects_field *f = NULL;

	for (int depth = 0; type && depth < DEPTH_MAX; depth++) {
		f = find_field(t, type, at);
		if (!f)
			break;
		at -= f->offset;
		if (*string_at(t, f->name))
			put(n, ".%s", string_at(t, f->name));
		if (f->element < f->size)
			put(n, "[%llu]", (unsigned long long)(at / f->element));
		at %= f->element;
		type = type_at(t, f->type);
	}
	/* The bytes of a number or a text are no places of their own. */
	if (at && !f)
		put(n, " + 0x%llx", (unsigned long long)at);
}

size_t objects_name(const void *image, size_t size, uint64_t offset, char *text, size_t room)
{
	const struct objects_object *o;
	const struct objects_type *type;
	struct name n = { text, room, 0 };
	struct table t;

	if (room)
		*text = '\0';
	if (!find_table(&t, image, size))
		return 0;
	o = find_object(&t, offset);
	type = o ? type_at(&t, o->type) : NULL;
	if (!type || (offset - o->offset) / type->size >= o->count)
		return 0;
	put(&n, "%s", string_at(&t, type->name));
	if (o->count > 1)
		put(&n, "[%llu]", (unsigned long long)((offset - o->offset) / type->size));
	put_inside(&t, type, (offset - o->offset) % type->size, &n);
	return n.length;
}
