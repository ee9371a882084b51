/* SPDX-License-Identifier: MIT */
#include "fixd/request.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "config/config.h"
#include "fixd/board.h"
#include "fixd/conn.h"
#include "fixd/daemon.h"
#include "fixd/image.h"
#include "fixd/instance.h"
#include "fixd/loop.h"
#include "fixd/report.h"
#include "fixd/session.h"
#include "fixd/watch.h"
#include "image/digest.h"

/* Unanswered requests of one connection. */
#define PENDING_MAX 256

/* A request that waits for an instance. */
struct pending {
	struct waiter waiter;
	struct link in_conn; /* conn::pending */
	struct conn *conn;
	struct wire_header header;
	uint32_t flags;
	struct timer limit;
};

static void pending_free(struct pending *p)
{
	timer_stop(&p->limit);
	link_remove(&p->in_conn);
	p->conn->n_pending--;
	free(p);
}

void request_forget_all(struct conn *c)
{
	link_for_each_safe(l, &c->pending) {
		struct pending *p = link_entry(l, struct pending, in_conn);

		instance_forget(&p->waiter);
		pending_free(p);
	}
}

static void describe(const struct image *im, struct wire_image *out)
{
	*out = (struct wire_image){
		.serial = im->serial,
		.address = im->address,
		.size = im->size,
		.root = im->root,
		.digest_low = im->digest.low,
		.digest_high = im->digest.high,
		.board_value = im->board_value,
		.board_slot = im->board_slot,
		.generation = im->generation,
		.kind = im->kind,
	};
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
	body.head = (struct wire_attached){
		.flags = p->waiter.built ? WIRE_ATTACHED_BUILT : 0, .n_images = (uint16_t)n, .path = (uint16_t)path
	};
	for (int i = 0; i < n; i++)
		describe(all[i], &body.images[i]);
	size = sizeof body.head + (size_t)n * sizeof *body.images;
	memcpy((char *)&body + size, im->tree ? im->tree : "", path);
	conn_reply_images(p->conn, &p->header, &body, size + path, all, (size_t)n);
	if (n)
		lease_new(im, &p->conn->leases, p->conn->pid);
}

static void answer_attach(struct waiter *w, enum outcome outcome)
{
	struct pending *p = container_of(w, struct pending, waiter);
	struct instance *i = w->instance;
	struct daemon *d = p->conn->daemon;

	if (outcome == OUTCOME_READY) {
		struct image *im = i->current;

		if (!(p->flags & WIRE_ATTACH_WARM)) {
			w->built ? d->misses++ : d->hits++;
			im->attaches++;
			im->used = clock_now();
			im->used_real = clock_real();
		}
		reply_attached(p, im);
	} else {
		conn_reply_error(p->conn, &p->header, -EIO, "fixture '%s' cannot be built: %s", i->title, i->error);
	}
	pending_free(p);
}

static void give_up(void *arg)
{
	struct pending *p = arg;
	struct instance *i = p->waiter.instance;

	conn_reply_error(p->conn, &p->header, -ETIMEDOUT, "fixture '%s' was not ready in time; it is still %s", i->title,
			 instance_state_name(i));
	instance_forget(&p->waiter);
	pending_free(p);
}

/* The strings behind a fixed part, in the order of their lengths. */
struct tail {
	const char *at, *end;
};

static char *take(struct tail *t, size_t n)
{
	char *s = (size_t)(t->end - t->at) < n || memchr(t->at, 0, n) ? NULL : xstrndup(t->at, n);

	t->at += s ? n : 0;
	return s;
}

/* NAME=value, separated by NUL, as a list. */
static char **take_env(struct tail *t, size_t n)
{
	char **list = xcalloc(1, sizeof *list);
	const char *end = t->at + n;
	size_t count = 0;

	if ((size_t)(t->end - t->at) < n) {
		free(list);
		return NULL;
	}
	while (t->at < end) {
		size_t length = strnlen(t->at, (size_t)(end - t->at));

		list = xrealloc(list, (count + 2) * sizeof *list);
		list[count++] = xstrndup(t->at, length);
		list[count] = NULL;
		t->at += length + 1;
	}
	t->at = end;
	return list;
}

/* name or name[param] -> definition. NULL: *sentence says what is wrong. */
static const struct fixture *find_fixture(const struct config *c, char *name, char **param, char **sentence)
{
	char *bracket = strchr(name, '[');
	const struct fixture *f;

	*param = NULL;
	if (bracket && name[strlen(name) - 1] == ']') {
		*bracket = '\0';
		*param = bracket + 1;
		(*param)[strlen(*param) - 1] = '\0';
	}
	f = config_find(c, name);
	if (!f) {
		*sentence = xasprintf("there is no fixture '%s' in %s", name, c->file);
	} else if (*param && !list_has(f->params, *param)) {
		*sentence = xasprintf("fixture '%s' has no param '%s'", name, *param);
	} else if (!*param && f->params) {
		*sentence = xasprintf("fixture '%s' has params; ask for one, like '%s[%s]'", name, name, f->params[0]);
	} else {
		return f;
	}
	return NULL;
}

static void want(struct conn *c, const struct wire_header *h, const struct wire_attach *a, struct instance *i)
{
	struct pending *p = xcalloc(1, sizeof *p);
	int64_t now = clock_now();

	p->conn = c;
	p->header = *h;
	p->flags = a->flags;
	p->waiter.asked = now;
	p->waiter.answer = answer_attach;
	link_insert(&c->pending, &p->in_conn);
	c->n_pending++;
	timer_init(&p->limit, give_up, p);
	timer_start(c->daemon->loop, &p->limit, now + a->timeout_ms * NSEC_PER_MSEC);
	instance_want(i, &p->waiter);
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

static struct recent recents[256];

static struct recent *recent_slot(const void *bytes, size_t size)
{
	return &recents[digest_bytes(bytes, size).low % ELEMENTSOF(recents)];
}

static struct instance *recent_find(const struct session *s, const void *bytes, size_t size)
{
	const struct recent *r = recent_slot(bytes, size);

	return r->changes == s->changes && r->size == size && !memcmp(r->bytes, bytes, size) ? r->instance : NULL;
}

static void recent_keep(const struct session *s, const void *bytes, size_t size, struct instance *i)
{
	struct recent *r = recent_slot(bytes, size);

	if (size > sizeof r->bytes)
		return;
	*r = (struct recent){ .changes = s->changes, .instance = i, .size = size };
	memcpy(r->bytes, bytes, size);
}

/* The instance a request names. NULL: it was answered with why not. */
static struct instance *attach_target(struct conn *c, const struct wire_header *h, char *name, const char *node, char *const *env)
{
	_cleanup_free_ char *sentence = NULL;
	char *param;
	const struct fixture *f = find_fixture(c->daemon->config, name, &param, &sentence);
	struct instance *i;
	int r;

	if (!f) {
		conn_reply_error(c, h, -ENOENT, "%s", sentence);
		return NULL;
	}
	session_make_room(c->daemon->session);
	r = session_instance(c->daemon->session, f, param, node, env, &i);
	if (r == 0)
		return i;
	if (r == -ENOKEY) {
		_cleanup_text_ struct text names = { 0 };

		for (size_t k = 0; f->all_env[k]; k++)
			text_printf(&names, "%s\n", f->all_env[k]);
		conn_reply_error(c, h, r, "%s", names.data);
	} else {
		conn_reply_error(c, h, r, "there are %u instances already, all of them in use", SESSION_INSTANCES_MAX);
	}
	return NULL;
}

static bool handle_attach(struct conn *c, const struct wire_header *h, const void *body, size_t size)
{
	const struct wire_attach *a = body;
	const void *identity = &a->name; /* the lengths and strings: all that tells one instance from another */
	size_t identity_size = (size_t)((const char *)body + size - (const char *)identity);
	struct session *s = c->daemon->session;
	struct instance *i;

	/* Every edit that was complete when the request was sent has been heard after this. */
	watcher_drain(c->daemon->watcher);
	i = recent_find(s, identity, identity_size);
	if (!i) {
		struct tail t = { (const char *)(a + 1), (const char *)body + size };
		_cleanup_free_ char *name = take(&t, a->name), *node = name ? take(&t, a->key) : NULL;
		char **env = node ? take_env(&t, a->env) : NULL;
		bool valid = env && t.at == t.end && *name;

		if (valid)
			i = attach_target(c, h, name, node, env);
		list_free(env);
		if (!i)
			return valid;
		recent_keep(s, identity, identity_size, i);
	}
	want(c, h, a, i);
	return true;
}

static bool handle_hello(struct conn *c, const struct wire_header *h, const void *body, size_t size)
{
	const struct wire_hello *hello = body;
	struct wire_welcome welcome = {
		.version = WIRE_VERSION,
		.message_max = WIRE_MESSAGE_MAX,
		.board_slots = WIRE_BOARD_SLOTS,
		.pid = (uint32_t)getpid(),
	};

	(void)size;
	if (hello->version != WIRE_VERSION) {
		conn_reply_error(c, h, -EPROTONOSUPPORT,
				 "this fixd (%s) speaks version %d of the protocol, the client speaks %u; install the same "
				 "version of both",
				 PACKAGE_VERSION, WIRE_VERSION, hello->version);
		return true;
	}
	c->greeted = true;
	conn_reply_fd(c, h, &welcome, sizeof welcome, board_fd(c->daemon->board), false);
	return true;
}

static bool handle_detach(struct conn *c, const struct wire_header *h, const void *body, size_t size)
{
	const struct wire_detach *detach = body;

	(void)h, (void)size;
	/* The newest first: what was attached last is usually detached first. */
	for (struct link *l = c->leases.prev; l != &c->leases; l = l->prev) {
		struct lease *lease = link_entry(l, struct lease, in_conn);

		if (lease->image->serial == detach->serial) {
			lease_free(lease);
			return true;
		}
	}
	return false;
}

static bool query_pattern(const void *body, size_t size, char **out)
{
	const struct wire_query *q = body;
	struct tail t = { (const char *)(q + 1), (const char *)body + size };

	*out = take(&t, q->pattern);
	return *out && t.at == t.end;
}

static bool handle_report(struct conn *c, const struct wire_header *h, const void *body, size_t size,
			  void (*write)(struct daemon *d, const char *pattern, struct text *out))
{
	_cleanup_free_ char *pattern = NULL;
	_cleanup_text_ struct text t = { 0 };

	if (!query_pattern(body, size, &pattern))
		return false;
	write(c->daemon, *pattern ? pattern : "*", &t);
	conn_reply_text(c, h, t.data ? t.data : "", t.size);
	return true;
}

static bool handle_status(struct conn *c, const struct wire_header *h, const void *body, size_t size)
{
	return handle_report(c, h, body, size, report_status);
}

static bool handle_list(struct conn *c, const struct wire_header *h, const void *body, size_t size)
{
	return handle_report(c, h, body, size, report_list);
}

static bool handle_log(struct conn *c, const struct wire_header *h, const void *body, size_t size)
{
	_cleanup_free_ char *name = NULL;
	const struct instance *i;

	if (!query_pattern(body, size, &name))
		return false;
	i = report_find(c->daemon, name);
	if (!i)
		conn_reply_error(c, h, -ENOENT, "nothing called '%s' was ever built", name);
	else
		conn_reply_text(c, h, i->log ? i->log : "", i->log ? strlen(i->log) : 0);
	return true;
}

static bool handle_cleanup(struct conn *c, const struct wire_header *h, const void *body, size_t size)
{
	const struct wire_cleanup *q = body;
	struct tail t = { (const char *)(q + 1), (const char *)body + size };
	_cleanup_free_ char *patterns = take(&t, q->patterns);
	_cleanup_text_ struct text out = { 0 };
	char **list;

	if (!patterns || t.at != t.end)
		return false;
	watcher_drain(c->daemon->watcher);
	list = list_split(patterns);
	report_cleanup(c->daemon, list, q->flags, q->older_than, &out);
	list_free(list);
	conn_reply_text(c, h, out.data, out.size);
	return true;
}

static bool handle_reload(struct conn *c, const struct wire_header *h, const void *body, size_t size)
{
	_cleanup_text_ struct text problems = { 0 };
	int r = daemon_reload(c->daemon, &problems);

	(void)body, (void)size;
	text_add(&problems, "", 0);
	if (r < 0)
		conn_reply_error(c, h, r, "the configuration was not read, the old one stays:\n%s", problems.data);
	else
		conn_reply_text(c, h, problems.data, problems.size);
	return true;
}

static bool handle_stop(struct conn *c, const struct wire_header *h, const void *body, size_t size)
{
	(void)body, (void)size;
	log_info("stopping: asked by pid %d", (int)c->pid);
	conn_reply(c, h, NULL, 0);
	conn_stop_after_reply(c);
	return true;
}

struct request {
	uint16_t type;
	uint16_t flags;
	uint32_t min, max;
	/* False: the message is malformed. */
	bool (*handle)(struct conn *c, const struct wire_header *h, const void *body, size_t size);
};

#define REQUEST_ROW(name, type, body, tail, flags) { type, flags, sizeof(body), sizeof(body) + (tail), handle_##name },
static const struct request requests[] = { WIRE_REQUESTS(REQUEST_ROW) };

static const struct request *find_request(uint16_t type)
{
	for (size_t i = 0; i < ELEMENTSOF(requests); i++) {
		if (requests[i].type == type)
			return &requests[i];
	}
	return NULL;
}

void request_dispatch(struct conn *c, const void *data, size_t size)
{
	_Alignas(8) char aligned[WIRE_MESSAGE_MAX];
	const struct wire_header *h = (const void *)aligned;
	const struct request *r;

	if (size < sizeof *h || size > sizeof aligned) {
		conn_drop(c, "a message without a header");
		return;
	}
	memcpy(aligned, data, size);
	r = find_request(h->type);
	size -= sizeof *h;
	if (!r || h->size != size + sizeof *h || h->id == 0 || size < r->min || size > r->max) {
		conn_drop(c, "a malformed message");
	} else if (c->greeted != !(r->flags & WIRE_BEFORE_HELLO)) {
		conn_drop(c, c->greeted ? "a second hello" : "a request before hello");
	} else if (conn_is_stuck(c) || c->n_pending >= PENDING_MAX) {
		conn_drop(c, "it does not read its answers, or asks too much at once");
	} else if (!c->allowed) {
		conn_reply_error(c, h, -EACCES, "user %u is not allowed to use this fixd; see allow-users in fixd.ini",
				 (unsigned)c->uid);
	} else if ((r->flags & WIRE_OWNER_ONLY) && !c->owner) {
		conn_reply_error(c, h, -EACCES, "only the user of the daemon, and root, may do that");
	} else if (!r->handle(c, h, aligned + sizeof *h, size)) {
		conn_drop(c, "a malformed message");
	}
}
