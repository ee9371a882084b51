/* SPDX-License-Identifier: MIT */
/*
 * Unix sockets in a fixture. An address has room for 107 bytes, and what a socket is bound to is what every process is told that
 * asks for its name. So the kernel gets "/proc/self/fd/N/ID/NAME": N is a descriptor of the directory "s" in the scratch directory,
 * where ID is a link to the directory while the socket is being bound, and "ID-" one to the path that the program gave, for as
 * long as the run lasts: whoever is told such a name gives the program that path.
 */
#include "preload/shim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"
#include "free/free.h"

#define BY_DESCRIPTOR "/proc/self/fd/"
#define PATH_AT offsetof(struct sockaddr_un, sun_path)

/* The path in an address, which need not end with NUL. False: there is none, or none that is shown. */
static bool socket_is_inside(const struct sockaddr *address, socklen_t n, char *path)
{
	const struct sockaddr_un *un = (const struct sockaddr_un *)(const void *)address;

	if (likely(!run) || !address || n <= PATH_AT || n > sizeof *un || un->sun_family != AF_UNIX || !un->sun_path[0])
		return false;
	memcpy(path, un->sun_path, n - PATH_AT);
	path[n - PATH_AT] = '\0';
	return resolve_reach(AT_FDCWD, path) == REACH_INSIDE;
}

/* A socket by the way of a descriptor, which must stay open until the kernel has followed it. */
struct target {
	struct sockaddr_un address;
	int fd;
};

static void end_target(struct target *t)
{
	int saved = errno;

	fd_close(t->fd);
	errno = saved;
}

#define TARGET __attribute__((cleanup(end_target))) struct target

/* 0, or -1 and errno as connect() has it. */
static APART int find_socket(const char *path, struct target *t)
{
	struct resolved p;
	int r = resolve_path(&p, AT_FDCWD, path, USE_READ);
	struct stat st;

	t->address.sun_family = AF_UNIX;
	t->fd = -1;
	if (r < 0)
		return -1;
	if (r == 1 && p.image) {
		/* There is a file, but nobody listens to it. */
		if (stat_place(&p, &st, true) == 0 && rights_allow(&st, W_OK, true) == 0)
			errno = ECONNREFUSED;
		return -1;
	}
	t->fd = REAL(open)(r ? p.path : path, O_PATH | O_CLOEXEC);
	if (t->fd < 0)
		return -1;
	snprintf(t->address.sun_path, sizeof t->address.sun_path, BY_DESCRIPTOR "%d", t->fd);
	return 0;
}

SHIM int connect(int fd, __CONST_SOCKADDR_ARG address, socklen_t n)
{
	char path[sizeof(struct sockaddr_un)];
	TARGET t = { .fd = -1 };

	if (likely(!socket_is_inside(address.__sockaddr__, n, path)))
		return REAL(connect)(fd, address, n);
	return find_socket(path, &t) < 0 ? -1 : REAL(connect)(fd, (struct sockaddr *)&t.address, sizeof t.address);
}
SHIM_ALIAS(__connect, connect);

SHIM ssize_t sendto(int fd, const void *bytes, size_t size, int flags, __CONST_SOCKADDR_ARG address, socklen_t n)
{
	char path[sizeof(struct sockaddr_un)];
	TARGET t = { .fd = -1 };

	if (likely(!socket_is_inside(address.__sockaddr__, n, path)))
		return REAL(sendto)(fd, bytes, size, flags, address, n);
	return find_socket(path, &t) < 0 ? -1 : REAL(sendto)(fd, bytes, size, flags, (struct sockaddr *)&t.address, sizeof t.address);
}

static APART ssize_t send_shown(int fd, const struct msghdr *m, int flags, const char *path)
{
	struct msghdr moved = *m;
	TARGET t = { .fd = -1 };

	if (find_socket(path, &t) < 0)
		return -1;
	moved.msg_name = &t.address;
	moved.msg_namelen = sizeof t.address;
	return REAL(sendmsg)(fd, &moved, flags);
}

SHIM ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
	char path[sizeof(struct sockaddr_un)];

	return likely(!run || !m || !socket_is_inside(m->msg_name, m->msg_namelen, path)) ? REAL(sendmsg)(fd, m, flags)
											  : send_shown(fd, m, flags, path);
}

SHIM int sendmmsg(int fd, struct mmsghdr *messages, unsigned n, int flags)
{
	char path[sizeof(struct sockaddr_un)];
	bool any = false;
	unsigned i;

	for (i = 0; run && i < n && !any; i++)
		any = socket_is_inside(messages[i].msg_hdr.msg_name, messages[i].msg_hdr.msg_namelen, path);
	if (likely(!any))
		return REAL(sendmmsg)(fd, messages, n, flags);
	for (i = 0; i < n; i++) {
		ssize_t sent = SEEN(sendmsg)(fd, &messages[i].msg_hdr, flags);

		if (sent < 0)
			return i ? (int)i : -1;
		messages[i].msg_len = (unsigned)sent;
	}
	return (int)n;
}
SHIM_ALIAS(__sendmmsg, sendmmsg);

/* Where a link of the socket with this number is. */
static bool link_path(char *out, unsigned long id, const char *kind)
{
	return snprintf(out, PATH_MAX, "%s/s/%lx%s", run_string(run->scratch), id, kind) < PATH_MAX;
}

static int socket_make_link(const char *target, unsigned long id, const char *kind)
{
	char link[PATH_MAX];

	if (!link_path(link, id, kind)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	REAL(unlink)(link); /* of a socket that had the number before */
	return REAL(symlink)(target, link);
}

static void remove_link(unsigned long id, const char *kind)
{
	char link[PATH_MAX];
	int saved = errno;

	if (link_path(link, id, kind))
		REAL(unlink)(link);
	errno = saved;
}

/* The directory of the links. */
static int open_links(void)
{
	char path[PATH_MAX];

	snprintf(path, sizeof path, "%s/s", run_string(run->scratch));
	if (REAL(mkdir)(path, 0777) < 0 && errno != EEXIST)
		return -1;
	return REAL(open)(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

/* 0: it is one of ours to name, and has no name yet. */
static int check_unbound(int fd, unsigned long *id)
{
	struct sockaddr_un had;
	socklen_t n = sizeof had;
	struct stat st;

	if (REAL(getsockname)(fd, (struct sockaddr *)&had, &n) < 0 || REAL(fstat)(fd, &st) < 0)
		return -1;
	*id = (unsigned long)st.st_ino;
	if (had.sun_family == AF_UNIX && n <= PATH_AT)
		return 0;
	errno = had.sun_family == AF_UNIX ? EINVAL : EAFNOSUPPORT;
	return -1;
}

/* In the directory `path`, which is cut off at the name; `given` is what the program calls it. */
static int bind_to(int fd, const struct run_entry *e, char *path, const char *given, unsigned long id)
{
	TARGET t = { .address.sun_family = AF_UNIX, .fd = -1 };
	char *name = strrchr(path, '/');
	int r;

	if (!name[1]) {
		errno = ENOENT;
		return -1;
	}
	*name++ = '\0';
	t.fd = open_links();
	if (t.fd < 0)
		return -1;
	if (snprintf(t.address.sun_path, sizeof t.address.sun_path, BY_DESCRIPTOR "%d/%lx/%s", t.fd, id, name) >=
	    (int)sizeof t.address.sun_path)
		return shim_refuse(e, given, "bind");
	if (socket_make_link(given, id, "-") < 0)
		return -1;
	r = socket_make_link(*path ? path : "/", id, "");
	if (r == 0)
		r = REAL(bind)(fd, (struct sockaddr *)&t.address, sizeof t.address);
	remove_link(id, "");
	if (r < 0)
		remove_link(id, "-");
	return r;
}

/* A change, as mknod() would be. */
static APART int bind_shown(int fd, const struct sockaddr *address, socklen_t n, const char *path)
{
	int saved = errno, r;
	unsigned long id;
	struct resolved p;

	if (check_unbound(fd, &id) < 0)
		return -1;
	r = place_to_make(&p, AT_FDCWD, path);
	if (r == 0)
		return REAL(bind)(fd, address, n);
	if (r < 0) {
		errno = errno == EEXIST ? EADDRINUSE : errno;
		return -1;
	}
	r = bind_to(fd, p.entry, p.path, path, id);
	if (r == 0)
		errno = saved;
	return r;
}

SHIM int bind(int fd, __CONST_SOCKADDR_ARG address, socklen_t n)
{
	char path[sizeof(struct sockaddr_un)];

	return likely(!socket_is_inside(address.__sockaddr__, n, path)) ? REAL(bind)(fd, address, n)
									: bind_shown(fd, address.__sockaddr__, n, path);
}

/* Names that the kernel gave: as the program that bound the socket called it. */

static APART void make_visible(struct sockaddr_un *un, socklen_t room, socklen_t *n)
{
	char start[sizeof un->sun_path + 1] = "", link[PATH_MAX], given[sizeof un->sun_path + 1], *id;
	int saved = errno;
	ssize_t length;

	memcpy(start, un->sun_path, (*n < room ? *n : room) - PATH_AT);
	id = strchr(start + strlen(BY_DESCRIPTOR), '/');
	if (!id || !link_path(link, strtoul(id + 1, NULL, 16), "-"))
		return;
	length = REAL(readlink)(link, given, sizeof given - 1);
	errno = saved;
	if (length < 0)
		return;
	given[length] = '\0';
	*n = (socklen_t)(PATH_AT + (size_t)length + 1);
	memcpy(un->sun_path, given, (*n < room ? *n : room) - PATH_AT);
}

/* `room` bytes at most were written, `*n` are in the name. */
static inline void correct_name(void *address, socklen_t room, socklen_t *n)
{
	struct sockaddr_un *un = address;
	socklen_t length = *n < room ? *n : room;

	if (length > PATH_AT + strlen(BY_DESCRIPTOR) && un->sun_family == AF_UNIX &&
	    !memcmp(un->sun_path, BY_DESCRIPTOR, strlen(BY_DESCRIPTOR)))
		make_visible(un, room, n);
}

/* The real function with room for a whole name; then as much of it as the program has asked for. */
#define WITH_NAME(address, n, call_real, call_whole)                                   \
	do {                                                                           \
		struct sockaddr_storage whole = { 0 };                                 \
		socklen_t length = sizeof whole;                                       \
		__typeof__(call_real) r_;                                              \
		if (likely(!run) || !(address).__sockaddr__ || !(n) || *(n) > INT_MAX) \
			return call_real;                                              \
		r_ = call_whole;                                                       \
		if (r_ < 0)                                                            \
			return r_;                                                     \
		correct_name(&whole, sizeof whole, &length);                           \
		memcpy((address).__sockaddr__, &whole, length < *(n) ? length : *(n)); \
		*(n) = length;                                                         \
		return r_;                                                             \
	} while (0)

#define WHOLE (struct sockaddr *)&whole, &length

SHIM int getsockname(int fd, __SOCKADDR_ARG address, socklen_t *restrict n)
{
	WITH_NAME(address, n, REAL(getsockname)(fd, address, n), REAL(getsockname)(fd, WHOLE));
}

SHIM int getpeername(int fd, __SOCKADDR_ARG address, socklen_t *restrict n)
{
	WITH_NAME(address, n, REAL(getpeername)(fd, address, n), REAL(getpeername)(fd, WHOLE));
}

SHIM int accept(int fd, __SOCKADDR_ARG address, socklen_t *restrict n)
{
	WITH_NAME(address, n, REAL(accept)(fd, address, n), REAL(accept)(fd, WHOLE));
}

SHIM int accept4(int fd, __SOCKADDR_ARG address, socklen_t *restrict n, int flags)
{
	WITH_NAME(address, n, REAL(accept4)(fd, address, n, flags), REAL(accept4)(fd, WHOLE, flags));
}

SHIM ssize_t recvfrom(int fd, void *restrict bytes, size_t size, int flags, __SOCKADDR_ARG address, socklen_t *restrict n)
{
	WITH_NAME(address, n, REAL(recvfrom)(fd, bytes, size, flags, address, n), REAL(recvfrom)(fd, bytes, size, flags, WHOLE));
}

ssize_t __recvfrom_chk(int fd, void *bytes, size_t size, size_t room, int flags, __SOCKADDR_ARG address, socklen_t *n);

SHIM ssize_t __recvfrom_chk(int fd, void *bytes, size_t size, size_t room, int flags, __SOCKADDR_ARG address, socklen_t *n)
{
	return size > room ? REAL(__recvfrom_chk)(fd, bytes, size, room, flags, address, n)
			   : SEEN(recvfrom)(fd, bytes, size, flags, address, n);
}

/* Descriptors of other processes: nobody knows what they are. */
static void forget_received(struct msghdr *m)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; CMSG_LEN((i + 1) * sizeof(int)) <= c->cmsg_len; i++) {
			int got;

			memcpy(&got, CMSG_DATA(c) + i * sizeof got, sizeof got);
			fd_cache_closed(got);
		}
	}
}

SHIM ssize_t recvmsg(int fd, struct msghdr *m, int flags)
{
	socklen_t room = m ? m->msg_namelen : 0;
	ssize_t n;

	scatter_message(m, __builtin_return_address(0));
	n = REAL(recvmsg)(fd, m, flags);
	if (likely(n < 0 || !run))
		return n;
	forget_received(m);
	if (m->msg_name)
		correct_name(m->msg_name, room, &m->msg_namelen);
	return n;
}

#define MESSAGES_MAX 1024 /* more the kernel does not take at a time */

static APART int recvmmsg_here(int fd, struct mmsghdr *messages, unsigned n, int flags, struct timespec *timeout)
{
	socklen_t rooms[MESSAGES_MAX];
	int got;

	n = n < MESSAGES_MAX ? n : MESSAGES_MAX;
	for (unsigned i = 0; i < n; i++)
		rooms[i] = messages[i].msg_hdr.msg_namelen;
	got = REAL(recvmmsg)(fd, messages, n, flags, timeout);
	for (int i = 0; i < got; i++) {
		forget_received(&messages[i].msg_hdr);
		if (messages[i].msg_hdr.msg_name)
			correct_name(messages[i].msg_hdr.msg_name, rooms[i], &messages[i].msg_hdr.msg_namelen);
	}
	return got;
}

SHIM int recvmmsg(int fd, struct mmsghdr *messages, unsigned n, int flags, struct timespec *timeout)
{
	for (unsigned i = 0; i < n; i++)
		scatter_message(&messages[i].msg_hdr, __builtin_return_address(0));
	return run ? recvmmsg_here(fd, messages, n, flags, timeout) : REAL(recvmmsg)(fd, messages, n, flags, timeout);
}
