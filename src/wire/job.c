/* SPDX-License-Identifier: MIT */
#include "wire/job.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "wire/record.h"

/* clang-format off */
/* X(id, member): the strings and numbers of a job, in one place for both directions. */
#define JOB_STRINGS(X)                                                                                                 \
	X(NAME, name) X(PARAM, param) X(KEY, scope_key) X(SOURCE, source) X(SYMBOL, symbol) X(ROOT, root) X(TREE, tree) \
	X(DIR, dir) X(READY, ready) X(VALUE, value) X(TEARDOWN, teardown) X(TOKEN, token) X(BYTES, bytes)
#define JOB_NUMBERS(X)                                                                                                 \
	X(KIND, kind) X(ADDRESS, address) X(RESERVED, reserved) X(LIMIT, limit) X(HUGE, huge) X(STRAY, stray)          \
	X(MALLOC, malloc_arena) X(AS_IS, as_is) X(PORT, port) X(READY_BY, ready_by) X(TEARDOWN_MS, teardown_ms)        \
	X(KEPT, kept) X(HAS_IMAGE, has_image) X(HOLDS, holds) X(GROUP, group) X(BUILT, built)
#define JOB_LISTS(X) X(ENV, env) X(INPUTS, inputs)

/* Notes of earlier versions do not have them: a new one stands behind all others. */
#define JOB_LATER(STRING, NUMBER, LIST)                                                                                    \
	NUMBER(STOP_SIGNAL, stop_signal)                                                                                   \
	LIST(LEAVINGS, leavings) STRING(VERIFY, verify) LIST(EXCLUDE, exclude) STRING(PREWARM, prewarm) STRING(DATA, data) \
		STRING(VIEW, view) NUMBER(SANDBOXED, sandboxed) LIST(AUDIT, audit) STRING(SOCKET, socket) LIST(REMOTE, remote) STRING(USER, user) NUMBER(ANEW, anew) NUMBER(TOUCH, touch)
/* clang-format on */

#define FIELD(id, member) FIELD_##id,
enum job_field {
	JOB_STRINGS(FIELD) JOB_NUMBERS(FIELD) JOB_LISTS(FIELD) FIELD_DEPENDENCY,
	FIELD_PATH,
	FIELD_SIZE,
	FIELD_OFFSET,
	FIELD_DIRECT,
	JOB_LATER(FIELD, FIELD, FIELD)
	/* Of a dependency, apart from those before, which become more. */
	FIELD_DIGEST_LOW = 1000,
	FIELD_DIGEST_HIGH,
};

static void put_list(struct text *out, uint16_t field, char *const *list)
{
	size_t mark = record_begin(out, field, RECORD_LIST);

	for (size_t i = 0; list && list[i]; i++)
		record_string(out, field, list[i]);
	record_end(out, mark);
}

static void put_dependency(struct text *out, const struct job_dependency *d)
{
	size_t mark = record_begin(out, FIELD_DEPENDENCY, RECORD_OBJECT);

	record_string(out, FIELD_NAME, d->name);
	record_string(out, FIELD_PATH, d->path);
	record_string(out, FIELD_BYTES, d->bytes);
	record_u64(out, FIELD_ADDRESS, d->address);
	record_u64(out, FIELD_SIZE, d->size);
	record_u64(out, FIELD_OFFSET, d->root);
	record_u64(out, FIELD_KIND, d->kind);
	record_u64(out, FIELD_DIRECT, d->direct);
	record_u64(out, FIELD_DIGEST_LOW, d->digest.low);
	record_u64(out, FIELD_DIGEST_HIGH, d->digest.high);
	record_end(out, mark);
}

void job_encode(const struct job *j, struct text *out)
{
#define PUT_STRING(id, member) record_string(out, FIELD_##id, j->member);
#define PUT_NUMBER(id, member) record_u64(out, FIELD_##id, (uint64_t)j->member);
#define PUT_LIST(id, member) put_list(out, FIELD_##id, j->member);
	JOB_STRINGS(PUT_STRING)
	JOB_NUMBERS(PUT_NUMBER)
	JOB_LISTS(PUT_LIST)
	JOB_LATER(PUT_STRING, PUT_NUMBER, PUT_LIST)
	for (size_t i = 0; i < j->n_dependencies; i++)
		put_dependency(out, &j->dependencies[i]);
}

static char **take_list(const struct record *r, bool *bad)
{
	struct record_reader in = record_inside(r);
	struct record item;
	char **list = xcalloc(1, sizeof *list);
	size_t n = 0;

	while (record_next(&in, &item, bad)) {
		list = xrealloc(list, (n + 2) * sizeof *list);
		list[n++] = record_dup(&item);
		list[n] = NULL;
	}
	return list;
}

static void take_dependency(struct job *j, const struct record *r, bool *bad)
{
	struct record_reader in = record_inside(r);
	struct job_dependency *d;
	struct record f;

	j->dependencies = xrealloc(j->dependencies, (j->n_dependencies + 1) * sizeof *d);
	d = &j->dependencies[j->n_dependencies++];
	*d = (struct job_dependency){ 0 };
	while (record_next(&in, &f, bad)) {
		switch (f.field) {
		case FIELD_NAME:
			free(d->name);
			d->name = record_dup(&f);
			break;
		case FIELD_PATH:
			free(d->path);
			d->path = f.kind == RECORD_STRING ? record_dup(&f) : NULL;
			break;
		case FIELD_BYTES:
			free(d->bytes);
			d->bytes = f.kind == RECORD_STRING ? record_dup(&f) : NULL;
			break;
		case FIELD_ADDRESS:
			d->address = f.number;
			break;
		case FIELD_SIZE:
			d->size = f.number;
			break;
		case FIELD_OFFSET:
			d->root = f.number;
			break;
		case FIELD_KIND:
			d->kind = f.number;
			break;
		case FIELD_DIRECT:
			d->direct = f.number != 0;
			break;
		case FIELD_DIGEST_LOW:
			d->digest.low = f.number;
			break;
		case FIELD_DIGEST_HIGH:
			d->digest.high = f.number;
			break;
		}
	}
	if (!d->name)
		d->name = xstrdup("");
}

int job_decode(const void *data, size_t size, struct job *j)
{
	struct record_reader in = { data, size };
	struct record f;
	bool bad = false;

	*j = (struct job){ 0 };
	while (record_next(&in, &f, &bad)) {
		switch (f.field) {
#define TAKE_STRING(id, member)                                              \
	case FIELD_##id:                                                     \
		free(j->member);                                             \
		j->member = f.kind == RECORD_STRING ? record_dup(&f) : NULL; \
		break;
#define TAKE_NUMBER(id, member)       \
	case FIELD_##id:              \
		j->member = f.number; \
		break;
#define TAKE_LIST(id, member)                    \
	case FIELD_##id:                         \
		list_free(j->member);            \
		j->member = take_list(&f, &bad); \
		break;
			JOB_STRINGS(TAKE_STRING)
			JOB_NUMBERS(TAKE_NUMBER)
			JOB_LISTS(TAKE_LIST)
			JOB_LATER(TAKE_STRING, TAKE_NUMBER, TAKE_LIST)
		case FIELD_DEPENDENCY:
			take_dependency(j, &f, &bad);
			break;
		}
	}
	if (bad || !j->name || !j->source || !j->root) {
		job_deinit(j);
		return -EBADMSG;
	}
	return 0;
}

void job_deinit(struct job *j)
{
#define FREE_STRING(id, member) free(j->member);
#define FREE_LIST(id, member) list_free(j->member);
#define FREE_NOTHING(id, member)
	JOB_STRINGS(FREE_STRING)
	JOB_LISTS(FREE_LIST)
	JOB_LATER(FREE_STRING, FREE_NOTHING, FREE_LIST)
	for (size_t i = 0; i < j->n_dependencies; i++) {
		free(j->dependencies[i].name);
		free(j->dependencies[i].path);
		free(j->dependencies[i].bytes);
	}
	free(j->dependencies);
	*j = (struct job){ 0 };
}
