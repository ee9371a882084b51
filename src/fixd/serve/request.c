/* SPDX-License-Identifier: MIT */
#include "fixd/serve/request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "config/config.h"
#include "fixd/host/board.h"
#include "fixd/host/watch.h"
#include "fixd/model/events.h"
#include "fixd/model/instance.h"
#include "fixd/serve/cleanup.h"
#include "fixd/serve/conn.h"
#include "fixd/serve/control.h"
#include "fixd/serve/event_stream.h"
#include "fixd/serve/reload.h"
#include "fixd/serve/report.h"
#include "fixd/serve/server.h"
#include "fixd/serve/tail.h"

/* Unanswered requests of one connection. */
#define PENDING_MAX 256

bool handle_hello(struct conn *c, const struct wire_header *h, const void *body, size_t size)
{
	const struct wire_hello *hello = body;
	uint32_t lowest = hello->lowest ? hello->lowest : hello->version;
	struct wire_welcome welcome = {
		.version = hello->version < WIRE_VERSION ? hello->version : WIRE_VERSION,
		.message_max = WIRE_MESSAGE_MAX,
		.board_slots = WIRE_BOARD_SLOTS,
		.pid = (uint32_t)getpid(),
	};

	(void)size;
	if (welcome.version < WIRE_VERSION_MIN || welcome.version < lowest) {
		conn_reply_error(
			c, h, -EPROTONOSUPPORT,
			"this fixd (%s) speaks version %d of the protocol, and down to %d, the client speaks %u, and down to %u; install the same "
			"version of both",
			PACKAGE_VERSION, WIRE_VERSION, WIRE_VERSION_MIN, hello->version, lowest);
		return true;
	}
	c->greeted = true;
	conn_reply_fd(c, h, &welcome, sizeof welcome, board_fd(c->server->work->board), false);
	return true;
}

static bool query_pattern(const void *body, size_t size, char **out)
{
	const struct wire_query *q = body;
	struct tail t = { (const char *)(q + 1), (const char *)body + size };

	*out = tail_string(&t, q->pattern);
	return *out && t.at == t.end;
}

static bool handle_query(struct conn *c, const struct wire_header *h, const void *body, size_t size,
			 void (*answer)(struct conn *c, const struct wire_header *h, const char *pattern), const char *all)
{
	_cleanup_free_ char *pattern = NULL;

	if (!query_pattern(body, size, &pattern))
		return false;
	answer(c, h, *pattern ? pattern : all);
	return true;
}

bool handle_status(struct conn *c, const struct wire_header *h, const void *body, size_t size)
{
	return handle_query(c, h, body, size, report_status, "*");
}

bool handle_list(struct conn *c, const struct wire_header *h, const void *body, size_t size)
{
	return handle_query(c, h, body, size, report_list, "*");
}

bool handle_log(struct conn *c, const struct wire_header *h, const void *body, size_t size)
{
	return handle_query(c, h, body, size, report_log, "");
}

bool handle_key(struct conn *c, const struct wire_header *h, const void *body, size_t size)
{
	return handle_query(c, h, body, size, report_key, "");
}

bool handle_events(struct conn *c, const struct wire_header *h, const void *body, size_t size)
{
	const struct wire_events *q = body;

	(void)size;
	event_stream_ask(c, h, q->from, q->wait_ms);
	return true;
}

bool handle_cleanup(struct conn *c, const struct wire_header *h, const void *body, size_t size)
{
	const struct wire_cleanup *q = body;
	struct tail t = { (const char *)(q + 1), (const char *)body + size };
	_cleanup_free_ char *patterns = tail_string(&t, q->patterns);

	if (!patterns || t.at != t.end)
		return false;
	watcher_drain(c->server->work->watcher);
	cleanup_ask(c, h, patterns, q->flags, q->older_than);
	return true;
}

bool handle_reload(struct conn *c, const struct wire_header *h, const void *body, size_t size)
{
	(void)body, (void)size;
	reload_ask(c->server, c, h);
	return true;
}

bool handle_stop(struct conn *c, const struct wire_header *h, const void *body, size_t size)
{
	(void)body, (void)size;
	log_info("stopping: asked by pid %d", (int)c->client.pid);
	c->stop_requested = true;
	conn_reply(c, h, NULL, 0);
	conn_stop_after_reply(c);
	return true;
}

bool handle_restart(struct conn *c, const struct wire_header *h, const void *body, size_t size)
{
	(void)body, (void)size;
	c->server->control.restart(c->server->control.daemon, c, h);
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

bool request_is_note(const void *data, size_t size)
{
	const struct wire_header *h = data;
	const struct request *r = size < sizeof *h ? NULL : find_request(h->type);

	return r && (r->flags & WIRE_NOTE);
}

/* Of another version: of its fixed part what is known here, with zeros for the rest, and the tail. False: more is asked for. */
static bool adapt_fixed_part(const char *body, size_t size, size_t fixed, size_t known, char *out)
{
	for (size_t k = known; k < fixed; k++) {
		if (body[k])
			return false;
	}
	memset(out, 0, known);
	memcpy(out, body, fixed < known ? fixed : known);
	memcpy(out + known, body + fixed, size - fixed);
	return true;
}

/* A bit that means nothing here would change what another version does. */
static bool has_unknown_flags(const struct wire_header *h, const char *body)
{
	static const struct {
		uint16_t type;
		size_t at;
		uint32_t known;
	} rows[] = {
#define FLAGS_ROW(type, body, known) { type, offsetof(body, flags), known },
		WIRE_FLAGS(FLAGS_ROW)
	};
	uint32_t flags;

	for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
		if (rows[i].type != h->type)
			continue;
		memcpy(&flags, body + rows[i].at, sizeof flags);
		return flags & ~rows[i].known;
	}
	return false;
}

static void dispatch_known(struct conn *c, const struct wire_header *h, const char *body, size_t size, const struct request *r)
{
	if (size >= r->min && size <= r->max && !(r->flags & WIRE_NOTE) && has_unknown_flags(h, body))
		conn_reply_error(c, h, -EINVAL, "this fixd (%s) does not know all flags of the request; install the same version of both",
				 PACKAGE_VERSION);
	else if (size < r->min || size > r->max || !r->handle(c, h, body, size))
		conn_drop(c, "a malformed message");
}

static void dispatch_adapted(struct conn *c, const struct wire_header *h, const char *body, size_t size, const struct request *r)
{
	_Alignas(8) char adapted[2 * WIRE_MESSAGE_MAX];

	if (adapt_fixed_part(body, size, h->n_fds, r->min, adapted))
		dispatch_known(c, h, adapted, size - h->n_fds + r->min, r);
	else if (!(r->flags & WIRE_NOTE))
		conn_reply_error(c, h, -E2BIG,
				 "this fixd (%s) does not know all that the request asks for; install the same version of both",
				 PACKAGE_VERSION);
}

void request_dispatch(struct conn *c, const void *data, size_t size)
{
	const struct wire_header *h = data;
	const struct request *r;

	if (size < sizeof *h) {
		conn_drop(c, "a message without a header");
		return;
	}
	r = find_request(h->type);
	size -= sizeof *h;
	if (h->size != size + sizeof *h || h->id == 0 || (r && h->n_fds > size) || (!r && (!c->greeted || h->type >= WIRE_REPLY))) {
		conn_drop(c, "a malformed message");
	} else if (r && c->greeted != !(r->flags & WIRE_BEFORE_HELLO)) {
		conn_drop(c, c->greeted ? "a second hello" : "a request before hello");
	} else if (conn_is_stuck(c) || c->client.n_pending >= PENDING_MAX) {
		conn_drop(c, "it does not read its answers, or asks too much at once");
	} else if (c->refusal) {
		conn_reply_error(c, h, -EACCES, "%s", c->refusal);
	} else if (!r) {
		conn_reply_error(c, h, -EOPNOTSUPP, "this fixd (%s) does not know requests of type %u; install the same version of both",
				 PACKAGE_VERSION, h->type);
	} else if ((r->flags & WIRE_OWNER_ONLY) && !c->client.owner) {
		conn_reply_error(c, h, -EACCES, "only the user of the daemon, and root, may do that");
	} else if (h->n_fds && h->n_fds != r->min) {
		dispatch_adapted(c, h, (const char *)data + sizeof *h, size, r);
	} else {
		dispatch_known(c, h, (const char *)data + sizeof *h, size, r);
	}
}
