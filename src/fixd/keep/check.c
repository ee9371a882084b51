/* SPDX-License-Identifier: MIT */
#include "fixd/keep/check.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/vector.h"
#include "fixd/keep/rows.h"
#include "fixd/keep/state.h"
#include "fixd/work/client_build.h"
#include "wire/wire.h"

/* The number of a session or instance that is in none of the lists. */
#define NOBODY UINT64_MAX

enum shape_kind {
	A_NUMBER, /* up to the maximum */
	A_BOOL,
	A_TIME,
	A_STRING, /* or nothing */
	A_FD,	  /* or -1 */
	BYTES,
	A_SERIAL, /* of an image, or 0 */
	SERIALS,
	DIGESTS,
	NUMBERS,
	TIMES,
	A_SESSION,
	AN_INSTANCE,
	AN_OBJECT,
	ANYTHING, /* is looked at where it is read */
};

/* A field that is in no table of rows. */
struct shape {
	uint16_t field;
	uint8_t kind; /* enum shape_kind */
	bool many;
	const struct object *inside;
	uint64_t max;
};

/* What a record consists of. */
struct object {
	const char *name;
	const struct row *rows;
	const struct shape *shapes; /* the last one is of the field 0 */
};

/* clang-format off */
#define ONE(field, kind) { field, kind, false, NULL, 0 }
#define UP_TO(field, kind, max) { field, kind, false, NULL, max }
#define MANY(field, kind, max) { field, kind, true, NULL, max }
#define OBJECT(field, inside) { field, AN_OBJECT, false, inside, 0 }
#define OBJECTS(field, inside) { field, AN_OBJECT, true, inside, 0 }
#define LAST ONE(0, 0)

static const struct shape use_shapes[] = { LAST };
static const struct object use_object = { "use", use_rows, use_shapes };
static const struct object orphan_object = { "orphan", orphan_rows, use_shapes };
static const struct object keeper_object = { "keeper", keeper_rows, use_shapes };
static const struct object daemon_object = { "daemon", daemon_rows, use_shapes };

static const struct shape fixture_shapes[] = { ONE(STATE_NAME, A_STRING), MANY(STATE_SETTING, A_STRING, 0), LAST };
static const struct object fixture_object = { "fixture", NULL, fixture_shapes };

static const struct shape run_shapes[] = { OBJECTS(STATE_USE, &use_object), LAST };
static const struct object run_object = { "run", run_rows, run_shapes };

static const struct shape session_shapes[] = {
	OBJECTS(STATE_FIXTURE, &fixture_object),
	OBJECTS(STATE_RUN, &run_object),
	OBJECTS(STATE_ORPHAN, &orphan_object),
	LAST,
};
static const struct object session_object = { "session", session_rows, session_shapes };

static const struct shape image_shapes[] = {
	ONE(STATE_SAW, DIGESTS),
	ONE(STATE_DEPENDS, SERIALS),
	ONE(STATE_NEEDS, SERIALS),
	ONE(STATE_TREES_OF, SERIALS),
	ONE(STATE_OF_SESSION, A_SESSION),
	OBJECT(STATE_KEEPER, &keeper_object),
	LAST,
};
static const struct object image_object = { "image", image_rows, image_shapes };

static const struct shape pool_shapes[] = { ONE(STATE_HANDOUTS, TIMES), LAST };
static const struct object pool_object = { "pool", pool_rows, pool_shapes };

static const struct shape instance_shapes[] = {
	ONE(STATE_OF_SESSION, A_SESSION),
	ONE(STATE_NAME, A_STRING),
	ONE(STATE_REGISTERED, A_BOOL),
	ONE(STATE_RUN_ID, A_STRING),
	ONE(STATE_RUN_SESSION, A_SESSION),
	ONE(STATE_CURRENT, A_SERIAL),
	ONE(STATE_LAST, A_SERIAL),
	ONE(STATE_FAILED_WITH, NUMBERS),
	ONE(STATE_WATCH, ANYTHING),
	OBJECT(STATE_POOL, &pool_object),
	ONE(STATE_EAGER, A_BOOL),
	ONE(STATE_RESTART_IN, A_TIME),
	LAST,
};
static const struct object instance_object = { "instance", instance_rows, instance_shapes };

static const struct shape lease_shapes[] = { ONE(STATE_SERIAL, A_SERIAL), LAST };
static const struct object lease_object = { "lease", lease_rows, lease_shapes };

static const struct shape attach_shapes[] = {
	UP_TO(STATE_ID, A_NUMBER, UINT64_MAX),
	UP_TO(STATE_FLAGS, A_NUMBER, UINT32_MAX),
	ONE(STATE_OF_INSTANCE, AN_INSTANCE),
	ONE(STATE_DEADLINE, A_TIME),
	ONE(STATE_DEPENDS, SERIALS),
	LAST,
};
static const struct object attach_object = { "attach", NULL, attach_shapes };

static const struct shape release_shapes[] = {
	UP_TO(STATE_ID, A_NUMBER, UINT64_MAX),
	ONE(STATE_SERIAL, A_SERIAL),
	ONE(STATE_DEADLINE, A_TIME),
	LAST,
};
static const struct object release_object = { "release", NULL, release_shapes };

static const struct shape offer_shapes[] = {
	ONE(STATE_OF_INSTANCE, AN_INSTANCE),
	ONE(STATE_FD, A_FD),
	ONE(STATE_DEADLINE, A_TIME),
	ONE(STATE_SAW, DIGESTS),
	ONE(STATE_DEPENDS, SERIALS),
	LAST,
};
static const struct object offer_object = { "client build", offer_rows, offer_shapes };

static const struct shape conn_shapes[] = {
	ONE(STATE_FD, A_FD),
	ONE(STATE_OF_SESSION, A_SESSION),
	ONE(STATE_RUN_ID, A_STRING),
	ONE(STATE_OBSERVER, A_BOOL),
	ONE(STATE_CLOSING, A_BOOL),
	OBJECTS(STATE_LEASE, &lease_object),
	OBJECTS(STATE_OFFER, &offer_object),
	OBJECTS(STATE_ATTACH, &attach_object),
	OBJECTS(STATE_RELEASE, &release_object),
	MANY(STATE_MESSAGE, BYTES, WIRE_MESSAGE_MAX),
	LAST,
};
static const struct object conn_object = { "connection", conn_rows, conn_shapes };

static const struct shape holder_shapes[] = { ONE(STATE_SERIAL, A_SERIAL), UP_TO(STATE_PID, A_NUMBER, PID_NUMBER_MAX), LAST };
static const struct object holder_object = { "holder", NULL, holder_shapes };

static const struct object transfer_object = { "transfer", transfer_rows, use_shapes };

static const struct shape state_shapes[] = {
	UP_TO(STATE_VERSION_FIELD, A_NUMBER, STATE_VERSION),
	OBJECT(STATE_DAEMON, &daemon_object),
	OBJECTS(STATE_SESSION, &session_object),
	OBJECTS(STATE_IMAGE, &image_object),
	OBJECTS(STATE_KEEPER, &keeper_object),
	OBJECTS(STATE_INSTANCE, &instance_object),
	OBJECTS(STATE_CONN, &conn_object),
	OBJECTS(STATE_HOLDER, &holder_object),
	OBJECTS(STATE_LET_GO, &holder_object),
	OBJECTS(STATE_TRANSFER, &transfer_object),
	LAST,
};
static const struct object state_object = { "state", NULL, state_shapes };
/* clang-format on */

/* What references lead to. */
struct checking {
	struct vector serials; /* pointers into memory of 64-bit numbers, in order */
	uint64_t *numbers;
	size_t n_sessions, n_instances;
	struct vector fds;   /* that were named: each is owned by one only */
	struct vector lasts; /* pointers into memory of the serials that instances name as their last image */
	char *trees;	     /* NULL: there are none */
	char *wrong;
};

static bool check_fail(struct checking *c, const char *object, const char *field, const char *what)
{
	if (!c->wrong)
		c->wrong = xasprintf("%s of %s %s", field, object, what);
	return false;
}

static bool check_is_number(const struct record *r)
{
	return r->kind == RECORD_U64 || r->kind == RECORD_TIME || r->kind == RECORD_BOOL;
}

static bool is_time(const struct record *r)
{
	int64_t t = (int64_t)r->number;

	return check_is_number(r) && t > -TIME_NUMBER_MAX && t < TIME_NUMBER_MAX;
}

static bool is_string(const struct record *r)
{
	return r->kind == RECORD_NULL || (r->kind == RECORD_STRING && !memchr(r->data, 0, r->size));
}

/* A list of numbers; *n: so many. */
static bool is_list(const struct record *r, size_t *n)
{
	struct record_reader in = record_inside(r);
	struct record item;
	bool bad = false;

	*n = 0;
	while (r->kind == RECORD_LIST && record_next(&in, &item, &bad)) {
		if (!check_is_number(&item))
			return false;
		++*n;
	}
	return r->kind == RECORD_LIST && !bad;
}

static bool are_times(const struct record *r)
{
	struct record_reader in = record_inside(r);
	struct record item;
	bool bad = false;

	while (r->kind == RECORD_LIST && record_next(&in, &item, &bad)) {
		if (!is_time(&item))
			return false;
	}
	return r->kind == RECORD_LIST && !bad;
}

static int by_number(const void *key, const void *element)
{
	uint64_t a = *(const uint64_t *)key, b = *(const uint64_t *)element;

	return a < b ? -1 : a > b;
}

static bool is_serial(const struct checking *c, uint64_t serial)
{
	bool found = serial == 0;

	if (serial)
		vector_search(&c->serials, &serial, by_number, &found);
	return found;
}

static bool are_serials(const struct checking *c, const struct record *r)
{
	struct record_reader in = record_inside(r);
	struct record item;
	bool bad = false;
	size_t n;

	if (!is_list(r, &n))
		return false;
	while (record_next(&in, &item, &bad)) {
		if (item.number == 0 || !is_serial(c, item.number))
			return false;
	}
	return true;
}

static bool is_string_list(const struct record *r)
{
	struct record_reader in = record_inside(r);
	struct record item;
	bool bad = false;

	while (r->kind == RECORD_LIST && record_next(&in, &item, &bad)) {
		if (item.kind != RECORD_STRING || memchr(item.data, 0, item.size))
			return false;
	}
	return r->kind == RECORD_NULL || (r->kind == RECORD_LIST && !bad);
}

/* An entry of the directory of trees, and nothing else: such files are removed one day. */
static bool is_in_trees(const struct checking *c, const struct record *r)
{
	size_t n = c->trees ? strlen(c->trees) : 0;

	if (r->kind == RECORD_NULL)
		return true;
	return n && is_string(r) && r->size > n + 1 && !memcmp(r->data, c->trees, n) && r->data[n] == '/' && r->data[n + 1] != '.' &&
	       !memchr(r->data + n + 1, '/', r->size - n - 1);
}

static bool is_fd(struct checking *c, const struct record *r)
{
	if (!check_is_number(r) || (int64_t)r->number < -1 || (int64_t)r->number > INT32_MAX)
		return false;
	if ((int64_t)r->number >= 0)
		vector_add(&c->fds, (void *)(uintptr_t)r->number);
	return true;
}

static bool row_is_right(struct checking *c, const struct row *row, const struct record *r)
{
	size_t n;

	switch ((enum row_type)row->type) {
	case ROW_NUMBER:
		return check_is_number(r) && r->number <= row->max && (!row->is_pid || r->number != 1) &&
		       (row->width == 8 || r->number >> (8 * row->width) == 0);
	case ROW_TIME:
		return is_time(r);
	case ROW_STRING:
		return is_string(r);
	case ROW_PATH:
		return is_in_trees(c, r);
	case ROW_LIST:
		return is_string_list(r);
	case ROW_TEXT:
		return r->kind == RECORD_NULL || r->kind == RECORD_STRING;
	case ROW_DIGEST:
		return is_list(r, &n) && n == 2;
	case ROW_FD:
		return is_fd(c, r);
	}
	return false;
}

static bool check_object(struct checking *c, const struct object *o, const struct record *saved);

static bool shape_is_right(struct checking *c, const struct shape *s, const struct record *r)
{
	size_t n;

	switch ((enum shape_kind)s->kind) {
	case A_NUMBER:
		return check_is_number(r) && r->number <= s->max;
	case A_BOOL:
		return check_is_number(r) && r->number <= 1;
	case A_TIME:
		return is_time(r);
	case A_STRING:
		return is_string(r);
	case A_FD:
		return is_fd(c, r);
	case BYTES:
		return r->kind == RECORD_STRING && r->size <= s->max;
	case A_SERIAL:
		return check_is_number(r) && is_serial(c, r->number);
	case SERIALS:
		return are_serials(c, r);
	case DIGESTS:
		return is_list(r, &n) && n % 2 == 0;
	case NUMBERS:
		return is_list(r, &n);
	case TIMES:
		return are_times(r);
	case A_SESSION:
		return check_is_number(r) && (r->number < c->n_sessions || r->number == NOBODY);
	case AN_INSTANCE:
		return check_is_number(r) && (r->number < c->n_instances || r->number == NOBODY);
	case AN_OBJECT:
		return check_object(c, s->inside, r);
	case ANYTHING:
		return r->kind == RECORD_OBJECT;
	}
	return false;
}

static size_t row_count(const struct row *rows)
{
	size_t n = 0;

	while (rows && rows[n].width)
		n++;
	return n;
}

/* NULL: it is not known. */
static const struct shape *find_shape(const struct object *o, uint16_t field)
{
	for (const struct shape *s = o->shapes; s->field; s++) {
		if (s->field == field)
			return s;
	}
	return NULL;
}

static bool check_field(struct checking *c, const struct object *o, const struct record *r, uint64_t *seen, uint64_t *seen_shapes)
{
	size_t n_rows = row_count(o->rows);
	const struct shape *s;
	uint64_t bit;

	if (r->field && r->field <= n_rows) {
		const struct row *row = &o->rows[r->field - 1];

		bit = UINT64_C(1) << (r->field - 1);
		if (*seen & bit)
			return check_fail(c, o->name, row->name, "is there twice");
		*seen |= bit;
		return row_is_right(c, row, r) || check_fail(c, o->name, row->name, "has a value that it cannot have");
	}
	s = find_shape(o, r->field);
	if (!s)
		return true;
	bit = UINT64_C(1) << (s - o->shapes);
	if (!s->many && (*seen_shapes & bit))
		return check_fail(c, o->name, "a field", "is there twice");
	*seen_shapes |= bit;
	return shape_is_right(c, s, r) || check_fail(c, o->name, "a field", "has a value that it cannot have, or leads to nothing");
}

static bool check_object(struct checking *c, const struct object *o, const struct record *saved)
{
	struct record_reader in = record_inside(saved);
	uint64_t seen = 0, seen_shapes = 0;
	struct record r;
	bool bad = false;

	if (saved->kind != RECORD_OBJECT)
		return check_fail(c, o->name, "the record", "is no object");
	while (record_next(&in, &r, &bad)) {
		if (!check_field(c, o, &r, &seen, &seen_shapes))
			return false;
	}
	return !bad || check_fail(c, o->name, "the record", "is torn");
}

/* An image has as many dependencies as it has seen. */
static bool check_image(struct checking *c, const struct record *saved)
{
	struct record_reader in = record_inside(saved);
	size_t dep_digests = 0, depends = 0;
	bool has_depends = false, bad = false;
	struct record r;

	while (record_next(&in, &r, &bad)) {
		if (r.field == STATE_SAW)
			is_list(&r, &dep_digests);
		has_depends |= r.field == STATE_DEPENDS;
		if (r.field == STATE_DEPENDS)
			is_list(&r, &depends);
	}
	return !has_depends || depends == dep_digests / 2 ||
	       check_fail(c, "image", "the number of dependencies", "is another one than it saw");
}

static int by_value(const void *a, const void *b)
{
	return by_number(*(uint64_t *const *)a, *(uint64_t *const *)b);
}

/* An image is the last one of one instance at most, and what is current is the last one. */
static bool check_instance(struct checking *c, const struct record *saved)
{
	struct record_reader in = record_inside(saved);
	uint64_t current = 0, last = 0;
	struct record r;
	bool bad = false;

	while (record_next(&in, &r, &bad)) {
		if (r.field == STATE_CURRENT)
			current = r.number;
		else if (r.field == STATE_LAST)
			last = r.number;
	}
	if (last)
		vector_add(&c->lasts, xmemdup(&last, sizeof last));
	return current == 0 || current == last || check_fail(c, "instance", "the current image", "is not the last one");
}

static bool check_lasts(struct checking *c)
{
	if (c->lasts.n)
		qsort(c->lasts.all, c->lasts.n, sizeof *c->lasts.all, by_value);
	for (size_t k = 1; k < c->lasts.n; k++) {
		if (!by_value(&c->lasts.all[k - 1], &c->lasts.all[k]))
			return check_fail(c, "image", "the instance", "is not the only one");
	}
	return true;
}

/* The number in a row of an object. */
static uint64_t number_in(const struct record *saved, const struct row *rows, const char *name)
{
	struct record_reader in = record_inside(saved);
	struct record r;
	bool bad = false;

	while (record_next(&in, &r, &bad)) {
		if (r.field && r.field <= row_count(rows) && !strcmp(rows[r.field - 1].name, name))
			return r.number;
	}
	return 0;
}

/* Of earlier directories of trees, too. */
static bool note_trees(struct checking *c, const struct record *saved)
{
	_cleanup_free_ char *ours = xasprintf("fixd-trees-%u-", (unsigned)geteuid());
	struct record_reader in = record_inside(saved);
	bool bad = false, locked = false;
	const char *name;
	struct record r;

	while (record_next(&in, &r, &bad)) {
		const char *row = r.field && r.field <= row_count(daemon_rows) ? daemon_rows[r.field - 1].name : "";

		if (!strcmp(row, "trees") && r.kind == RECORD_STRING && !c->trees)
			c->trees = record_dup(&r);
		else if (!strcmp(row, "trees_lock"))
			locked = (int64_t)r.number >= 0;
	}
	if (locked != (c->trees != NULL))
		return check_fail(c, "daemon", "trees", "has no lock, or is not there");
	if (!c->trees)
		return true;
	name = strrchr(c->trees, '/');
	return (*c->trees == '/' && name && !strncmp(name + 1, ours, strlen(ours)) && !strstr(c->trees, "/../")) ||
	       check_fail(c, "daemon", "trees", "is no directory of ours");
}

/* What there is, before anything is looked at that may lead to it. */
static bool note_targets(struct checking *c, const void *records, size_t size)
{
	struct record_reader in = { records, size };
	size_t n = 0, room = 0;
	struct record r;
	bool bad = false;

	while (record_next(&in, &r, &bad)) {
		c->n_sessions += r.field == STATE_SESSION;
		c->n_instances += r.field == STATE_INSTANCE;
		if (r.field == STATE_DAEMON && !note_trees(c, &r))
			return false;
		if (r.field != STATE_IMAGE)
			continue;
		if (n == room) {
			room = room ? 2 * room : 64;
			c->numbers = xrealloc(c->numbers, room * sizeof *c->numbers);
		}
		c->numbers[n++] = number_in(&r, image_rows, "serial");
	}
	if (bad)
		return check_fail(c, "state", "the record", "is torn");
	for (size_t k = 0; k < n; k++)
		vector_add(&c->serials, &c->numbers[k]);
	if (n)
		qsort(c->serials.all, n, sizeof *c->serials.all, by_value);
	for (size_t k = 0; k < n; k++) {
		if (*(uint64_t *)c->serials.all[k] == 0 || (k && !by_value(&c->serials.all[k - 1], &c->serials.all[k])))
			return check_fail(c, "image", "serial", "is 0, or that of another one");
	}
	return true;
}

static int by_fd(const void *a, const void *b)
{
	uintptr_t x = *(const uintptr_t *)a, y = *(const uintptr_t *)b;

	return x < y ? -1 : x > y;
}

/* Each is owned, and closed one day, by one object. */
static bool check_fds(struct checking *c)
{
	if (c->fds.n)
		qsort(c->fds.all, c->fds.n, sizeof *c->fds.all, by_fd);
	for (size_t k = 1; k < c->fds.n; k++) {
		if (c->fds.all[k] == c->fds.all[k - 1])
			return check_fail(c, "state", "a descriptor", "is named twice");
	}
	return true;
}

char *state_check(const void *records, size_t size)
{
	const struct record all = { .kind = RECORD_OBJECT, .data = records, .size = size };
	struct record_reader in = { records, size };
	struct checking c = { 0 };
	struct record r;
	bool bad = false, right = note_targets(&c, records, size) && check_object(&c, &state_object, &all);

	while (right && record_next(&in, &r, &bad))
		right = r.field == STATE_IMAGE ? check_image(&c, &r) : r.field != STATE_INSTANCE || check_instance(&c, &r);
	if (right)
		right = check_fds(&c) && check_lasts(&c);
	for (size_t k = 0; k < c.lasts.n; k++)
		free(c.lasts.all[k]);
	vector_deinit(&c.lasts);
	vector_deinit(&c.fds);
	vector_deinit(&c.serials);
	free(c.numbers);
	free(c.trees);
	return c.wrong;
}
