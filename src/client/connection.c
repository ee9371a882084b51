/* SPDX-License-Identifier: MIT */
#include "client/blame.h"
#include "client/connection.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/fd.h"
#include "base/process.h"
#include "base/units.h"
#include "base/utf8.h"
#include "client/local.h"
#include "fixd.h"
#include "wire/socket.h"

#define ANSWER_MS 10000 /* for the daemon to take or answer anything at all */
#define GRACE_MS 2000	/* for an answer after the daemon's own time-out */
#define DEFAULT_MS 60000

__thread char connection_open_error[512];

int fixd_fail_with(struct fixd *f, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(f->error, sizeof f->error, fmt, ap);
	va_end(ap);
	/* A daemon's own sentence may be none. */
	if (!*f->error)
		snprintf(f->error, sizeof f->error, "%s", strerror(-err));
	return err;
}

const char *fixd_error(const struct fixd *f)
{
	return f ? f->error : connection_open_error;
}

int connection_timeout(void)
{
	const char *s = getenv("FIXD_TIMEOUT");
	double seconds;
	int64_t ns;
	char *end;

	if (!s || !*s)
		return DEFAULT_MS;
	seconds = strtod(s, &end);
	if (!*end && seconds >= 0.001 && seconds <= TIMEOUT_MAX_MS / 1000)
		return (int)(seconds * 1000);
	return parse_duration(s, &ns) == 0 && ns >= 1000000 && ns / 1000000 <= TIMEOUT_MAX_MS ? (int)(ns / 1000000) : -EINVAL;
}

void reply_close(struct reply *r)
{
	for (size_t i = 0; i < r->n_fds; i++)
		fd_close(r->fds[i]);
	r->n_fds = 0;
}

int64_t connection_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000) + t.tv_nsec / 1000000;
}

/* Only when the answer is there, so that another thread has no time to take it. False: it is not, by the deadline. */
static bool make_room(struct fixd *f, int64_t deadline)
{
	struct pollfd p = { .fd = f->fd, .events = POLLIN };
	int64_t left;
	int n;

	do {
		left = deadline - connection_now_ms();
		n = poll(&p, 1, left > 0 ? (int)left : 0);
	} while (n < 0 && errno == EINTR && left > 0);
	f->spare = fd_close(f->spare);
	return n > 0 || (n < 0 && errno != EINTR);
}

/* The kernel counts the time: a signal must not make it start again. */
static ssize_t receive_until(struct fixd *f, int64_t deadline, int ms, char *message, size_t size, struct reply *reply)
{
	ssize_t n;

	for (;;) {
		if (f->receive_ms != ms) {
			struct timeval tv = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };

			if (setsockopt(f->fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv) < 0)
				return -errno;
			f->receive_ms = ms;
		}
		if (f->spare >= 0 && !make_room(f, deadline))
			return -EAGAIN;
		reply->n_fds = WIRE_FDS_MAX;
		n = socket_receive(f->fd, message, size, reply->fds, &reply->n_fds, 0);
		if (n != -EINTR)
			return n;
		if (connection_now_ms() >= deadline)
			return -EAGAIN;
		ms = (int)(deadline - connection_now_ms()) + 1;
	}
}

/* How long it is in this version; 0: no such request is known. */
static uint16_t fixed_part(uint16_t type)
{
#define FIXED_PART(name, number, body, tail, flags) { number, sizeof(body) },
	static const struct {
		uint16_t type, size;
	} all[] = { WIRE_REQUESTS(FIXED_PART) };

	for (size_t k = 0; k < sizeof all / sizeof *all; k++) {
		if (all[k].type == type)
			return all[k].size;
	}
	return 0;
}

static int send_to(struct fixd *f, int fd, uint16_t type, const void *body, size_t size, int flags, uint64_t *id)
{
	char message[WIRE_MESSAGE_MAX];
	struct wire_header h = { .type = type, .n_fds = fixed_part(type), .size = (uint32_t)(sizeof h + size), .id = ++f->last_id };

	if (sizeof h + size > sizeof message)
		return -EMSGSIZE;
	memcpy(message, &h, sizeof h);
	if (size)
		memcpy(message + sizeof h, body, size);
	*id = h.id;
	return socket_send(fd, message, sizeof h + size, NULL, 0, flags);
}

static int send_message(struct fixd *f, uint16_t type, const void *body, size_t size, int flags, uint64_t *id)
{
	return send_to(f, f->fd, type, body, size, flags, id);
}

/* The daemon's own sentence. */
static int take_error(struct fixd *f, const struct reply *r)
{
	struct wire_error e = { 0 };

	if (r->size >= sizeof e)
		memcpy(&e, r->body, sizeof e);
	if (r->size < sizeof e || e.sentence > r->size - sizeof e || e.error >= 0 || e.error < -ERRNO_MAX)
		return fixd_fail_with(f, -EPROTO, "the daemon at %s sent a malformed error", f->path);
	return fixd_fail_with(f, e.error, "%.*s", (int)e.sentence, r->body + sizeof e);
}

/* An attach whose answer nobody waits for, or whose descriptors could not be taken: its lease goes back. */
static void connection_give_back(struct fixd *f, const char *message)
{
	struct wire_header h;
	struct wire_attached a;
	struct wire_image im;

	memcpy(&h, message, sizeof h);
	if (h.type != (WIRE_TYPE_attach | WIRE_REPLY) || h.size < sizeof h + sizeof a + sizeof im)
		return;
	memcpy(&a, message + sizeof h, sizeof a);
	memcpy(&im, message + sizeof h + sizeof a, sizeof im);
	if (a.n_images)
		connection_tell(f, WIRE_TYPE_detach, &(struct wire_detach){ .serial = im.serial }, sizeof(struct wire_detach));
}

/* Whoever waits for another answer has taken that of the question: it is to be asked again. */
static void note_question(struct fixd *f, uint64_t id, const struct reply *reply)
{
	if (id == f->question.id && id != reply->wanted)
		connection_give_up(f);
}

int connection_receive(struct fixd *f, int timeout_ms, uint64_t *id, struct reply *reply)
{
	char message[WIRE_MESSAGE_MAX];
	struct wire_header h;
	int ms = timeout_ms < TIMEOUT_MAX_MS ? timeout_ms : TIMEOUT_MAX_MS;
	ssize_t n = receive_until(f, connection_now_ms() + ms, ms, message, sizeof message, reply);

	if (n == -EAGAIN)
		return fixd_fail_with(f, -ETIMEDOUT, "the daemon at %s has not answered within %.1f s", f->path, ms / 1e3);
	if (n == -EMFILE) {
		memcpy(&h, message, sizeof h);
		*id = h.id;
		note_question(f, h.id, reply);
		connection_give_back(f, message);
		return fixd_fail_with(f, -EMFILE, "this process has no descriptor left for what the daemon sent");
	}
	if (n == 0)
		reply_close(reply);
	if (n <= 0)
		return fixd_fail_with(f, n ? (int)n : -ECONNRESET, "the daemon at %s has closed the connection%s%s", f->path, n ? ": " : "",
				      n ? strerror((int)-n) : "");
	if ((size_t)n >= sizeof h)
		memcpy(&h, message, sizeof h);
	if ((size_t)n < sizeof h || h.size != (size_t)n || h.n_fds != (h.type == WIRE_ERROR ? 0 : reply->n_fds)) {
		reply_close(reply);
		return fixd_fail_with(f, -EPROTO, "the daemon at %s sent a malformed message", f->path);
	}
	reply->size = (size_t)n - sizeof h;
	memcpy(reply->body, message + sizeof h, reply->size);
	*id = h.id;
	note_question(f, h.id, reply);
	if (h.type == WIRE_ERROR) {
		reply_close(reply);
		return take_error(f, reply);
	}
	if (reply->wanted && h.id != reply->wanted)
		connection_give_back(f, message);
	return 0;
}

/* With the versions from `lowest` (0: only `version`) to `version`. */
static int hello(struct fixd *f, uint32_t version, uint32_t lowest)
{
	struct wire_hello hello = { .version = version, .lowest = lowest };
	struct wire_welcome welcome;
	struct reply reply;
	uint64_t id, got = 0;
	int r;

	reply.wanted = 0;
	r = send_message(f, WIRE_TYPE_hello, &hello, sizeof hello, 0, &id);

	if (r < 0)
		return fixd_fail_with(f, r, "the daemon at %s cannot be greeted: %s", f->path, strerror(-r));
	r = connection_receive(f, ANSWER_MS, &got, &reply);
	if (r < 0)
		return r;
	if (got != id || reply.size < sizeof welcome || reply.n_fds != 1) {
		reply_close(&reply);
		return fixd_fail_with(f, -EPROTO, "what listens at %s is no fixd", f->path);
	}
	memcpy(&welcome, reply.body, sizeof welcome);
	f->daemon_pid = welcome.pid;
	f->version = welcome.version;
	board_map_unref(f->board);
	f->board = NULL;
	r = board_map_new(reply.fds[0], welcome.board_slots, &f->board);
	reply_close(&reply);
	return r < 0 ? fixd_fail_with(f, r, "the board cannot be mapped: %s", strerror(-r)) : 0;
}

/* A daemon from before it was asked for ranges takes a hello of its own version only. */
static int greet(struct fixd *f)
{
	int r = hello(f, WIRE_VERSION, WIRE_VERSION_MIN);
	char first[sizeof f->error];

	memcpy(first, f->error, sizeof first);
	for (uint32_t version = WIRE_VERSION; r == -EPROTONOSUPPORT && version-- > WIRE_VERSION_MIN;)
		r = hello(f, version, 0);
	/* What it said of all that are spoken here. */
	if (r == -EPROTONOSUPPORT)
		memcpy(f->error, first, sizeof first);
	return r;
}

static int exchange(struct fixd *f, uint16_t type, const void *body, size_t size, struct reply *reply)
{
	uint64_t id, got = 0;
	int r = send_message(f, type, body, size, 0, &id);

	if (r < 0)
		return fixd_fail_with(f, r, "the daemon at %s cannot be asked: %s", f->path, strerror(-r));
	reply->wanted = 0;
	r = connection_receive(f, ANSWER_MS, &got, reply);
	if (r < 0 || got == id)
		return r;
	reply_close(reply);
	return fixd_fail_with(f, -EPROTO, "the daemon at %s sent an answer nobody asked for", f->path);
}

static int replay_all(struct fixd *f)
{
	struct reply reply;
	int r = 0;

	for (const struct replay *p = f->replay; p && r == 0; p = p->next) {
		r = exchange(f, p->type, p->body, p->size, &reply);
		if (r == 0)
			reply_close(&reply);
	}
	if (r == 0 && f->closing)
		connection_tell(f, WIRE_TYPE_closing, &(struct wire_closing){ 0 }, sizeof(struct wire_closing));
	return r;
}

static int connect_socket(struct fixd *f)
{
	const struct timeval limit = { .tv_sec = ANSWER_MS / 1000 };
	struct sockaddr_storage address;
	socklen_t length;
	int64_t deadline = connection_now_ms() + ANSWER_MS;
	int r = socket_address(f->path, &address, &length);

	if (r < 0)
		return r;
	f->fd = fd_above_standard(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
	if (f->fd < 0)
		return f->fd;
	/* Of a Unix socket this limits connect(), too: a stopped daemon's queue may be full. */
	if (setsockopt(f->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) < 0)
		return -errno;
	while (connect(f->fd, (struct sockaddr *)&address, length) < 0) {
		if (errno == EAGAIN || (errno == EINTR && connection_now_ms() >= deadline))
			return -ETIMEDOUT;
		if (errno != EINTR)
			return -errno;
	}
	return 0;
}

int connection_open(struct fixd *f)
{
	int r = connect_socket(f);

	f->receive_ms = 0;
	f->owner = process_id();
	f->epoch++;
	f->test_told = !*f->test;
	if (r == -ENAMETOOLONG)
		fixd_fail_with(f, r, "'%s' is no socket: its path has 1 to %d bytes, not %zu", f->path, SOCKET_PATH_MAX, strlen(f->path));
	else if (r == -EACCES)
		fixd_fail_with(f, r, "the daemon at %s is not for this user: %s", f->path, strerror(-r));
	else if (r < 0)
		fixd_fail_with(f, r, "no daemon at %s: %s; start one with 'fixd --config FILE'", f->path, strerror(-r));
	else if ((r = greet(f)) == 0)
		r = replay_all(f);
	if (r < 0)
		f->fd = fd_close(f->fd);
	return r;
}

void fixd_unref(struct fixd *f)
{
	if (__atomic_sub_fetch(&f->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	fd_close(f->fd);
	board_map_unref(f->board);
	variables_free(f->variables);
	connection_give_up(f);
	while (f->replay) {
		struct replay *p = f->replay;

		f->replay = p->next;
		replay_free(p);
	}
	local_images_free(f->local_images);
	free(f->path);
	free(f);
}

void fixd_close(struct fixd *f)
{
	if (!f)
		return;
	f->fd = fd_close(f->fd);
	fixd_unref(f);
}

/*
 * In a forked child the inherited descriptor is left open on purpose: it is the child's share of its parent's leases.
 */
static int reconnect(struct fixd *f)
{
	int r;

	if (f->owner == process_id()) {
		f->fd = fd_close(f->fd);
		board_map_clear(f->board);
	} else {
		f->inherited = f->fd;
		f->inherited_epoch = f->epoch;
	}
	connection_log("a new connection to the daemon at %s is opened", f->path);
	r = connection_open(f);
	/* -ENOENT is for fixtures. */
	return r == -ENOENT ? -ECONNREFUSED : r;
}

/* Before the daemon hears of anything that a test does: which one runs. */
static bool tell_test(struct fixd *f, int flags)
{
	struct {
		struct wire_test head;
		char test[WIRE_TEST_MAX];
	} body = { .head.test = (uint16_t)strlen(f->test) };
	uint64_t id;

	if (!f->test_told) {
		memcpy(body.test, f->test, body.head.test);
		f->test_told = send_message(f, WIRE_TYPE_test, &body, sizeof body.head + body.head.test, flags, &id) == 0;
	}
	return f->test_told;
}

bool connection_mention(struct fixd *f, uint16_t type, const void *body, size_t size)
{
	uint64_t id;

	return f->fd >= 0 && f->owner == process_id() && tell_test(f, MSG_DONTWAIT) &&
	       send_message(f, type, body, size, MSG_DONTWAIT, &id) == 0;
}

/* A program may have closed it, and have something else there. */
static bool connection_is_of_daemon(const struct fixd *f, int fd)
{
	struct ucred peer;
	socklen_t size = sizeof peer;

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.pid == (pid_t)f->daemon_pid;
}

bool connection_mention_of_parent(struct fixd *f, uint64_t epoch, uint16_t type, const void *body, size_t size)
{
	bool own = f->owner == process_id();
	int fd = own ? f->inherited : f->fd;
	uint64_t id;

	return fd >= 0 && epoch == (own ? f->inherited_epoch : f->epoch) && connection_is_of_daemon(f, fd) &&
	       send_to(f, fd, type, body, size, MSG_DONTWAIT, &id) == 0;
}

static int send_request(struct fixd *f, uint16_t type, const void *body, size_t size, uint64_t *id)
{
	/* Where that fails, so does the next. */
	if (type == WIRE_TYPE_attach)
		tell_test(f, 0);
	return send_message(f, type, body, size, 0, id);
}

int connection_send(struct fixd *f, uint16_t type, const void *body, size_t size, uint64_t *id)
{
	int r;

	if (f->local)
		return fixd_fail_with(f, -ECANCELED, "FIXD_DISABLE is set: no daemon is asked");
	r = f->fd < 0 || f->owner != process_id() ? reconnect(f) : 0;

	if (r < 0)
		return r;
	r = send_request(f, type, body, size, id);
	if (r == -EPIPE || r == -ECONNRESET || r == -ENOTCONN) {
		r = reconnect(f);
		if (r < 0)
			return r;
		r = send_request(f, type, body, size, id);
	}
	if (r == -EAGAIN)
		return fixd_fail_with(f, -ETIMEDOUT, "the daemon at %s has taken nothing for %d s", f->path, ANSWER_MS / 1000);
	return r < 0 ? fixd_fail_with(f, r, "the daemon at %s cannot be asked: %s", f->path, strerror(-r)) : 0;
}

static void lose(struct fixd *f)
{
	connection_log("the connection to the daemon at %s is lost", f->path);
	f->fd = fd_close(f->fd);
	board_map_clear(f->board);
}

static int request_once(struct fixd *f, uint16_t type, const void *body, size_t size, int timeout_ms, struct reply *reply, bool *lost)
{
	int64_t deadline = connection_now_ms() + timeout_ms + GRACE_MS;
	uint64_t got = 0;
	int r = connection_send(f, type, body, size, &reply->wanted);

	*lost = false;
	while (r == 0) {
		int64_t left = deadline - connection_now_ms();

		got = 0;
		r = connection_receive(f, left > 1 ? (int)left : 1, &got, reply);
		if (got == reply->wanted || (r < 0 && got == 0))
			break;
		/* The answer to a request that was given up. */
		if (r == 0)
			reply_close(reply);
		r = connection_now_ms() < deadline ? 0
						   : fixd_fail_with(f, -ETIMEDOUT, "the daemon at %s has not given the answer", f->path);
	}
	/* Without a daemon behind it the connection is of no use. */
	if (r < 0 && got == 0 && r != -ETIMEDOUT) {
		lose(f);
		*lost = r == -ECONNRESET;
	}
	return r;
}

void connection_give_up(struct fixd *f)
{
	free(f->question.name);
	free(f->question.scope_key);
	f->question = (struct question){ 0 };
}

const char *connection_question(const struct fixd *f)
{
	const struct question *q = &f->question;

	return q->id && q->epoch == f->epoch && f->fd >= 0 && f->owner == process_id() ? q->name : NULL;
}

bool connection_has_asked(const struct fixd *f, const char *name, const char *scope_key)
{
	const struct question *q = &f->question;

	return connection_question(f) && !strcmp(q->name, name) &&
	       (scope_key ? q->scope_key && !strcmp(q->scope_key, scope_key) : !q->scope_key);
}

int connection_ask(struct fixd *f, uint16_t type, const char *name, const char *scope_key, const void *body, size_t size)
{
	struct question q = { .name = strdup(name), .scope_key = scope_key ? strdup(scope_key) : NULL };
	int r = !q.name || (scope_key && !q.scope_key) ? fixd_fail_with(f, -ENOMEM, "no memory")
						       : connection_send(f, type, body, size, &q.id);

	connection_give_up(f);
	q.epoch = f->epoch;
	f->question = q;
	if (r < 0)
		connection_give_up(f);
	return r;
}

int connection_look(struct fixd *f, struct reply *reply)
{
	uint64_t id = f->question.id, got = 0;
	int r;

	do {
		struct pollfd p = { .fd = f->fd, .events = POLLIN };

		got = 0;
		if (poll(&p, 1, 0) <= 0)
			return -EAGAIN;
		reply->wanted = id;
		r = connection_receive(f, 1, &got, reply);
		if (r == 0 && got != id)
			reply_close(reply);
	} while (got && got != id);
	/* Another thread of its own was quicker. */
	if (r == -ETIMEDOUT && got == 0)
		return -EAGAIN;
	connection_give_up(f);
	if (r < 0 && got == 0)
		lose(f);
	return r;
}

int fixd_fd(const struct fixd *f)
{
	return f->owner == process_id() ? f->fd : -1;
}

int connection_request(struct fixd *f, uint16_t type, const void *body, size_t size, int timeout_ms, struct reply *reply)
{
	int ms = timeout_ms < TIMEOUT_MAX_MS ? timeout_ms : TIMEOUT_MAX_MS;
	bool lost;
	int r = request_once(f, type, body, size, ms, reply, &lost);

	/* The daemon may have taken it with its last breath. An attach can be asked again: its lease is gone, too. */
	for (int64_t end = connection_now_ms() + GRACE_MS; lost && type == WIRE_TYPE_attach && connection_now_ms() < end;)
		r = request_once(f, type, body, size, ms, reply, &lost);
	return r;
}

int connection_request_once(struct fixd *f, uint16_t type, const void *body, size_t size, int timeout_ms, struct reply *reply)
{
	int r;

	f->spare = f->fd < 0 ? -1 : fcntl(f->fd, F_DUPFD_CLOEXEC, 0);
	if (f->fd >= 0 && f->spare < 0)
		return fixd_fail_with(f, -errno, "this process has no descriptor left for the answer: %s", strerror(errno));
	r = connection_request(f, type, body, size, timeout_ms, reply);
	f->spare = fd_close(f->spare);
	return r;
}

void connection_tell(struct fixd *f, uint16_t type, const void *body, size_t size)
{
	uint64_t id;

	/* What cannot be told would be held for ever: then all of it ends. */
	if (f->fd >= 0 && f->owner == process_id() && send_message(f, type, body, size, 0, &id) < 0)
		lose(f);
}

void fixd_set_test(struct fixd *f, const char *test)
{
	size_t n = test ? utf8_cut(test, strlen(test), WIRE_TEST_MAX) : 0;

	if (n == strlen(f->test) && (n == 0 || !memcmp(f->test, test, n)))
		return;
	f->test_told = false;
	if (n)
		memcpy(f->test, test, n);
	f->test[n] = '\0';
	blame_set_test(f->test);
}

int connection_establish(struct fixd *f, uint16_t type, const char *key, const void *body, size_t size, struct reply *reply)
{
	struct replay *p = replay_new(type, key, body, size);
	int r = p ? connection_request(f, type, body, size, ANSWER_MS, reply) : fixd_fail_with(f, -ENOMEM, "no memory");

	if (r == 0)
		replay_add(&f->replay, p);
	else
		replay_free(p);
	return r;
}

ssize_t connection_attach_body(struct fixd *f, char *out, const char *name, const char *key, uint32_t flags, int timeout_ms,
			       const uint64_t *depends, size_t n_depends)
{
	struct wire_attach a = { .flags = flags, .timeout_ms = (uint32_t)timeout_ms };
	size_t name_size = strlen(name), key_size = key ? strlen(key) : 0;
	char *p = out + sizeof a;
	ssize_t env;

	if (name_size == 0 || name_size > WIRE_NAME_MAX)
		return fixd_fail_with(f, -EINVAL, "the name of a fixture has 1 to %d bytes", WIRE_NAME_MAX);
	if (key_size > WIRE_KEY_MAX)
		return fixd_fail_with(f, -EINVAL, "a scope key has at most %d bytes", WIRE_KEY_MAX);
	memcpy(p, name, name_size);
	if (key_size)
		memcpy(p + name_size, key, key_size);
	env = variables_put(f->variables, name, p + name_size + key_size, WIRE_ENV_MAX);
	if (env < 0)
		return fixd_fail_with(f, -E2BIG, "the variables that fixture '%s' names have more than %d bytes", name, WIRE_ENV_MAX);
	a.name = (uint16_t)name_size;
	a.key = (uint16_t)key_size;
	a.env = (uint16_t)env;
	a.depends = (uint16_t)n_depends;
	memcpy(out, &a, sizeof a);
	p += name_size + key_size + (size_t)env;
	if (n_depends)
		memcpy(p, depends, n_depends * sizeof *depends);
	return p + n_depends * sizeof *depends - out;
}

int connection_attach(struct fixd *f, const char *name, const char *key, uint32_t flags, int timeout_ms, struct reply *reply)
{
	int r;

	do {
		char body[WIRE_MESSAGE_MAX];
		ssize_t size = connection_attach_body(f, body, name, key, flags, timeout_ms, NULL, 0);

		if (size < 0)
			return (int)size;
		r = connection_request(f, WIRE_TYPE_attach, body, (size_t)size, timeout_ms, reply);
	} while (r == -ENOKEY && variables_learn(&f->variables, name, f->error));
	return r;
}
