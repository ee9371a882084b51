/* SPDX-License-Identifier: MIT */
#include "wire/rows.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

void rows_add_fd(struct state *s, int fd)
{
	s->fds = xrealloc(s->fds, (s->n_fds + 1) * sizeof *s->fds);
	s->fds[s->n_fds++] = fd;
}

static uint64_t get_number(const void *at, size_t width)
{
	uint64_t v = 0;

	memcpy(&v, at, width); /* little-endian */
	return v;
}

static void save_list(uint16_t field, char *const *list, struct text *out)
{
	size_t mark;

	if (!list) {
		record_null(out, field);
		return;
	}
	mark = record_begin(out, field, RECORD_LIST);
	for (size_t i = 0; list[i]; i++)
		record_string(out, field, list[i]);
	record_end(out, mark);
}

static void save_digest(uint16_t field, const struct digest *d, struct text *out)
{
	size_t mark = record_begin(out, field, RECORD_LIST);

	record_u64(out, field, d->low);
	record_u64(out, field, d->high);
	record_end(out, mark);
}

static void save_row(const struct row *row, uint16_t field, const void *at, struct state *s)
{
	const struct text *text = at;

	switch ((enum row_type)row->type) {
	case ROW_NUMBER:
	case ROW_TIME:
		record_u64(&s->records, field, get_number(at, row->width));
		break;
	case ROW_STRING:
	case ROW_PATH:
		record_string(&s->records, field, *(char *const *)at);
		break;
	case ROW_LIST:
		save_list(field, *(char **const *)at, &s->records);
		break;
	case ROW_TEXT:
		record_string(&s->records, field, text->data);
		break;
	case ROW_DIGEST:
		save_digest(field, at, &s->records);
		break;
	case ROW_FD:
		if (*(const int *)at >= 0)
			rows_add_fd(s, *(const int *)at);
		record_u64(&s->records, field, (uint64_t)(int64_t) * (const int *)at);
		break;
	}
}

void rows_save(const struct row *rows, const void *object, struct state *s)
{
	for (uint16_t i = 0; rows[i].width; i++)
		save_row(&rows[i], (uint16_t)(i + 1), (const char *)object + rows[i].offset, s);
}

static char **load_list(const struct record *r)
{
	struct record_reader in = record_inside(r);
	struct record item;
	char **list = xcalloc(1, sizeof *list);
	bool bad = false;
	size_t n = 0;

	while (record_next(&in, &item, &bad)) {
		list = xrealloc(list, (n + 2) * sizeof *list);
		list[n++] = record_dup(&item);
		list[n] = NULL;
	}
	return list;
}

static struct digest load_digest(const struct record *r)
{
	struct record_reader in = record_inside(r);
	struct digest d = { 0 };
	struct record half;
	bool bad = false;

	if (record_next(&in, &half, &bad))
		d.low = half.number;
	if (record_next(&in, &half, &bad))
		d.high = half.number;
	return d;
}

static void load_row(const struct row *row, void *at, const struct record *r, int (*resolve)(void *arg, int number), void *arg)
{
	switch ((enum row_type)row->type) {
	case ROW_NUMBER:
	case ROW_TIME:
		memcpy(at, &r->number, row->width);
		break;
	case ROW_STRING:
	case ROW_PATH:
		free(*(char **)at);
		*(char **)at = r->kind == RECORD_STRING ? record_dup(r) : NULL;
		break;
	case ROW_LIST:
		list_free(*(char ***)at);
		*(char ***)at = r->kind == RECORD_LIST ? load_list(r) : NULL;
		break;
	case ROW_TEXT:
		if (r->kind == RECORD_STRING)
			text_add(at, r->data, r->size);
		break;
	case ROW_DIGEST:
		*(struct digest *)at = load_digest(r);
		break;
	case ROW_FD:
		*(int *)at = (int64_t)r->number >= 0 ? resolve(arg, (int)r->number) : -1;
		break;
	}
}

bool row_load(const struct row *rows, void *object, const struct record *r, int (*resolve)(void *arg, int number), void *arg)
{
	uint16_t n = 0;

	while (rows[n].width)
		n++;
	if (r->field == 0 || r->field > n)
		return false;
	load_row(&rows[r->field - 1], (char *)object + rows[r->field - 1].offset, r, resolve, arg);
	return true;
}

struct digest *rows_digests(const struct record *r, size_t *n)
{
	struct record_reader in = record_inside(r);
	struct digest *all = NULL;
	struct record low, high;
	bool bad = false;

	*n = 0;
	while (record_next(&in, &low, &bad) && record_next(&in, &high, &bad)) {
		all = xrealloc(all, (*n + 1) * sizeof *all);
		all[(*n)++] = (struct digest){ low.number, high.number };
	}
	return all ? all : xcalloc(1, sizeof *all);
}
