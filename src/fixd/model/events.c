/* SPDX-License-Identifier: MIT */
#include "fixd/model/events.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/utf8.h"
#include "config/config.h"
#include "fixd/model/client.h"
#include "fixd/model/event_log.h"
#include "fixd/model/image.h"
#include "fixd/model/instance.h"
#include "fixd/model/model.h"
#include "fixd/model/run.h"
#include "fixd/model/session.h"
#include "fixd/model/user.h"

#define TEXT_MAX 500			    /* bytes of each string */
#define FORMAT UINT64_C(0x3176652d64786966) /* what the file begins with */

/* At the head of the memory. Positions are those of a log without end; each has its place at the remainder by EVENTS_SIZE. */
struct head {
	uint64_t format;
	uint64_t first, next; /* positions */
	uint64_t next_number;
};
_Static_assert(sizeof(struct head) <= EVENTS_HEAD, "the head has room");

/* Of every so manyth event the position is known; more than that many do not fit into the log. */
#define STEP 64
#define STEPS 2048
_Static_assert(STEP *STEPS * sizeof(struct event) > EVENTS_SIZE, "the index covers the log");

struct events {
	uint64_t index[STEPS]; /* by number */
	struct head *head;
	char *log; /* mapped twice, one behind the other: no event is in two pieces */
};

static void note_position(struct events *e, uint64_t number, uint64_t position)
{
	if (number % STEP == 0)
		e->index[number / STEP % STEPS] = position;
}

static size_t words_size(const struct event *v)
{
	size_t n = 0;

	for (size_t k = 0; k < EVENT_WORDS; k++)
		n += v->words[k];
	return n;
}

static bool events_is_sound(struct events *e)
{
	const struct head *h = e->head;
	uint64_t number = 0;

	if (h->format != FORMAT || h->next < h->first || h->next - h->first > EVENTS_SIZE || h->first % 8)
		return false;
	for (uint64_t at = h->first; at < h->next;) {
		const struct event *v = event_at(e, at);

		if (h->next - at < sizeof *v || v->size < sizeof *v || v->size % 8 || v->size > h->next - at || v->kind >= EVENT_KINDS ||
		    v->scope >= SCOPE_COUNT || words_size(v) > v->size - sizeof *v || (number && v->number != number))
			return false;
		number = v->number + 1;
		note_position(e, v->number, at);
		at += v->size;
	}
	return !number || number == h->next_number;
}

struct events *events_new(void *head, char *log, bool resumed)
{
	struct events *e = xcalloc(1, sizeof *e);

	e->head = head;
	e->log = log;
	if (!resumed || !events_is_sound(e))
		*e->head = (struct head){ .format = FORMAT, .next_number = 1 };
	return e;
}

struct events *events_free(struct events *e)
{
	free(e);
	return NULL;
}

uint64_t events_end_at(const struct events *e)
{
	return e->head->next;
}

uint64_t events_find(const struct events *e, uint64_t number, bool *lost)
{
	const struct head *h = e->head;
	uint64_t at = h->first;

	/* That was another log. */
	if (number > h->next_number)
		number = 0;
	*lost = at < h->next && event_at(e, at)->number > number;
	if (number >= h->next_number)
		return h->next;
	if (!*lost && number / STEP > event_at(e, at)->number / STEP)
		at = e->index[number / STEP % STEPS];
	while (at < h->next && event_at(e, at)->number < number)
		at += event_at(e, at)->size;
	return at;
}

const struct event *event_at(const struct events *e, uint64_t position)
{
	return (const struct event *)(e->log + position % EVENTS_SIZE);
}

/* The strings of an event, until it is written. */
struct words {
	const char *word[EVENT_WORDS];
	size_t size[EVENT_WORDS];
};

static void set_bytes(struct words *w, enum event_word which, const char *s, size_t n)
{
	w->word[which] = s;
	w->size[which] = utf8_cut(s, n, TEXT_MAX);
}

static void set_word(struct words *w, enum event_word which, const char *s)
{
	set_bytes(w, which, s, s ? strlen(s) : 0);
}

/* Returns its number. */
static uint64_t events_add(struct model *m, struct event *v, const struct words *w)
{
	struct events *e = m->events;
	struct head *h;
	size_t size = sizeof *v;
	char *at;

	if (!e)
		return 0;
	h = e->head;
	note_position(e, h->next_number, h->next);
	for (size_t k = 0; k < EVENT_WORDS; k++) {
		v->words[k] = (uint16_t)w->size[k];
		size += w->size[k];
	}
	v->size = (uint32_t)((size + 7) / 8 * 8);
	v->number = h->next_number++;
	v->at = model_real(m);
	while (h->next + v->size - h->first > EVENTS_SIZE)
		h->first += event_at(e, h->first)->size;
	at = e->log + h->next % EVENTS_SIZE;
	memcpy(at, v, sizeof *v);
	at += sizeof *v;
	for (size_t k = 0; k < EVENT_WORDS; k++) {
		if (w->size[k])
			memcpy(at, w->word[k], w->size[k]);
		at += w->size[k];
	}
	/* Only now is it there: we may be killed. */
	__atomic_store_n(&h->next, h->next + v->size, __ATOMIC_RELEASE);
	if (m->events_followed)
		loop_defer(m->loop, &m->event_added);
	return v->number;
}

/* Who may see what happened to it. */
static uint32_t uid_of(const struct instance *i)
{
	return i->fixture->source == SOURCE_CLIENT ? i->session->uid : EVENT_FOR_ALL;
}

void event_of_instance(const struct instance *i, const struct image *im, enum event_kind kind, const char *text)
{
	struct event v = { .kind = (uint16_t)kind, .scope = (uint8_t)i->fixture->scope, .uid = uid_of(i) };
	struct words w = { 0 };

	if (im) {
		v.generation = im->generation;
		v.bytes = im->bytes;
		v.took = im->build_ns;
		v.cpu = im->cpu_ns;
		v.peak = im->peak_rss;
	}
	set_word(&w, EVENT_TITLE, i->title);
	set_word(&w, EVENT_SESSION, i->session->id);
	set_word(&w, EVENT_TEXT, text);
	events_add(i->session->model, &v, &w);
}

void event_torn_down(const struct image *im, const char *wrong)
{
	struct event v = {
		.kind = EVENT_TORN_DOWN,
		.scope = im->scope,
		.uid = im->user ? (im->session ? im->session->uid : im->user->uid) : EVENT_FOR_ALL,
		.generation = im->generation,
		.bytes = im->bytes,
	};
	struct words w = { 0 };

	set_word(&w, EVENT_TITLE, im->title);
	set_word(&w, EVENT_SESSION, im->session ? im->session->id : im->user || !im->model->session ? NULL : im->model->session->id);
	set_word(&w, EVENT_TEXT, wrong);
	events_add(im->model, &v, &w);
}

void event_attach(const struct client *c, struct lease *l, bool built, int64_t took, const char *test, size_t test_size)
{
	const struct image *im = l->image;
	const struct instance *i = im->instance;
	struct event v = {
		.kind = EVENT_ATTACH,
		.scope = im->scope,
		.built = built,
		.uid = c->uid,
		.pid = (uint32_t)c->pid,
		.generation = im->generation,
		.bytes = im->bytes,
		.took = took,
	};
	struct words w = { 0 };

	set_word(&w, EVENT_TITLE, im->title);
	set_word(&w, EVENT_SESSION, i ? i->session->id : NULL);
	set_word(&w, EVENT_RUN, c->member ? c->member->run->id : NULL);
	set_bytes(&w, EVENT_TEST, test, test_size);
	l->uid = c->uid;
	l->event = events_add(c->model, &v, &w);
}

/* Of what is done with a lease; the strings may be NULL. */
static void add_of_lease(const struct lease *l, struct event v, const char *run, const char *test, const char *text)
{
	const struct image *im = l->image;
	struct words w = { 0 };

	v.scope = im->scope;
	v.uid = l->uid;
	v.pid = (uint32_t)l->pid;
	v.generation = im->generation;
	v.of = l->event;
	set_word(&w, EVENT_TITLE, im->title);
	set_word(&w, EVENT_SESSION, im->instance ? im->instance->session->id : NULL);
	set_word(&w, EVENT_RUN, run);
	set_word(&w, EVENT_TEST, test);
	set_word(&w, EVENT_TEXT, text);
	events_add(im->model, &v, &w);
}

void event_changed(const struct client *c, const struct lease *l, const char *test, uint64_t pages)
{
	add_of_lease(l, (struct event){ .kind = EVENT_CHANGED, .pages = pages }, c->member ? c->member->run->id : NULL, test, NULL);
}

void event_used(const struct client *c, const struct lease *l, const char *test, const char *line)
{
	add_of_lease(l, (struct event){ .kind = EVENT_USED }, c->member ? c->member->run->id : NULL, test, line);
}

void event_detach(const struct lease *l)
{
	add_of_lease(l,
		     (struct event){ .kind = EVENT_DETACH,
				     .took = model_now(l->image->model) - l->since,
				     .resets = l->resets,
				     .dirty = l->dirty,
				     .pages = l->pages },
		     NULL, NULL, NULL);
}

void event_of_transfer(struct model *m, enum event_kind kind, const struct event_transfer *t)
{
	struct event v = { .kind = (uint16_t)kind, .uid = EVENT_FOR_ALL, .bytes = t->bytes, .took = t->took };
	struct words w = { 0 };

	set_word(&w, EVENT_TITLE, t->title);
	set_word(&w, EVENT_SESSION, t->session);
	set_word(&w, EVENT_TEXT, t->wrong);
	events_add(m, &v, &w);
}

void event_of_run(const struct run *r, enum event_kind kind)
{
	struct event v = { .kind = (uint16_t)kind, .uid = r->session->uid };
	struct words w = { 0 };

	set_word(&w, EVENT_SESSION, r->session->id);
	set_word(&w, EVENT_RUN, r->id);
	events_add(r->session->model, &v, &w);
}
