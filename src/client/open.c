/* SPDX-License-Identifier: MIT */
/* Which daemon a client is connected to. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/connection.h"
#include "fixd.h"
#include "wire/default_socket.h"

/* To be freed. */
static char *socket_to_use(void)
{
	const char *env = getenv("FIXD_SOCKET");
	char path[4096];

	if (env && *env)
		return strdup(env);
	default_socket_to_connect(path, sizeof path);
	return strdup(path);
}

/* What is there is no daemon for this user: it has ended, or is something else altogether. */
static bool is_no_daemon(int err)
{
	return err == -ECONNREFUSED || err == -EPROTOTYPE || err == -ECONNRESET || err == -ELOOP || err == -EACCES;
}

/* Where nobody said which socket: one that a daemon has left behind does not hide another one that is alive. */
static int connect_to_any(struct fixd *f)
{
	char *first = f->path, path[4096], *next;
	int r = connection_open(f);

	for (bool more = is_no_daemon(r); (is_no_daemon(r) || r == -ENOENT) && more;) {
		more = default_socket_behind(f->path, path, sizeof path) && (next = strdup(path));
		if (f->path != first)
			free(f->path);
		f->path = more ? next : first;
		r = connection_open(f);
	}
	if (f->path != first)
		free(first);
	return r;
}

static bool is_default(const char *socket)
{
	const char *env = getenv("FIXD_SOCKET");

	return !socket && !(env && *env);
}

static int open_failed(struct fixd *f, int err)
{
	snprintf(connection_open_error, sizeof connection_open_error, "%.*s", (int)sizeof connection_open_error - 1,
		 f ? f->error : strerror(-err));
	if (f)
		free(f->path);
	free(f);
	return err;
}

int fixd_open(struct fixd **out, const char *socket)
{
	const char *disabled = getenv("FIXD_DISABLE");
	struct fixd *f = calloc(1, sizeof *f);
	int r;

	*out = NULL;
	if (!f)
		return open_failed(f, -ENOMEM);
	f->fd = f->spare = f->inherited = -1;
	f->refs = 1;
	if (disabled && !strcmp(disabled, "1")) {
		f->local = true;
		*out = f;
		return 0;
	}
	if (connection_timeout() < 0)
		return open_failed(f,
				   fixd_fail_with(f, -EINVAL,
						  "FIXD_TIMEOUT is '%s'; expected a number of seconds, or one with ms, s, m or h, above 0",
						  getenv("FIXD_TIMEOUT")));
	f->path = socket ? strdup(socket) : socket_to_use();
	if (!f->path)
		return open_failed(f, fixd_fail_with(f, -ENOMEM, "no memory"));
	r = is_default(socket) ? connect_to_any(f) : connection_open(f);
	if (r < 0)
		return open_failed(f, r);
	*out = f;
	return 0;
}
