/* SPDX-License-Identifier: MIT */
/* The request for objects as they are right at other places. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "fixd/model/image.h"
#include "fixd/serve/conn.h"
#include "fixd/serve/request.h"
#include "fixd/serve/server.h"
#include "fixd/serve/tail.h"
#include "fixd/work/relocation.h"
#include "fixd/work/work.h"

#define PAGE 4096
#define ADDRESS_MAX (UINT64_C(1) << 47)

struct asked_relocation {
	struct unanswered unanswered;
	struct wire_header request;
	struct relocation_waiter waiter;
};

static void asked_free(struct asked_relocation *a)
{
	conn_remove_unanswered(&a->unanswered);
	relocation_forget(&a->waiter);
	free(a);
}

static void asked_forget(struct unanswered *u)
{
	asked_free(container_of(u, struct asked_relocation, unanswered));
}

static void asked_answer(struct relocation_waiter *w, int fd)
{
	struct asked_relocation *a = container_of(w, struct asked_relocation, waiter);
	struct conn *c = a->unanswered.conn;
	int copy = fd < 0 ? fd : fcntl(fd, F_DUPFD_CLOEXEC, 0);

	if (copy >= 0)
		conn_reply_fd(c, &a->request, NULL, 0, copy, true);
	else
		conn_reply_error(c, &a->request, fd < 0 ? fd : -errno, "there is no room for another copy of these objects");
	asked_free(a);
}

/* What the client holds, or what that points into; NULL: it does not. */
static struct image *find_held(const struct conn *c, uint64_t serial)
{
	struct image *all[WIRE_FDS_MAX];

	link_for_each(l, &c->client.leases) {
		int n = image_closure(link_entry(l, struct lease, in_client)->image, all, ELEMENTSOF(all));

		for (int k = 0; k < n; k++) {
			if (all[k]->serial == serial)
				return all[k];
		}
	}
	return NULL;
}

/* What lies there must be the image, or what it points into. */
static bool take_move(struct image *const *all, int n, const struct wire_move *from, struct move *out)
{
	for (int k = 0; k < n; k++) {
		if (!all[k]->size || all[k]->address != from->address)
			continue;
		*out = (struct move){ from->address, all[k]->size, from->to };
		return from->to % PAGE == 0 && from->to && from->to < ADDRESS_MAX;
	}
	return false;
}

bool handle_relocate(struct conn *c, const struct wire_header *h, const void *body, size_t size)
{
	const struct wire_relocate *q = body;
	struct tail t = { (const char *)(q + 1), (const char *)body + size };
	struct image *im = find_held(c, q->serial), *all[WIRE_FDS_MAX];
	int n = im ? image_closure(im, all, ELEMENTSOF(all)) : 0;
	struct move moves[WIRE_FDS_MAX];
	struct asked_relocation *a;
	struct wire_move from;

	for (size_t k = 0; k < q->moves; k++) {
		if (!tail_bytes(&t, &from, sizeof from))
			return false;
		if (k >= ELEMENTSOF(moves) || !take_move(all, n, &from, &moves[k])) {
			conn_reply_error(c, h, -EINVAL, "that is no image that this client holds, nor one that it points into");
			return true;
		}
	}
	if (t.at != t.end || !q->moves)
		return false;
	if (im->kind != WIRE_IMAGE_OBJECTS || im->at_home_only) {
		conn_reply_error(c, h, -EINVAL, "these are no objects that may be relocated");
		return true;
	}
	a = xcalloc(1, sizeof *a);
	a->request = *h;
	a->waiter.done = asked_answer;
	conn_add_unanswered(c, &a->unanswered, asked_forget);
	relocation_ask(c->server->work, im, moves, q->moves, &a->waiter);
	return true;
}
