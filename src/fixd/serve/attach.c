/* SPDX-License-Identifier: MIT */
/* The requests attach and detach. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/nearest.h"
#include "base/text.h"
#include "config/config.h"
#include "fixd/host/watch.h"
#include "fixd/loop/loop.h"
#include "fixd/model/events.h"
#include "fixd/model/image.h"
#include "fixd/model/instance.h"
#include "fixd/model/pool.h"
#include "fixd/model/run.h"
#include "fixd/model/session.h"
#include "fixd/model/user.h"
#include "fixd/model/visibility.h"
#include "fixd/serve/conn.h"
#include "fixd/serve/request.h"
#include "fixd/serve/server.h"
#include "fixd/serve/tail.h"
#include "fixd/work/client_build.h"
#include "fixd/work/recovery.h"
#include "fixd/work/survivor.h"
#include "fixd/work/trees.h"
#include "fixd/work/wire_image.h"
#include "image/digest.h"

/* Of one connection of another user: each takes memory, and time when it ends. */
#define LEASES_MAX 16384u

/* A request that waits for an instance. */
struct pending {
	struct waiter waiter;
	struct unanswered unanswered;
	struct conn *conn;
	struct wire_header header;
	uint32_t flags;
	struct timer limit;
	const char *test; /* what the client is at; behind the struct */
	size_t test_size;
	struct image *depends[]; /* references */
};

static void pending_free(struct pending *p)
{
	timer_stop(&p->limit);
	for (size_t k = 0; k < p->waiter.n_depends; k++)
		image_unref(p->depends[k]);
	conn_remove_unanswered(&p->unanswered);
	free(p);
}

static void attach_forget(struct unanswered *u)
{
	struct pending *p = container_of(u, struct pending, unanswered);

	waiter_cancel(&p->waiter);
	pending_free(p);
}

/* NULL: what is at that place of the connection's list is another kind of request. */
static const struct pending *pending_at(const struct link *l)
{
	const struct unanswered *u = link_entry(l, struct unanswered, link);

	return u->forget == attach_forget ? container_of(u, struct pending, unanswered) : NULL;
}

static bool is_of_run(const struct image *im, const struct conn *c)
{
	return im->run && c->client.member && !strcmp(im->run, c->client.member->run->id);
}

static void reply_attached(struct pending *p, struct image *im)
{
	struct {
		struct wire_attached head;
		struct wire_image images[WIRE_FDS_MAX];
		char path[4096];
	} body;
	struct image *all[WIRE_FDS_MAX];
	size_t path = im->tree ? strlen(im->tree) : 0, size;
	int n = (p->flags & WIRE_ATTACH_WARM) ? 0 : image_closure(im, all, WIRE_FDS_MAX);

	if (n < 0) {
		conn_reply_error(p->conn, &p->header, n, "it points into more than %d images", WIRE_FDS_MAX - 1);
		return;
	}
	if (n && p->conn->client.user->limited && p->conn->client.n_leases >= LEASES_MAX) {
		conn_reply_error(p->conn, &p->header, -EDQUOT,
				 "this connection has attached %u times already; expected some to be detached before", LEASES_MAX);
		return;
	}
	body.head = (struct wire_attached){ .flags = (p->waiter.built ? WIRE_ATTACHED_BUILT : 0) |
						     (is_of_run(im, p->conn) ? WIRE_ATTACHED_OF_RUN : 0),
					    .n_images = (uint16_t)n,
					    .path = (uint16_t)path };
	for (int i = 0; i < n; i++)
		body.images[i] = wire_image_of(all[i]);
	size = sizeof body.head + (size_t)n * sizeof *body.images;
	memcpy((char *)&body + size, im->tree ? im->tree : "", path);
	p->conn->client.n_leases += n > 0;
	if (n)
		event_attach(&p->conn->client, lease_new(im, &p->conn->client.leases, p->conn->client.pid), p->waiter.built,
			     clock_now() - p->waiter.asked, p->test, p->test_size);
	conn_reply_images(p->conn, &p->header, &body, size + path, all, (size_t)n);
}

static void answer_attach(struct waiter *w, enum outcome outcome)
{
	struct pending *p = container_of(w, struct pending, waiter);
	struct instance *i = w->instance;
	struct server *server = p->conn->server;

	if (outcome == OUTCOME_READY) {
		struct image *im = i->current;

		if (!(p->flags & WIRE_ATTACH_WARM)) {
			w->built ? server->model->misses++ : server->model->hits++;
			image_used(im);
			if (p->conn->client.member)
				run_used(p->conn->client.member->run, im, w->built);
		}
		reply_attached(p, im);
	} else {
		conn_reply_error(p->conn, &p->header, -EIO, "fixture '%s' cannot be built: %s", i->title, i->error);
	}
	pending_free(p);
}

static bool attach_look(struct waiter *w)
{
	struct conn *c = container_of(w, struct pending, waiter)->conn;

	return offer_look(w->instance, &c->client, source_fd(c->source));
}

static char *offer_build(struct waiter *w)
{
	struct pending *p = container_of(w, struct pending, waiter);
	struct instance *i = w->instance;
	struct {
		struct wire_attached head;
		struct wire_offer offer;
	} body = {
		.head.flags = WIRE_ATTACHED_OFFER,
		.offer.limit = offer_limit(i),
		.offer.timeout_ms = (uint32_t)(i->fixture->policy.timeout / NSEC_PER_MSEC),
		.offer.huge = (uint32_t)i->fixture->huge_pages,
	};
	int client_end = -1;
	char *wrong = offer_new(i, &p->conn->client, p->depends, w->n_depends, p->test, p->test_size, &client_end);

	if (wrong)
		return wrong;
	p->conn->server->model->misses++;
	conn_reply_fd(p->conn, &p->header, &body, sizeof body, client_end, true);
	pending_free(p);
	return NULL;
}

static void attach_give_up(void *arg)
{
	struct pending *p = arg;
	struct instance *i = p->waiter.instance;
	const struct image *im = i->last;

	if (i->pool)
		conn_reply_error(p->conn, &p->header, -ETIMEDOUT,
				 "fixture '%s' was not ready in time: all of its %llu clones were held or being started", i->title,
				 (unsigned long long)i->fixture->clones);
	else if (i->fixture->exclusive && im && im->n_leases)
		conn_reply_error(p->conn, &p->header, -ETIMEDOUT, "fixture '%s' is exclusive, and was held by process %d all the time",
				 i->title, (int)link_entry(im->leases.next, struct lease, in_image)->pid);
	else if ((im && im->ending) || recovery_blocks(p->conn->server->work, i->fixture->name))
		conn_reply_error(p->conn, &p->header, -ETIMEDOUT,
				 "fixture '%s' was not ready in time: what was there before is still being "
				 "torn down",
				 i->title);
	else
		conn_reply_error(p->conn, &p->header, -ETIMEDOUT, "fixture '%s' was not ready in time; it is still %s", i->title,
				 instance_state_name(i));
	waiter_cancel(&p->waiter);
	pending_free(p);
}

/* A session that the client has not joined, and of whose fixtures one is called so; NULL: there is none that it may see. */
static const struct session *session_with(const struct conn *c, const char *name)
{
	link_for_each(l, &c->server->model->sessions) {
		const struct session *s = link_entry(l, struct session, link);

		if (!c->client.session && see_session(&c->client, s) && session_fixture(s, name))
			return s;
	}
	return NULL;
}

static char *no_fixture(const struct conn *c, const char *name)
{
	const struct config *config = c->server->model->config;
	_cleanup_free_ char *question = config_question(config, name);
	const struct session *s = session_with(c, name);

	if (s)
		return xasprintf("there is no fixture '%s' in %s, but in the session of %s: fixctl --session %s, or fixd_join()", name,
				 config->file, s->root, s->root);
	return xasprintf("there is no fixture '%s' in %s%s", name, config->file, question);
}

static char *no_param(const struct fixture *f, const char *param)
{
	_cleanup_text_ struct text all = { 0 };
	_cleanup_free_ char *question = NULL;

	text_puts(&all, "");
	for (size_t k = 0; f->params && f->params[k]; k++)
		text_printf(&all, "%s,", f->params[k]);
	question = nearest_question(param, all.data);
	return xasprintf("fixture '%s' has no param '%s'%s", f->name, param, question);
}

/* name or name[param] -> definition, and whose session it is in. NULL: *sentence says what is wrong. */
static const struct fixture *find_fixture(struct conn *c, char *name, char **param, struct session **session, char **sentence)
{
	struct server *server = c->server;
	char *bracket = strchr(name, '[');
	const struct fixture *f;

	*param = NULL;
	*session = c->client.session;
	if (bracket && name[strlen(name) - 1] == ']') {
		*bracket = '\0';
		*param = bracket + 1;
		(*param)[strlen(*param) - 1] = '\0';
	}
	f = c->client.session ? session_fixture(c->client.session, name) : NULL;
	if (f)
		return f;
	f = config_find(server->model->config, name);
	if (!f) {
		*sentence = no_fixture(c, name);
	} else if (*param && !list_has(f->params, *param)) {
		*sentence = no_param(f, *param);
	} else if (!*param && f->params) {
		*sentence = xasprintf("fixture '%s' has params; ask for one, like '%s[%s]'", name, name, f->params[0]);
	} else {
		/* What a client builds is for its own user. */
		*session = f->source == SOURCE_CLIENT ? session_get(server->model, server->model->config->root, c->client.uid)
						      : server->model->session;
		if (*session)
			return f;
		*sentence = xasprintf("user %u has too many sessions", (unsigned)c->client.uid);
	}
	return NULL;
}

/* So many requests are looked at; who asks for more at once finds out by the time-out. */
#define DEADLOCK_LOOKS 1000

/* Would `c` wait for itself: is it the builder, or waits the builder for something that `c` builds? */
static bool would_wait_for_itself(const struct conn *c, const struct instance *i, unsigned *looks)
{
	struct client *builder = offer_builder(i);

	if (!builder || builder == &c->client)
		return builder != NULL;
	link_for_each(l, &conn_of(builder)->unanswered) {
		const struct pending *p = pending_at(l);

		if (*looks == 0)
			return false;
		--*looks;
		if (p && would_wait_for_itself(c, p->waiter.instance, looks))
			return true;
	}
	return false;
}

/* The images the client would build from: it must hold them. */
static bool take_depends(struct pending *p, const uint64_t *serials, size_t n)
{
	for (size_t k = 0; k < n; k++) {
		const struct lease *l = lease_find(&p->conn->client.leases, serials[k]);

		if (!l)
			return false;
		p->depends[k] = image_ref(l->image);
		p->waiter.n_depends++;
	}
	return true;
}

/* `key` has a->key bytes. */
static void attach_want(struct conn *c, const struct wire_header *h, const struct wire_attach *a, const char *key, const uint64_t *depends,
			struct instance *i)
{
	const char *test = c->client.test ? c->client.test : key;
	size_t test_size = c->client.test ? strlen(c->client.test) : a->key;
	struct pending *p = xcalloc(1, sizeof *p + a->depends * sizeof *p->depends + test_size);
	int64_t now = clock_now();
	unsigned looks = DEADLOCK_LOOKS;

	p->conn = c;
	p->header = *h;
	p->flags = a->flags;
	p->test = memcpy(p->depends + a->depends, test, test_size);
	p->test_size = test_size;
	p->waiter.asked = now;
	p->waiter.answer = answer_attach;
	p->waiter.user = c->client.user;
	p->waiter.look = attach_look;
	p->waiter.offer = offer_build;
	p->waiter.depends = p->depends;
	p->waiter.can_build = a->flags & WIRE_ATTACH_BUILD;
	p->waiter.holds = !(a->flags & WIRE_ATTACH_WARM);
	conn_add_unanswered(c, &p->unanswered, attach_forget);
	timer_init(&p->limit, attach_give_up, p);
	if (!take_depends(p, depends, a->depends)) {
		conn_reply_error(c, h, -EINVAL, "fixture '%s' is to be built from an image that this client does not hold",
				 i->fixture->name);
		pending_free(p);
		return;
	}
	timer_start(c->server->model->loop, &p->limit, now + a->timeout_ms * NSEC_PER_MSEC);
	if (i->offer && would_wait_for_itself(c, i, &looks)) {
		conn_reply_error(c, h, -EDEADLK,
				 "fixture '%s' cannot be waited for: it is being built, and its builder waits for "
				 "what this client builds",
				 i->fixture->name);
		pending_free(p);
		return;
	}
	if (p->waiter.holds && !link_empty(&c->server->work->survivors))
		survivor_returns(c->server->work, c->client.pid, i->current);
	waiter_begin(i, &p->waiter);
}

void attach_resume(struct conn *c, const struct wire_header *h, const struct wire_attach *a, const uint64_t *depends, struct instance *i)
{
	/* A daemon before this one had it wait for one clone. */
	attach_want(c, h, a, "", depends, i->clone_of ? i->clone_of->front : i);
}

void attach_each(const struct conn *c,
		 void (*fn)(const struct wire_header *h, uint32_t flags, const struct instance *i, struct image *const *depends,
			    size_t n_depends, int64_t deadline, void *arg),
		 void *arg)
{
	link_for_each(l, &c->unanswered) {
		const struct pending *p = pending_at(l);

		if (p)
			fn(&p->header, p->flags, p->waiter.instance, p->depends, p->waiter.n_depends, p->limit.deadline, arg);
	}
}

/*
 * A suite asks for the same few instances again and again: what the bytes of a request meant last time, for as long as no
 * instance has gone.
 */
struct recent {
	uint64_t changes; /* session::changes */
	struct instance *instance;
	size_t size;
	char bytes[128];
};

#define RECENTS 256

static struct recent *recent_slot(const struct session *s, const void *bytes, size_t size)
{
	return &s->recents[digest_bytes(bytes, size).low % RECENTS];
}

static struct instance *recent_find(const struct session *s, const void *bytes, size_t size)
{
	const struct recent *r = s->recents ? recent_slot(s, bytes, size) : NULL;

	return r && r->changes == s->changes && r->size == size && !memcmp(r->bytes, bytes, size) ? r->instance : NULL;
}

static void recent_keep(struct session *s, const void *bytes, size_t size, struct instance *i)
{
	struct recent *r;

	if (size > sizeof r->bytes)
		return;
	if (!s->recents)
		s->recents = xcalloc(RECENTS, sizeof *s->recents);
	r = recent_slot(s, bytes, size);
	*r = (struct recent){ .changes = s->changes, .instance = i, .size = size };
	memcpy(r->bytes, bytes, size);
}

static void refuse_instance(struct conn *c, const struct wire_header *h, const struct fixture *f, int err)
{
	_cleanup_text_ struct text names = { 0 };

	switch (err) {
	case -ENOKEY:
		for (size_t k = 0; f->all_env[k]; k++)
			text_printf(&names, "%s\n", f->all_env[k]);
		conn_reply_error(c, h, err, "%s", names.data);
		break;
	case -ENOTCONN:
		conn_reply_error(c, h, err, "fixture '%s' lives no longer than a run: join one first", f->name);
		break;
	default:
		conn_reply_error(c, h, err, "there are %u instances already, all of them in use", SESSION_INSTANCES_MAX);
	}
}

/* The instance a request names. NULL: it was answered with why not. */
static struct instance *attach_target(struct conn *c, const struct wire_header *h, char *name, const char *node, char *const *env,
				      bool only_look)
{
	_cleanup_free_ char *sentence = NULL;
	struct instance_lookup place = { .node = node, .env = env, .run = c->client.member ? c->client.member->run : NULL };
	struct session *s;
	char *param;
	const struct fixture *f = find_fixture(c, name, &param, &s, &sentence);
	struct instance *i;
	int r;

	if (!f) {
		conn_reply_error(c, h, -ENOENT, "%s", sentence);
		return NULL;
	}
	place.param = param;
	if (f->source == SOURCE_CLIENT && only_look) {
		i = session_peek(s, f, &place);
		if (!i)
			conn_reply_error(c, h, -EIO, "fixture '%s' cannot be built: " NOBODY_BUILDS, name);
		return i;
	}
	session_make_room(s);
	r = session_instance(s, f, &place, &i);
	if (r == 0)
		return i;
	refuse_instance(c, h, f, r);
	return NULL;
}

bool handle_attach(struct conn *c, const struct wire_header *h, const void *body, size_t size)
{
	const struct wire_attach *a = body;
	const void *identity = &a->name; /* the lengths and strings: all that tells one instance from another */
	size_t identity_size = (size_t)((const char *)body + size - (const char *)identity);
	/* What names mean depends on the session that was joined; what clients build, on the user; and serials on the client. */
	struct session *s = c->client.session || a->depends ? NULL : c->server->model->session;
	uint64_t depends[WIRE_DEPENDS_MAX] = { 0 };
	struct instance *i;

	/* Every edit that was complete when the request was sent has been heard after this. */
	watcher_drain(c->server->work->watcher);
	i = s ? recent_find(s, identity, identity_size) : NULL;
	if (!i) {
		struct tail t = { (const char *)(a + 1), (const char *)body + size };
		_cleanup_free_ char *name = tail_string(&t, a->name), *node = name ? tail_string(&t, a->key) : NULL;
		char **env = node ? tail_list(&t, a->env) : NULL;
		bool valid = env && *name && a->depends <= WIRE_DEPENDS_MAX && tail_bytes(&t, depends, a->depends * 8u) && t.at == t.end &&
			     (a->depends == 0 || (a->flags & WIRE_ATTACH_BUILD));

		if (valid)
			i = attach_target(c, h, name, node, env, a->flags & WIRE_ATTACH_LOOK);
		list_free(env);
		if (!i)
			return valid;
		if (s && i->fixture->source != SOURCE_CLIENT)
			recent_keep(s, identity, identity_size, i);
	}
	attach_want(c, h, a, (const char *)(a + 1) + a->name, depends, i);
	return true;
}

bool handle_test(struct conn *c, const struct wire_header *h, const void *body, size_t size)
{
	const struct wire_test *q = body;
	struct tail t = { (const char *)(q + 1), (const char *)body + size };
	_cleanup_free_ char *test = tail_string(&t, q->test);

	(void)h;
	if (!test || t.at != t.end)
		return false;
	free(c->client.test);
	c->client.test = *test ? xstrdup(test) : NULL;
	return true;
}

/* Of a forked child the message has it. NULL: none runs. */
static const char *test_of(const struct conn *c, const char *told)
{
	return *told ? told : c->client.test;
}

bool handle_changed(struct conn *c, const struct wire_header *h, const void *body, size_t size)
{
	const struct wire_changed *q = body;
	const struct lease *l = lease_find(&c->client.leases, q->serial);
	struct tail t = { (const char *)(q + 1), (const char *)body + size };
	_cleanup_free_ char *test = tail_string(&t, q->test);

	(void)h;
	if (!test || t.at != t.end)
		return false;
	/* It may not have come over a restart. */
	if (l)
		event_changed(&c->client, l, test_of(c, test), q->pages);
	return true;
}

bool handle_used(struct conn *c, const struct wire_header *h, const void *body, size_t size)
{
	const struct wire_used *q = body;
	const struct lease *l = lease_find(&c->client.leases, q->serial);
	struct tail t = { (const char *)(q + 1), (const char *)body + size };
	_cleanup_free_ char *line = tail_string(&t, q->line), *test = tail_string(&t, q->test);

	(void)h;
	if (!line || !test || t.at != t.end)
		return false;
	if (l && test_of(c, test))
		event_used(&c->client, l, test_of(c, test), line);
	return true;
}

bool handle_detach(struct conn *c, const struct wire_header *h, const void *body, size_t size)
{
	const struct wire_detach *detach = body;
	struct lease *l = lease_find(&c->client.leases, detach->serial);

	(void)h, (void)size;
	if (!l)
		return false;
	l->pages = detach->pages;
	l->resets = detach->resets;
	l->dirty = detach->dirty;
	lease_free(l);
	c->client.n_leases--;
	if (c->client.member)
		run_settle(c->client.member->run);
	return true;
}
