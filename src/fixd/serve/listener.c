/* SPDX-License-Identifier: MIT */
/* The listening socket: made, taken over from a service manager, or put in the place of a dead one. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "config/config.h"
#include "fixd/host/activation.h"
#include "fixd/loop/loop.h"
#include "fixd/serve/conn.h"
#include "fixd/serve/server.h"
#include "wire/socket.h"
#include "wire/wire.h"

#define ANSWER_MS 5000
#define ACCEPT_AGAIN (100 * NSEC_PER_MSEC)
#define LOCK_WAIT (2 * NSEC_PER_SEC)
#define LOCK_AGAIN_MS 10

struct listener {
	struct server *server;
	struct source *source;
	struct timer again;
	bool full;   /* no descriptors: said once */
	char *path;  /* to be removed; NULL: not ours */
	char *alias; /* a link to it; NULL: there is none */
	int lock;
};

/* No descriptor was left for a connection: it stays in the queue until one is closed, or a moment has passed. */
static void on_connection(void *arg, int fd)
{
	struct listener *l = arg;

	if (fd >= 0) {
		l->full = false;
		conn_new(l->server, fd);
		return;
	}
	if (!l->full)
		log_warn(fd, "connections are not accepted for a while");
	l->full = true;
	timer_start_in(l->server->model->loop, &l->again, ACCEPT_AGAIN);
}

static void accept_again(void *arg)
{
	source_resume(((struct listener *)arg)->source);
}

/* As people write it: a name of the abstract namespace begins with '@'. */
static char *path_of(const struct sockaddr_un *address, socklen_t length)
{
	size_t n = length - offsetof(struct sockaddr_un, sun_path);

	if (n == 0 || *address->sun_path)
		return xstrndup(address->sun_path, n);
	return xasprintf("@%.*s", (int)n - 1, address->sun_path + 1);
}

/* Where a socket that was handed over listens, to be freed; NULL: it is none of Unix. */
static char *path_of_socket(int fd)
{
	struct sockaddr_un address;
	socklen_t n = sizeof address;

	if (getsockname(fd, (struct sockaddr *)&address, &n) < 0 || address.sun_family != AF_UNIX)
		return NULL;
	return path_of(&address, n);
}

/* The socket a service manager listens on for us (sd_listen_fds(3)). -1: there is none; -EMLINK: more than one. */
static int inherited_socket(void)
{
	int fd = activation_take_socket(), type = 0, listening = 0;
	socklen_t n = sizeof type;

	if (fd < 0)
		return -1;
	/* Who connects to another one would wait for ever. */
	if (activation_take_socket() >= 0)
		return -EMLINK;
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n) < 0 || type != SOCK_SEQPACKET)
		return -EPROTOTYPE;
	n = sizeof listening;
	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &n) < 0 || !listening)
		return -EPROTOTYPE;
	return fd;
}

/*
 * Does a daemon answer there? Connecting alone does not tell: the ring of a killed one keeps its socket for a moment longer
 * than the process lived.
 */
static bool somebody_answers(const struct sockaddr_storage *address, socklen_t length)
{
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct {
		struct wire_header h;
		struct wire_hello hello;
	} ask = { { .type = WIRE_TYPE_hello, .size = sizeof ask, .id = 1 }, { .version = WIRE_VERSION, .lowest = WIRE_VERSION_MIN } };
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char answer[64];

	/* Only that is known to be nobody: a full queue has its owner, and what cannot be asked is left alone. */
	if (fd < 0 || connect(fd, (const struct sockaddr *)address, length) < 0)
		return fd < 0 || (errno != ECONNREFUSED && errno != ENOENT);
	if (send(fd, &ask, sizeof ask, MSG_NOSIGNAL) < 0)
		return false;
	if (poll(&p, 1, ANSWER_MS) == 0)
		return true; /* busy */
	return recv(fd, answer, sizeof answer, MSG_DONTWAIT) > 0;
}

static bool is_answered(const char *path)
{
	struct sockaddr_storage address;
	socklen_t length;

	return socket_address(path, &address, &length) == 0 && somebody_answers(&address, length);
}

/*
 * Two daemons starting at once must not take each other's fresh socket for a dead one. A child of a daemon that was killed may hold the
 * lock until it has become its program.
 */
static int lock_path(const char *path)
{
	_cleanup_free_ char *name = xasprintf("%s.lock", path);
	_cleanup_fd_ int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	int64_t end = clock_now() + LOCK_WAIT;
	struct stat st;
	int r = fd < 0 || fstat(fd, &st) < 0 ? -errno : st.st_uid != geteuid() || !S_ISREG(st.st_mode) ? -EEXIST : 0;

	if (r == -EEXIST || r == -ELOOP || r == -EISDIR || r == -ENXIO) {
		log_error(0, "%s is in the way: expected a file of this user, or nothing", name);
		return r;
	}
	if (r < 0) {
		log_error(r, "%s, which keeps others from the socket, cannot be made", name);
		return r;
	}
	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return -errno;
		if (clock_now() >= end || is_answered(path))
			return -EADDRINUSE;
		poll(NULL, 0, LOCK_AGAIN_MS);
	}
	return fd_steal(&fd);
}

/* Every connection is checked by itself; the mode keeps the others out before. */
static mode_t socket_mode(const struct listener *l)
{
	const struct config *c = l->server->model->config;

	return c->n_allow_users || c->n_allow_groups ? 0666 : 0600;
}

void listener_permit(struct listener *l)
{
	if (l->path && chmod(l->path, socket_mode(l)) < 0)
		log_warn(-errno, "the mode of %s cannot be changed", l->path);
}

static void remove_lock(const char *path)
{
	_cleanup_free_ char *lock = xasprintf("%s.lock", path);

	fd_unlink(lock);
}

/* What is there and answers nobody is a dead daemon's. */
static int remove_dead(const char *path, const struct sockaddr_storage *address, socklen_t length)
{
	struct stat st;

	if (lstat(path, &st) < 0)
		return 0;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	if (somebody_answers(address, length))
		return -EADDRINUSE;
	return fd_unlink(path);
}

static int bind_locked(struct listener *l, const char *path)
{
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct sockaddr_storage address;
	socklen_t length;
	int r;

	if (fd < 0)
		return -errno;
	r = socket_address(path, &address, &length);
	if (r == 0)
		r = remove_dead(path, &address, length);
	if (r < 0)
		return r;
	if (bind(fd, (struct sockaddr *)&address, length) < 0)
		return -errno;
	l->path = xstrdup(path); /* from now on it goes with us */
	if (chmod(path, socket_mode(l)) < 0 || listen(fd, 1024) < 0)
		return -errno;
	return fd_steal(&fd);
}

static int make_directory_of(const char *path)
{
	const char *slash = strrchr(path, '/');
	_cleanup_free_ char *dir = slash && slash != path ? xstrndup(path, (size_t)(slash - path)) : NULL;

	return dir ? dir_make_all(dir, 0755) : 0;
}

static int bind_socket(struct listener *l, const char *path)
{
	struct stat st;
	int fd = make_directory_of(path);

	if (fd < 0)
		return fd;
	/* Another name of a daemon of this user: as its socket. */
	if (lstat(path, &st) == 0 && S_ISLNK(st.st_mode) && st.st_uid == geteuid()) {
		if (is_answered(path))
			return -EADDRINUSE;
		fd_unlink(path);
	}
	/* Before anything is made beside it. */
	if (lstat(path, &st) == 0 && !S_ISSOCK(st.st_mode))
		return -EEXIST;
	if (!*path || strlen(path) >= sizeof((struct sockaddr_un *)NULL)->sun_path)
		return -ENAMETOOLONG;
	l->lock = lock_path(path);
	if (l->lock < 0)
		return l->lock;
	fd = bind_locked(l, path);
	if (fd < 0)
		remove_lock(path);
	return fd;
}

static bool leads_to(const char *alias, const char *path)
{
	char target[sizeof((struct sockaddr_un *)NULL)->sun_path];
	ssize_t n = readlink(alias, target, sizeof target);

	return n == (ssize_t)strlen(path) && !strncmp(target, path, (size_t)n);
}

/* Clients who are not told of our directory find us by it. NULL: they do not. */
static char *make_alias(const char *alias, const char *path)
{
	int r;

	if (leads_to(alias, path))
		return xstrdup(alias);
	r = make_directory_of(alias);
	if (r == 0 && is_answered(alias))
		return NULL; /* another daemon of this user */
	if (r == 0)
		r = fd_unlink(alias);
	if (r == 0 || r == -ENOENT)
		r = symlink(path, alias) < 0 ? -errno : 0;
	if (r < 0)
		log_warn(r, "%s cannot be made: only clients with this XDG_RUNTIME_DIR find the socket", alias);
	return r < 0 ? NULL : xstrdup(alias);
}

int listener_new(struct server *server, int listening, int lock)
{
	struct listener *l = xcalloc(1, sizeof *l);
	char *path = NULL;
	int fd;

	l->server = server;
	l->lock = lock;
	timer_init(&l->again, accept_again, l);
	fd = listening >= 0 ? listening : inherited_socket();
	if (fd >= 0 && !(path = path_of_socket(fd)))
		fd = -EPROTOTYPE;
	if (fd == -1)
		fd = bind_socket(l, server->socket);
	if (path) {
		free(server->socket);
		server->socket = path;
	}
	/* Whatever is configured by now: where it was made; but who may connect is those of now. */
	if (path && lock >= 0) {
		l->path = xstrdup(path);
		listener_permit(l);
	}
	if (fd < 0) {
		listener_free(l);
		return fd;
	}
	if (l->path && server->alias)
		l->alias = make_alias(server->alias, l->path);
	l->source = loop_accept(server->model->loop, fd, on_connection, l);
	server->listener = l;
	return 0;
}

bool listener_is_lost(const struct listener *l)
{
	struct stat st;

	return l->path && lstat(l->path, &st) < 0 && (errno == ENOENT || errno == ENOTDIR);
}

void listener_fds(const struct listener *l, int *fd, int *lock)
{
	*fd = source_fd(l->source);
	*lock = l->lock;
}

struct listener *listener_free(struct listener *l)
{
	if (!l)
		return NULL;
	timer_stop(&l->again);
	source_close(l->source);
	if (l->alias && leads_to(l->alias, l->path))
		fd_unlink(l->alias);
	if (l->path) {
		fd_unlink(l->path);
		remove_lock(l->path);
	}
	fd_close(l->lock);
	free(l->alias);
	free(l->path);
	free(l);
	return NULL;
}
