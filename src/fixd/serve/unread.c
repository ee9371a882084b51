/* SPDX-License-Identifier: MIT */
#include "fixd/serve/unread.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "fixd/loop/loop.h"
#include "fixd/model/user.h"
#include "fixd/serve/conn.h"
#include "fixd/serve/server.h"

#define BYTES_MAX ((uint64_t)64 << 20)
/* One that is being made, or small: there are not too many either. */
#define BYTES_LEAST ((uint64_t)1 << 20)

struct unread {
	struct link link; /* server::unread */
	struct user *user;
	struct conn *conn; /* NULL: it has ended, and `fd` is its socket */
	int fd;
	uint64_t bytes; /* 0: it waits to be made */
	bool sent;
};

static void unread_free(struct unread *u)
{
	link_remove(&u->link);
	user_unref(u->user);
	fd_close(u->fd);
	free(u);
}

/* The kernel counts what the other side has not received, or given up. */
static bool is_read(const struct unread *u)
{
	int left = 0;

	if (!u->sent || (u->conn && source_unsent(u->conn->source) > 0))
		return false;
	return ioctl(u->conn ? source_fd(u->conn->source) : u->fd, SIOCOUTQ, &left) < 0 || left == 0;
}

static struct unread *unread_new(struct conn *c)
{
	struct unread *u = xcalloc(1, sizeof *u);

	u->user = user_ref(c->client.user);
	u->conn = c;
	u->fd = -1;
	link_insert(&c->server->unread, &u->link);
	return u;
}

/* Nobody is before it, who may be read before it, and there is room. */
static bool is_next(struct server *server, const struct unread *next)
{
	uint64_t bytes = 0;
	bool first = true;

	link_for_each_safe(l, &server->unread) {
		struct unread *u = link_entry(l, struct unread, link);

		if (u == next) {
			if (!first)
				return false;
		} else if (is_read(u)) {
			unread_free(u);
		} else if (u->user == next->user) {
			bytes += u->bytes;
			first &= u->bytes > 0;
		}
	}
	return bytes + BYTES_LEAST <= BYTES_MAX;
}

bool unread_begin(struct conn *c, struct unread **u)
{
	if (c->client.owner)
		return true;
	if (!*u)
		*u = unread_new(c);
	if (!is_next(c->server, *u))
		return false;
	(*u)->bytes = BYTES_LEAST;
	return true;
}

void unread_sent(struct unread *u, uint64_t bytes)
{
	if (!u)
		return;
	u->bytes = bytes > BYTES_LEAST ? bytes : BYTES_LEAST;
	u->sent = true;
}

void unread_cancel(struct unread *u)
{
	if (u)
		unread_free(u);
}

void unread_leave(struct conn *c)
{
	link_for_each_safe(l, &c->server->unread) {
		struct unread *u = link_entry(l, struct unread, link);

		if (u->conn != c)
			continue;
		u->fd = is_read(u) || !u->sent ? -1 : fcntl(source_fd(c->source), F_DUPFD_CLOEXEC, 0);
		u->conn = NULL;
		if (u->fd < 0) {
			unread_free(u);
			continue;
		}
		shutdown(u->fd, SHUT_RDWR);
	}
}

void unread_deinit(struct server *server)
{
	while (!link_empty(&server->unread))
		unread_free(link_entry(server->unread.next, struct unread, link));
}
