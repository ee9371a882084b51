/* SPDX-License-Identifier: MIT */
#include "fixd/serve/inbox.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "fixd/model/user.h"
#include "fixd/serve/conn.h"
#include "fixd/serve/server.h"
#include "fixd/serve/task.h"

/* Of one connection; beyond it is not read. */
#define MESSAGES_MAX 32
#define BYTES_MAX ((size_t)64 << 10)

/* In one turn of the loop, and for one request before another one's turn. */
#define TURN_NS (200 * INT64_C(1000))
#define SLICE_NS (100 * INT64_C(1000))

struct message {
	struct link link; /* inbox::messages */
	size_t size;
	_Alignas(8) char data[];
};

#define PARKED_NS (10 * NSEC_PER_MSEC)

static void inbox_work(void *arg);
static void inbox_unpark(void *arg);

void inboxes_init(struct inboxes *all, struct server *server)
{
	deferred_init(&all->work, inbox_work, server);
	link_init(&all->lanes);
	link_init(&all->parked);
	timer_init(&all->again, inbox_unpark, server);
}

void inboxes_deinit(struct inboxes *all)
{
	timer_stop(&all->again);
}

void inbox_init(struct inbox *i)
{
	link_init(&i->in_lane);
	link_init(&i->messages);
}

bool inbox_is_empty(const struct inbox *i)
{
	return link_empty(&i->messages) && !i->task;
}

static bool inbox_is_full(const struct inbox *i)
{
	return i->n >= MESSAGES_MAX || i->bytes >= BYTES_MAX;
}

static struct lane *lane_of(struct user *u)
{
	if (!u->lane) {
		u->lane = xcalloc(1, sizeof *u->lane);
		link_init(&u->lane->link);
		link_init(&u->lane->conns);
	}
	return u->lane;
}

/* Its connection waits for a turn from now on, behind the others of its user. */
static void inbox_queue(struct conn *c)
{
	struct inboxes *all = &c->server->inboxes;
	struct lane *lane = lane_of(c->client.user);

	if (link_empty(&lane->conns)) {
		if (lane->spent < all->floor)
			lane->spent = all->floor;
		link_insert(&all->lanes, &lane->link);
	}
	link_insert(&lane->conns, &c->inbox.in_lane);
	loop_defer(c->server->model->loop, &all->work);
}

static void leave_queue(struct conn *c)
{
	struct lane *lane = lane_of(c->client.user);

	link_remove(&c->inbox.in_lane);
	if (link_empty(&lane->conns))
		link_remove(&lane->link);
}

void inbox_park(struct conn *c)
{
	struct inboxes *all = &c->server->inboxes;

	leave_queue(c);
	link_insert(&all->parked, &c->inbox.in_lane);
	if (!timer_is_running(&all->again))
		timer_start_in(c->server->model->loop, &all->again, PARKED_NS);
}

static void inbox_unpark(void *arg)
{
	struct server *server = arg;

	while (!link_empty(&server->inboxes.parked)) {
		struct conn *c = link_entry(server->inboxes.parked.next, struct conn, inbox.in_lane);

		link_remove(&c->inbox.in_lane);
		inbox_queue(c);
	}
}

static struct message *inbox_copy(const void *data, size_t size)
{
	struct message *m = xcalloc(1, sizeof *m + size);

	link_init(&m->link);
	m->size = size;
	memcpy(m->data, data, size);
	return m;
}

void inbox_add(struct conn *c, const void *data, size_t size)
{
	struct message *m = inbox_copy(data, size);
	struct inbox *i = &c->inbox;

	link_insert(&i->messages, &m->link);
	i->n++;
	i->bytes += size;
	if (link_empty(&i->in_lane) && c != c->server->inboxes.current)
		inbox_queue(c);
	if (inbox_is_full(i))
		source_pause(c->source);
}

static struct message *inbox_take_next(struct conn *c)
{
	struct inbox *i = &c->inbox;
	struct message *m = link_entry(i->messages.next, struct message, link);

	link_remove(&m->link);
	i->n--;
	i->bytes -= m->size;
	return m;
}

static void end_task(struct inbox *i)
{
	struct task *t = i->task;

	if (!t)
		return;
	i->task = NULL;
	free(t->message);
	t->free(t);
}

void inbox_clear(struct conn *c)
{
	if (c->server->inboxes.current == c)
		c->server->inboxes.current = NULL;
	while (!link_empty(&c->inbox.messages))
		free(inbox_take_next(c));
	end_task(&c->inbox);
	leave_queue(c);
}

void task_begin(struct conn *c, const struct wire_header *h, struct task *t)
{
	t->conn = c;
	t->request = *h;
	c->inbox.task = t;
}

/* Whatever it does, the connection may be gone afterwards: then inboxes::current is NULL. */
static void inbox_handle(struct conn *c)
{
	struct inboxes *all = &c->server->inboxes;
	struct message *m = inbox_take_next(c);

	all->dispatch(c, m->data, m->size);
	if (all->current && c->inbox.task)
		c->inbox.task->message = m;
	else
		free(m);
}

static void inbox_go_on(struct conn *c, int64_t until)
{
	struct inboxes *all = &c->server->inboxes;

	if (!c->inbox.task)
		inbox_handle(c);
	if (all->current && c->inbox.task && c->inbox.task->step(c->inbox.task, until) && all->current)
		end_task(&c->inbox);
}

/* One of its messages was handled: what is next? */
static void inbox_after(struct conn *c)
{
	if (!inbox_is_empty(&c->inbox)) {
		if (link_empty(&c->inbox.in_lane))
			inbox_queue(c);
	} else if (c->ended) {
		conn_drop(c, NULL);
		return;
	} else {
		leave_queue(c);
	}
	if (!c->ended && !inbox_is_full(&c->inbox))
		source_resume(c->source);
}

void inbox_hear(struct conn *c)
{
	struct inboxes *all = &c->server->inboxes;
	struct conn *outer = all->current;

	if (c == outer)
		return;
	all->current = c;
	while (all->current && !c->inbox.task && !link_empty(&c->inbox.messages)) {
		const struct message *m = link_entry(c->inbox.messages.next, struct message, link);

		if (!all->is_note(m->data, m->size))
			break;
		inbox_handle(c);
	}
	if (all->current)
		inbox_after(c);
	all->current = outer;
}

void inbox_each(const struct conn *c, void (*fn)(const void *data, size_t size, void *arg), void *arg)
{
	const struct task *t = c->inbox.task;

	if (t)
		fn(t->message->data, t->message->size, arg);
	link_for_each(l, &c->inbox.messages) {
		const struct message *m = link_entry(l, struct message, link);

		fn(m->data, m->size, arg);
	}
}

/* That of the user for whom the least was done. */
static struct lane *inbox_choose_lane(const struct inboxes *all)
{
	struct lane *best = NULL;

	link_for_each(l, &all->lanes) {
		struct lane *lane = link_entry(l, struct lane, link);

		if (!best || lane->spent < best->spent)
			best = lane;
	}
	return best;
}

void inbox_take(struct conn *c, const void *data, size_t size)
{
	struct inboxes *all = &c->server->inboxes;

	/* Somebody else is to have a turn before, or may be. */
	if (!link_empty(&all->lanes) || !loop_is_last(c->server->model->loop)) {
		inbox_add(c, data, size);
		return;
	}
	loop_begin_epoch(c->server->model->loop);
	all->current = c;
	all->dispatch(c, data, size);
	if (all->current && c->inbox.task) {
		c->inbox.task->message = inbox_copy(data, size);
		inbox_queue(c);
	}
	all->current = NULL;
}

/* One slice of one connection. Returns the time after it. */
static int64_t inbox_serve(struct inboxes *all, struct lane *lane, int64_t now)
{
	struct conn *c = link_entry(lane->conns.next, struct conn, inbox.in_lane);
	struct user *u = user_ref(c->client.user);
	int64_t end;

	all->floor = lane->spent;
	leave_queue(c);
	all->current = c;
	inbox_go_on(c, now + SLICE_NS);
	end = clock_now();
	lane->spent += end - now;
	if (all->current)
		inbox_after(c);
	all->current = NULL;
	user_unref(u);
	return end;
}

static void inbox_work(void *arg)
{
	struct server *server = arg;
	struct inboxes *all = &server->inboxes;
	int64_t now = loop_turn_began(server->model->loop), end = now + TURN_NS;
	struct lane *lane;

	/* One at least, however long it took to hear of them. */
	while ((lane = inbox_choose_lane(all))) {
		now = inbox_serve(all, lane, now);
		if (now >= end)
			break;
	}
	if (link_empty(&all->lanes))
		deferred_cancel(&all->work);
	else
		loop_defer(server->model->loop, &all->work);
}
