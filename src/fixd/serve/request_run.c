/* SPDX-License-Identifier: MIT */
/* The requests of the members of runs: join, define, release, closing, adopt. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/text.h"
#include "fixd/host/viewer.h"
#include "fixd/model/image.h"
#include "fixd/model/orphan.h"
#include "fixd/model/run.h"
#include "fixd/model/session.h"
#include "fixd/model/user.h"
#include "fixd/serve/conn.h"
#include "fixd/serve/request.h"
#include "fixd/serve/server.h"
#include "fixd/serve/tail.h"

/* One spelling for one directory: the client resolves its links. */
static bool member_is_root(const char *path)
{
	size_t n = strlen(path);

	return *path == '/' && !strstr(path, "//") && !strstr(path, "/./") && !strstr(path, "/../") && (n == 1 || path[n - 1] != '/');
}

bool handle_join(struct conn *c, const struct wire_header *h, const void *body, size_t size)
{
	const struct wire_join *q = body;
	struct tail t = { (const char *)(q + 1), (const char *)body + size };
	_cleanup_free_ char *root = tail_string(&t, q->root), *run = root ? tail_string(&t, q->run) : NULL;
	struct wire_joined joined = { 0 };

	if (!run || t.at != t.end)
		return false;
	if (!member_is_root(root)) {
		conn_reply_error(c, h, -EINVAL, "'%s' is no session: expected the absolute path of a directory", root);
		return true;
	}
	if (c->client.session) {
		conn_reply_error(c, h, -EISCONN, "this connection is in session %s already", c->client.session->root);
		return true;
	}
	c->client.session = session_get(c->server->model, root, c->client.uid);
	if (!c->client.session) {
		conn_reply_error(c, h, -EDQUOT, "user %u has %d sessions in use already, no more are allowed", (unsigned)c->client.uid,
				 USER_SESSIONS_MAX);
		return true;
	}
	if (session_wants_viewer(c->client.session))
		session_take_viewer(c->client.session, viewer_of_peer(source_fd(c->source)));
	c->client.session->n_conns++;
	if (*run)
		conn_join_run(c, run, q->flags & WIRE_JOIN_OBSERVER);
	joined.members = c->client.member ? (uint32_t)run_size(c->client.member->run) : 0;
	joined.orphans = (uint32_t)c->client.session->n_orphans;
	strcpy(joined.session, c->client.session->id);
	conn_reply(c, h, &joined, sizeof joined);
	return true;
}

static bool not_joined(struct conn *c, const struct wire_header *h, bool joined, const char *what)
{
	if (!joined)
		conn_reply_error(c, h, -ENOTCONN, "this connection is in no %s: join one first", what);
	return !joined;
}

bool handle_define(struct conn *c, const struct wire_header *h, const void *body, size_t size)
{
	const struct wire_define *q = body;
	struct tail t = { (const char *)(q + 1), (const char *)body + size };
	_cleanup_free_ char *name = tail_string(&t, q->name);
	_cleanup_text_ struct text problems = { 0 };
	char **settings = name ? tail_list(&t, q->settings) : NULL;
	bool valid = settings && t.at == t.end;

	if (valid && !not_joined(c, h, c->client.session, "session")) {
		int r = session_define(c->client.session, name, settings, &problems);

		if (r < 0)
			conn_reply_error(c, h, r, "%.*s", (int)problems.size - 1, problems.data);
		else
			conn_reply(c, h, NULL, 0);
	}
	list_free(settings);
	return valid;
}

bool handle_closing(struct conn *c, const struct wire_header *h, const void *body, size_t size)
{
	(void)h, (void)body, (void)size;
	if (c->client.member)
		run_closing(c->client.member);
	return true;
}

static void told_the_last(void *arg, int err)
{
	struct image *im = arg;

	if (err)
		run_last_is_lost(im);
	image_unref(im);
}

static void answer_release(struct release *w, enum released how)
{
	struct asked_release *a = container_of(w, struct asked_release, release);
	struct conn *c = conn_of(w->client);
	struct wire_released body = { .last = how == RELEASED_LAST };

	switch (how) {
	case RELEASED:
		conn_reply(c, &a->request, &body, sizeof body);
		break;
	case RELEASED_LAST:
		body.note = w->image->note_fd >= 0 ? (uint32_t)w->image->note_size : 0;
		conn_reply_told(c, &a->request, &body, sizeof body, w->image->note_fd, told_the_last, image_ref(w->image));
		break;
	case RELEASED_TIMED_OUT:
		conn_reply_error(c, &a->request, -ETIMEDOUT, "others could still use it");
		break;
	case RELEASED_TWICE:
		conn_reply_error(c, &a->request, -EALREADY, "this client waits for that already");
		break;
	case RELEASED_BY_END:
		break;
	}
	free(a);
}

void release_resume(struct conn *c, const struct wire_header *h, struct image *im, const struct wire_release *q)
{
	struct asked_release *a = xcalloc(1, sizeof *a);

	a->request = *h;
	a->release.answer = answer_release;
	run_release(c->client.member, im, &a->release, q->flags & WIRE_RELEASE_WAIT, q->timeout_ms);
}

bool handle_release(struct conn *c, const struct wire_header *h, const void *body, size_t size)
{
	const struct wire_release *q = body;
	struct lease *l;

	(void)size;
	if (not_joined(c, h, c->client.member, "run"))
		return true;
	/* Others may have said before that they do not need it any more. */
	link_for_each_safe(m, &c->client.member->run->members)
		inbox_hear(conn_of(link_entry(m, struct member, link)->client));
	l = lease_find(&c->client.leases, q->serial);
	if (!l)
		conn_reply_error(c, h, -EINVAL, "an image is released that this client does not hold");
	else
		release_resume(c, h, l->image, q);
	return true;
}

static void adopted(void *arg, int err)
{
	struct orphan *o = arg;

	if (err && o->user->model->session)
		orphan_return(o);
	else
		orphan_free(o);
}

bool handle_adopt(struct conn *c, const struct wire_header *h, const void *body, size_t size)
{
	const struct wire_adopt *q = body;
	struct tail t = { (const char *)(q + 1), (const char *)body + size };
	_cleanup_free_ char *pattern = tail_string(&t, q->pattern);
	struct {
		struct wire_orphan head;
		char title[WIRE_MESSAGE_MAX - 512];
	} reply = { 0 };
	struct orphan *o;

	if (!pattern || t.at != t.end)
		return false;
	if (not_joined(c, h, c->client.session, "session"))
		return true;
	link_for_each_safe(l, &c->server->conns) {
		struct conn *other = link_entry(l, struct conn, link);

		if (other->client.session == c->client.session)
			inbox_hear(other);
	}
	o = session_adopt(c->client.session, *pattern ? pattern : "*", c->client.member ? c->client.member->run : NULL);
	if (!o) {
		conn_reply(c, h, &reply, sizeof reply.head);
		return true;
	}
	/* Until the client has heard of it, it is still an orphan. */
	reply.head.note = (uint32_t)o->note_size;
	reply.head.title = (uint32_t)strnlen(o->title, sizeof reply.title);
	memcpy(reply.title, o->title, reply.head.title);
	conn_reply_told(c, h, &reply, sizeof reply.head + reply.head.title, o->note_fd, adopted, o);
	return true;
}
