/* SPDX-License-Identifier: MIT */
#include "wire/record.h"

#include <string.h>

#include "base/alloc.h"

static size_t padded(size_t n)
{
	return (n + 7) & ~(size_t)7;
}

static void put(struct text *t, uint16_t field, enum record_kind kind, const void *data, size_t size)
{
	struct record_header h = { field, (uint16_t)kind, (uint32_t)size };
	static const char zero[8];

	text_add(t, &h, sizeof h);
	text_add(t, data, size);
	text_add(t, zero, padded(size) - size);
}

void record_null(struct text *t, uint16_t field)
{
	put(t, field, RECORD_NULL, "", 0);
}

void record_u64(struct text *t, uint16_t field, uint64_t v)
{
	put(t, field, RECORD_U64, &v, sizeof v);
}

void record_time(struct text *t, uint16_t field, int64_t ns)
{
	put(t, field, RECORD_TIME, &ns, sizeof ns);
}

void record_bool(struct text *t, uint16_t field, bool v)
{
	uint64_t n = v;

	put(t, field, RECORD_BOOL, &n, sizeof n);
}

void record_string(struct text *t, uint16_t field, const char *s)
{
	if (s)
		put(t, field, RECORD_STRING, s, strlen(s));
	else
		record_null(t, field);
}

void record_bytes(struct text *t, uint16_t field, const void *data, size_t size)
{
	put(t, field, RECORD_STRING, data, size);
}

size_t record_begin(struct text *t, uint16_t field, enum record_kind kind)
{
	put(t, field, kind, "", 0);
	return t->size;
}

void record_end(struct text *t, size_t mark)
{
	uint32_t size = (uint32_t)(t->size - mark);

	memcpy(t->data + mark - sizeof(struct record_header) + offsetof(struct record_header, size), &size, sizeof size);
}

static bool is_number(enum record_kind kind)
{
	return kind == RECORD_U64 || kind == RECORD_TIME || kind == RECORD_BOOL;
}

bool record_next(struct record_reader *r, struct record *out, bool *bad)
{
	struct record_header h;

	if (r->size == 0)
		return false;
	*bad = true;
	if (r->size < sizeof h)
		return false;
	memcpy(&h, r->data, sizeof h);
	if (padded(h.size) > r->size - sizeof h || h.kind > RECORD_LIST)
		return false;
	*out = (struct record){ .field = h.field, .kind = h.kind, .data = r->data + sizeof h, .size = h.size };
	if (is_number(out->kind)) {
		if (h.size != sizeof out->number)
			return false;
		memcpy(&out->number, out->data, sizeof out->number);
	}
	*bad = false;
	r->data += sizeof h + padded(h.size);
	r->size -= sizeof h + padded(h.size);
	return true;
}

struct record_reader record_inside(const struct record *r)
{
	return (struct record_reader){ r->data, r->size };
}

char *record_dup(const struct record *r)
{
	return xstrndup(r->data, r->size);
}
