/* SPDX-License-Identifier: MIT */
#include "fixd/work/transfer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fd.h"
#include "fixd/model/events.h"
#include "fixd/model/instance.h"
#include "fixd/model/session.h"
#include "fixd/work/build_state.h"
#include "fixd/work/work.h"
#include "wire/socket.h"

#define PACKET_MAX 500
/* Somebody may write without end. */
#define PACKETS_PER_TURN 16

/* Each may have its image in memory once more. */
#define UPLOADS_AT_ONCE 4
/* One that has said nothing for so long keeps nobody waiting: it has been stopped. */
#define MOVES_WITHIN (60 * NSEC_PER_SEC)

static void transfer_free(struct transfer *t);

/* Its process has ended before it was told to go. */
static void transfer_is_lost(struct transfer *t)
{
	struct work *w = t->work;

	transfer_free(t);
	loop_defer(w->model->loop, &w->ended);
}

void transfers_let_go(struct work *w)
{
	size_t going = 0;

	link_for_each(l, &w->transfers) {
		const struct transfer *t = link_entry(l, struct transfer, link);

		going += t->up && !t->build && !t->waits && clock_now() - t->moved < MOVES_WITHIN;
	}
	link_for_each_safe(l, &w->transfers) {
		struct transfer *t = link_entry(l, struct transfer, link);

		if (!t->waits || going >= UPLOADS_AT_ONCE)
			continue;
		t->waits = false;
		t->moved = clock_now();
		if (send(t->fd, "y", 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1)
			going++;
		else
			transfer_is_lost(t);
	}
}

static void transfer_free(struct transfer *t)
{
	if (t->build && t->up)
		t->build->offer = NULL;
	else if (t->build)
		t->build->download = NULL;
	link_remove(&t->link);
	source_close(t->source);
	free(t->title);
	free(t->session);
	free(t->wrong);
	free(t);
}

static void tell_event(const struct transfer *t, bool over)
{
	static const enum event_kind kinds[2][2] = { { EVENT_DOWNLOAD, EVENT_DOWNLOADED }, { EVENT_UPLOAD, EVENT_UPLOADED } };
	const struct event_transfer e = {
		.title = t->title,
		.session = t->session,
		.bytes = t->size,
		.took = over ? clock_now() - t->started : 0,
		.wrong = over && !t->whole ? t->wrong ? t->wrong : "it was ended" : NULL,
	};

	event_of_transfer(t->work->model, kinds[t->up][over], &e);
}

static void transfer_end(struct transfer *t)
{
	struct work *w = t->work;
	struct transfer_figures *f = &w->transferred;
	struct build *waits = t->over ? t->build : NULL;
	void (*over)(struct build * b) = t->over;

	/* What was to go there and did not begin has failed, too. */
	if (t->begun || t->up) {
		*(t->up ? &f->uploads : &f->downloads) += t->whole;
		*(t->up ? &f->uploaded_bytes : &f->downloaded_bytes) += t->whole ? t->size : 0;
		f->failures += !t->whole;
		tell_event(t, true);
	}
	transfer_free(t);
	if (waits)
		over(waits);
	transfers_let_go(w);
	loop_defer(w->model->loop, &w->ended);
}

static void transfer_take(struct transfer *t, const char *packet)
{
	unsigned long long done, size;

	t->moved = clock_now();
	if (!strcmp(packet, "ok")) {
		t->whole = true;
	} else if (sscanf(packet, "%llu %llu", &done, &size) == 2) {
		t->done = done < INT64_MAX ? done : INT64_MAX;
		t->size = size < INT64_MAX ? size : INT64_MAX;
		if (!t->begun) {
			t->begun = true;
			tell_event(t, false);
		}
	} else {
		t->whole = false;
		free(t->wrong);
		t->wrong = xstrdup(packet);
	}
}

static void transfer_read(void *arg)
{
	struct transfer *t = arg;
	char packet[PACKET_MAX + 1];
	size_t none = 0;
	ssize_t n = 1;

	for (int i = 0;
	     i < PACKETS_PER_TURN && (n = socket_receive(source_fd(t->source), packet, PACKET_MAX, NULL, &none, MSG_DONTWAIT)) > 0; i++) {
		packet[n] = '\0';
		transfer_take(t, packet);
	}
	if (n > 0 || (n != -EAGAIN && is_passing((int)n)))
		source_again(t->source);
	else if (n != -EAGAIN)
		transfer_end(t);
}

static void transfer_begin(struct work *w, struct transfer *t)
{
	t->work = w;
	link_insert(&w->transfers, &t->link);
	t->source = loop_watch(w->model->loop, t->fd, transfer_read, t);
}

void transfer_new(struct build *b, int fd, bool up, void (*over)(struct build *b))
{
	struct transfer *t = xcalloc(1, sizeof *t);

	t->fd = fd;
	t->title = xstrdup(b->instance->title);
	t->session = xstrdup(b->instance->session->id);
	t->up = up;
	t->over = over;
	t->started = clock_now();
	transfer_begin(b->builds->work, t);
	t->build = b;
	if (up)
		b->offer = t;
	else
		b->download = t;
}

struct transfer *transfer_of(struct build *b)
{
	struct transfer *t = b->offer;

	if (t)
		t->build = NULL;
	b->offer = NULL;
	return t;
}

void transfer_decide(struct transfer *t, bool right)
{
	if (!t)
		return;
	loop_defer(t->work->model->loop, &t->work->ended);
	if (right) {
		t->waits = true;
		transfers_let_go(t->work);
	} else {
		transfer_free(t);
	}
}

void transfer_resume(struct work *w, struct transfer *t)
{
	link_init(&t->link);
	if (t->fd < 0 || !t->title || !t->session) {
		fd_close(t->fd);
		transfer_free(t);
		return;
	}
	t->up = true;
	t->moved = clock_now();
	transfer_begin(w, t);
}

bool transfers_go_up(const struct work *w)
{
	link_for_each(l, &w->transfers) {
		if (link_entry(l, struct transfer, link)->up)
			return true;
	}
	return false;
}

void transfers_go_alone(struct work *w)
{
	link_for_each(l, &w->transfers) {
		struct transfer *t = link_entry(l, struct transfer, link);

		if (t->waits && send(t->fd, "y", 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1)
			t->waits = false;
	}
}

void transfers_free(struct work *w)
{
	transfers_go_alone(w);
	while (!link_empty(&w->transfers))
		transfer_free(link_entry(w->transfers.next, struct transfer, link));
}
