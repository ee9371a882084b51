/* SPDX-License-Identifier: MIT */
#include "fixd/serve/conn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/process.h"
#include "config/config.h"
#include "fixd/loop/loop.h"
#include "fixd/model/events.h"
#include "fixd/model/image.h"
#include "fixd/model/run.h"
#include "fixd/model/session.h"
#include "fixd/model/user.h"
#include "fixd/serve/control.h"
#include "fixd/serve/request.h"
#include "fixd/serve/server.h"
#include "fixd/serve/unread.h"
#include "fixd/work/client_build.h"
#include "image/memfd.h"

/* Answers that wait because the client does not read: beyond this it is dropped. */
#define UNSENT_MAX 64
/* Refused connections of one user that are still told why; the rest is closed at once. */
#define REFUSED_MAX 64
/* Keeps the descriptors that lie unread in a client's socket few (a whole user is limited in them). */
#define SEND_BUFFER (32 << 10)

struct reply {
	struct packet packet;
	struct conn *conn; /* it is gone if the packet was cancelled */
	bool close_after;
	struct server *stop; /* is to, when it was sent */
	void (*done)(void *arg, int err);
	void *arg;
	int *fds;		/* behind the images */
	struct image *images[]; /* as many as descriptors; then those, then the message */
};

static bool is_allowed_group(const struct config *c, gid_t gid)
{
	for (size_t i = 0; i < c->n_allow_groups; i++) {
		if (c->allow_groups[i] == gid)
			return true;
	}
	return false;
}

/* The process's own groups, as the kernel has them: no name service is asked. */
static bool is_in_groups(const struct config *c, int fd, gid_t gid)
{
	gid_t groups[256];
	socklen_t size = sizeof groups;

	if (c->n_allow_groups == 0)
		return false;
	if (is_allowed_group(c, gid))
		return true;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) < 0)
		return false;
	for (size_t k = 0; k < size / sizeof *groups; k++) {
		if (is_allowed_group(c, groups[k]))
			return true;
	}
	return false;
}

static bool may_connect(const struct conn *c, int fd)
{
	const struct config *config = c->server->model->config;

	if (c->client.owner)
		return true;
	for (size_t i = 0; i < config->n_allow_users; i++) {
		if (config->allow_users[i] == c->client.uid)
			return true;
	}
	return is_in_groups(config, fd, c->gid);
}

static void on_message(void *arg, const void *data, size_t size, bool cut)
{
	struct conn *c = arg;

	if (cut)
		conn_drop(c, "a message was too long or carried descriptors");
	else if (!c->broken)
		inbox_take(c, data, size);
}

static void on_end(void *arg, int err)
{
	struct conn *c = arg;

	if (err || inbox_is_empty(&c->inbox)) {
		conn_drop(c, err ? strerror(-err) : NULL);
		return;
	}
	c->ended = true;
	source_pause(c->source);
}

static const struct message_handler handler = { on_message, on_end };

struct conn *conn_new(struct server *server, int fd)
{
	struct conn *c = server->model->stopping ? NULL : xcalloc(1, sizeof *c);
	struct ucred peer = { 0 };
	socklen_t n = sizeof peer;
	int buffer = SEND_BUFFER;

	/* Who comes now finds nobody, and may come again. */
	if (!c) {
		fd_close(fd);
		return NULL;
	}
	c->server = server;
	c->client.model = server->model;
	c->client.id = ++server->model->last_serial;
	link_init(&c->client.leases);
	link_init(&c->unanswered);
	link_init(&c->client.offers);
	inbox_init(&c->inbox);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer) < 0) {
		log_warn(-errno, "a connection cannot be set up");
		fd_close(fd);
		free(c);
		return NULL;
	}
	c->client.uid = peer.uid;
	c->gid = peer.gid;
	c->client.pid = peer.pid;
	c->client.owner = peer.uid == geteuid() || peer.uid == 0;
	c->client.user = user_get(server->model, peer.uid);
	if (c->client.user->limited && c->client.user->n_connections >= server->model->config->user_connections_max + REFUSED_MAX) {
		user_unref(c->client.user);
		fd_close(fd);
		free(c);
		return NULL;
	}
	c->refusal = may_connect(c, fd)
			     ? user_refuses_connection(c->client.user)
			     : xasprintf("user %u is not allowed to use this fixd; see allow-users in fixd.ini", (unsigned)c->client.uid);
	c->client.user->n_connections++;
	link_insert(&server->conns, &c->link);
	server->n_conns++;
	c->source = loop_messages(server->model->loop, fd, &handler, c);
	if (c->refusal)
		log_warn(0, "connection %llu is refused: %s", (unsigned long long)c->client.id, c->refusal);
	log_debug("connection %llu: pid %d, uid %u", (unsigned long long)c->client.id, (int)c->client.pid, (unsigned)c->client.uid);
	return c;
}

void conn_add_unanswered(struct conn *c, struct unanswered *u, void (*forget)(struct unanswered *u))
{
	u->conn = c;
	u->forget = forget;
	link_insert(&c->unanswered, &u->link);
	c->client.n_pending++;
}

void conn_remove_unanswered(struct unanswered *u)
{
	link_remove(&u->link);
	u->conn->client.n_pending--;
}

static void leave_run(struct conn *c)
{
	c->process = source_close(c->process);
	run_leave(&c->client);
}

/* A process that has ended uses nothing, whoever has inherited its connection. */
static void on_conn_process_end(void *arg)
{
	leave_run(arg);
}

void conn_join_run(struct conn *c, const char *run, bool observer)
{
	/* A client in another pid namespace has no number here: then the end of its connection must do. */
	int pidfd = c->client.pid > 0 ? process_open(c->client.pid) : -1;

	run_join(c->client.session, run, &c->client, observer);
	if (pidfd >= 0)
		c->process = loop_watch(c->server->model->loop, pidfd, on_conn_process_end, c);
	else if (pidfd == -ESRCH)
		leave_run(c); /* it has ended meanwhile */
}

/* All that it holds, waits for and is a part of. */
static void conn_leave(struct conn *c)
{
	while (!link_empty(&c->unanswered)) {
		struct unanswered *u = link_entry(c->unanswered.next, struct unanswered, link);

		u->forget(u);
	}
	offer_forget_all(&c->client);
	leave_run(c);
	link_for_each_safe(l, &c->client.leases)
		lease_free(link_entry(l, struct lease, in_client));
	if (c->client.session)
		c->client.session->n_conns--;
	c->client.session = NULL;
}

void conn_retire(struct conn *c)
{
	c->broken = true;
	inbox_clear(c);
	conn_leave(c);
}

void conn_drop(struct conn *c, const char *why)
{
	struct server *server = c->server;

	if (why)
		log_warn(0, "connection %llu of pid %d is dropped: %s", (unsigned long long)c->client.id, (int)c->client.pid, why);
	else
		log_debug("connection %llu has ended", (unsigned long long)c->client.id);
	inbox_clear(c);
	unread_leave(c);
	c->source = source_close(c->source);
	conn_leave(c);
	c->client.user->n_connections--;
	user_unref(c->client.user);
	link_remove(&c->link);
	server->n_conns--;
	free(c->refusal);
	free(c->client.test);
	free(c);
	if (!server->n_conns)
		server->control.idle(server->control.daemon);
}

static void reply_done(struct packet *p, int err)
{
	struct reply *r = container_of(p, struct reply, packet);

	/* The end of the connection is reported by itself; what it has asked for besides is not worth any work. */
	if (err && err != -ECANCELED) {
		r->conn->broken = true;
		inbox_clear(r->conn);
		source_resume(r->conn->source);
	}
	for (size_t i = 0; i < p->n_fds; i++) {
		image_unref(r->images[i]);
		if (r->close_after)
			fd_close(r->fds[i]);
	}
	if (r->done)
		r->done(r->arg, err);
	if (r->stop)
		r->stop->control.stop(r->stop->control.daemon);
	free(r);
}

static struct reply *reply_new(const struct wire_header *to, uint16_t type, const void *body, size_t size, size_t n_fds)
{
	struct wire_header h = { .type = type, .n_fds = (uint16_t)n_fds, .size = (uint32_t)(sizeof h + size), .id = to->id };
	struct reply *r = xcalloc(1, sizeof *r + n_fds * (sizeof *r->images + sizeof *r->fds) + sizeof h + size);
	char *message;

	r->fds = (int *)(r->images + n_fds);
	message = (char *)(r->fds + n_fds);
	memcpy(message, &h, sizeof h);
	if (size)
		memcpy(message + sizeof h, body, size);
	link_init(&r->packet.link);
	r->packet.data = message;
	r->packet.size = sizeof h + size;
	r->packet.fds = r->fds;
	r->packet.n_fds = n_fds;
	r->packet.done = reply_done;
	return r;
}

/* What ends because its client leaves may be what that client has asked for: nobody hears the answer. */
static void send_reply(struct conn *c, struct reply *r)
{
	r->conn = c;
	if (c->source)
		source_send(c->source, &r->packet);
	else
		reply_done(&r->packet, -ECANCELED);
}

bool conn_is_stuck(const struct conn *c)
{
	return source_unsent(c->source) >= UNSENT_MAX;
}

void conn_reply(struct conn *c, const struct wire_header *to, const void *body, size_t size)
{
	send_reply(c, reply_new(to, to->type | WIRE_REPLY, body, size, 0));
}

void conn_reply_fd(struct conn *c, const struct wire_header *to, const void *body, size_t size, int fd, bool close_after)
{
	struct reply *r = reply_new(to, to->type | WIRE_REPLY, body, size, 1);

	r->fds[0] = fd;
	r->close_after = close_after;
	send_reply(c, r);
}

void conn_reply_told(struct conn *c, const struct wire_header *to, const void *body, size_t size, int fd, void (*done)(void *arg, int err),
		     void *arg)
{
	struct reply *r = reply_new(to, to->type | WIRE_REPLY, body, size, fd >= 0);

	if (fd >= 0)
		r->fds[0] = fd;
	r->done = done;
	r->arg = arg;
	send_reply(c, r);
}

void conn_reply_images(struct conn *c, const struct wire_header *to, const void *body, size_t size, struct image **images, size_t n)
{
	struct reply *r = reply_new(to, to->type | WIRE_REPLY, body, size, n);

	for (size_t i = 0; i < n; i++) {
		r->images[i] = image_ref(images[i]);
		r->fds[i] = images[i]->fd;
	}
	send_reply(c, r);
}

void conn_reply_text(struct conn *c, const struct wire_header *to, const char *data, size_t size)
{
	struct wire_report body = { .size = size };
	int fd = memfd_from_bytes("fixd:report", data, size);

	if (fd < 0)
		conn_reply_error(c, to, fd, "the report cannot be written: %s", strerror(-fd));
	else
		conn_reply_fd(c, to, &body, sizeof body, fd, true);
}

void conn_reply_error(struct conn *c, const struct wire_header *to, int err, const char *fmt, ...)
{
	char body[sizeof(struct wire_error) + WIRE_SENTENCE_MAX];
	_cleanup_free_ char *sentence = NULL;
	struct wire_error e = { .error = err };
	va_list ap;

	va_start(ap, fmt);
	sentence = xvasprintf(fmt, ap);
	va_end(ap);
	e.sentence = (uint32_t)strnlen(sentence, WIRE_SENTENCE_MAX);
	memcpy(body, &e, sizeof e);
	memcpy(body + sizeof e, sentence, e.sentence);
	send_reply(c, reply_new(to, WIRE_ERROR, body, sizeof e + e.sentence, 0));
}

void conn_stop_after_reply(struct conn *c)
{
	struct reply *r = reply_new(&(struct wire_header){ 0 }, WIRE_TYPE_stop | WIRE_REPLY, NULL, 0, 0);

	r->stop = c->server;
	send_reply(c, r);
}
