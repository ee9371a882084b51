/* SPDX-License-Identifier: MIT */
/* Forks of a template, of the one who asks for them. The other side is checkpoint.c. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "client/connection.h"
#include "client/extend.h"
#include "client/view.h"
#include "fixd.h"
#include "image/memfd.h"
#include "wire/fork.h"
#include "wire/socket.h"

#define OPTIONS_SIZE_0 (offsetof(struct fixd_fork_options, fds) + sizeof(const int *))
/* Between two tries when the template cannot fork for a moment. */
#define AGAIN_MS_MIN 5
#define AGAIN_MS_MAX 200

extern char **environ;

struct fixd_process {
	struct fixd *fixd;
	struct fixd_view *view; /* of the template, which must not end before */
	int fd, pidfd;
	pid_t pid;
	bool over; /* its end was told */
	int status;
};

/* The strings with their zeros, one behind the other. */
static int text_of(char *const *args, char *const *environment, struct fork_call *head)
{
	char *const *lists[] = { args, environment };
	size_t size = 0;
	char *text, *p;
	int fd;

	for (size_t i = 0; i < 2; i++) {
		for (char *const *s = lists[i]; s && *s; s++) {
			size += strlen(*s) + 1;
			head->n_args += i == 0;
		}
	}
	if (size > FORK_TEXT_MAX)
		return -E2BIG;
	text = p = malloc(size + 1);
	if (!text)
		return -ENOMEM;
	for (size_t i = 0; i < 2; i++) {
		for (char *const *s = lists[i]; s && *s; s++)
			p = stpcpy(p, *s) + 1;
	}
	head->text_size = (uint32_t)size;
	fd = memfd_from_bytes("fixd:fork", text, size);
	free(text);
	return fd;
}

/* Without changing it, which other threads would notice. */
static uint32_t own_umask(void)
{
	char line[256];
	unsigned mask = 022;
	FILE *f = fopen("/proc/self/status", "re");

	while (f && fgets(line, sizeof line, f) && sscanf(line, "Umask: %o", &mask) != 1)
		;
	if (f)
		fclose(f);
	return mask;
}

static uint64_t ignored_signals(void)
{
	uint64_t all = 0;

	for (int signal = 1; signal < SIGRTMIN; signal++) {
		struct sigaction a;

		if (sigaction(signal, NULL, &a) == 0 && a.sa_handler == SIG_IGN)
			all |= UINT64_C(1) << (signal - 1);
	}
	return all;
}

static int describe(const struct fixd_fork_options *o, struct fork_call *head, int fds[FORK_FDS])
{
	static const int own[] = { 0, 1, 2 };

	*head = (struct fork_call){
		.version = FORK_VERSION,
		.flags = o->flags & FIXD_FORK_TERMINAL ? FORK_TERMINAL : 0,
		.umask = own_umask(),
		.ignored = ignored_signals(),
	};
	for (int i = 0; i < RLIM_NLIMITS; i++) {
		struct rlimit l = { .rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY };

		getrlimit((__rlimit_resource_t)i, &l);
		head->limits[i].soft = l.rlim_cur;
		head->limits[i].hard = l.rlim_max;
	}
	memcpy(fds + FORK_FD_IN, o->fds ? o->fds : own, 3 * sizeof *fds);
	fds[FORK_FD_TEXT] = text_of(o->args, o->environment ? o->environment : environ, head);
	if (fds[FORK_FD_TEXT] < 0)
		return fds[FORK_FD_TEXT];
	fds[FORK_FD_DIRECTORY] = open(o->directory ? o->directory : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fds[FORK_FD_DIRECTORY] < 0 ? -errno : 0;
}

static int ms_until(int64_t deadline)
{
	int64_t ms = deadline - connection_now_ms();

	return ms < 0 ? 0 : ms > INT_MAX ? INT_MAX : (int)ms;
}

/* A template that does not run accepts nobody, and its queue may be full: that is waited for no longer than for an answer. */
static int connect_to(const char *path, int64_t deadline)
{
	_cleanup_fd_ int fd = fd_above_standard(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
	int ms = ms_until(deadline) + 1; /* none at all would mean no limit */
	const struct timeval limit = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };
	struct sockaddr_storage address;
	socklen_t n;
	int r = fd < 0 ? fd : socket_address(path, &address, &n);

	if (r < 0)
		return r;
	if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) < 0)
		return -errno;
	while (connect(fd, (struct sockaddr *)&address, n) < 0) {
		if (errno == EAGAIN || (errno == EINTR && ms_until(deadline) == 0))
			return -ETIMEDOUT;
		if (errno != EINTR)
			return -errno;
	}
	/* Where it listens was said by the daemon; what is asked with is told to nobody else. */
	return socket_is_of_user(fd) ? fd_steal(&fd) : -EPERM;
}

/* 0, with its pid and pidfd; or what the template says, with its sentence. */
static int fork_take_answer(struct fixd_process *p, const char *name, int64_t deadline)
{
	char packet[sizeof(struct fork_answer) + FORK_SENTENCE_MAX];
	struct pollfd ready = { .fd = p->fd, .events = POLLIN };
	struct fork_answer a;
	size_t n_fds = 1;
	ssize_t n;

	while ((n = poll(&ready, 1, ms_until(deadline))) < 0 && errno == EINTR)
		;
	if (n == 0)
		return fixd_fail_with(p->fixd, -ETIMEDOUT, "the template '%s' does not answer", name);
	do {
		n = socket_receive(p->fd, packet, sizeof packet, &p->pidfd, &n_fds, 0);
	} while (n == -EINTR);
	if (n < (ssize_t)sizeof a)
		return n < 0 && n != -ECONNRESET
			       ? fixd_fail_with(p->fixd, (int)n, "the answer of '%s' cannot be received: %s", name, strerror((int)-n))
			       : -ECONNRESET;
	memcpy(&a, packet, sizeof a);
	if (a.error < 0)
		return fixd_fail_with(p->fixd, a.error, "'%s' cannot be forked: %.*s: %s", name, (int)((size_t)n - sizeof a),
				      packet + sizeof a, strerror(-a.error));
	p->pid = (pid_t)a.pid;
	return 0;
}

/* The value of the image is where it listens. */
static int socket_of(struct fixd *f, const char *name, const struct fixd_view *v, char *path, size_t size)
{
	size_t n = fixd_view_size(v);
	const char *data = fixd_view_data(v);

	if (n > strlen("/" FORK_SOCKET) && n < size && *data == '/' && !memchr(data, 0, n) &&
	    !memcmp(data + n - strlen("/" FORK_SOCKET), "/" FORK_SOCKET, strlen("/" FORK_SOCKET))) {
		memcpy(path, data, n);
		path[n] = '\0';
		return 0;
	}
	return fixd_fail_with(f, -EINVAL, "'%s' is no template; expected a fixture with 'process ='", name);
}

/* One try. -ECONNRESET: it has ended meanwhile. */
static int ask(struct fixd_process *p, const char *name, const struct fixd_fork_options *o, int64_t deadline)
{
	char path[SOCKET_PATH_MAX + 1];
	int fds[FORK_FDS] = { -1, -1, -1, -1, -1 }, r = socket_of(p->fixd, name, p->view, path, sizeof path);
	struct fork_call head;

	if (r < 0)
		return r;
	r = describe(o, &head, fds);
	if (r < 0)
		fixd_fail_with(p->fixd, r, "the fork of '%s' cannot be asked for: %s", name, strerror(-r));
	if (r == 0) {
		p->fd = r = connect_to(path, deadline);
		if (r == -EACCES || r == -EPERM)
			r = fixd_fail_with(p->fixd, -EPERM, "the template '%s' runs as another user, and only that user may fork it", name);
		else if (r == -ETIMEDOUT)
			r = fixd_fail_with(p->fixd, r, "the template '%s' does not answer", name);
		else if (r < 0)
			r = r == -ECONNREFUSED || r == -ENOENT
				    ? -ECONNRESET
				    : fixd_fail_with(p->fixd, r, "the template '%s' cannot be reached: %s", name, strerror(-r));
	}
	if (r >= 0) {
		r = socket_send(p->fd, &head, sizeof head, fds, FORK_FDS, 0);
		r = r < 0 ? -ECONNRESET : fork_take_answer(p, name, deadline);
	}
	fd_close(fds[FORK_FD_TEXT]);
	fd_close(fds[FORK_FD_DIRECTORY]);
	if (r < 0)
		p->fd = fd_close(p->fd);
	return r;
}

/* As long as there is time and hope. */
static int ask_until(struct fixd_process *p, const char *name, const struct fixd_fork_options *o, int64_t deadline)
{
	int r, ms = AGAIN_MS_MIN;

	while ((r = ask(p, name, o, deadline)) < 0 && is_passing(r) && ms_until(deadline) > 0) {
		poll(NULL, 0, ms < ms_until(deadline) ? ms : ms_until(deadline));
		ms = ms * 2 < AGAIN_MS_MAX ? ms * 2 : AGAIN_MS_MAX;
	}
	return r;
}

static int options_check(struct fixd *f, const struct fixd_fork_options *given, struct fixd_fork_options *o)
{
	static const struct fixd_fork_options none = { .size = sizeof none };
	int r = struct_extend(o, sizeof *o, OPTIONS_SIZE_0, given ? given : &none);

	if (r < 0)
		return fixd_fail_with(f, r, "fixd_fork_options.size is %zu: expected sizeof(struct fixd_fork_options)", given->size);
	if (o->flags & ~(unsigned)FIXD_FORK_TERMINAL)
		return fixd_fail_with(f, -EINVAL, "fixd_fork_options.flags has bits that are not known here: 0x%x", o->flags);
	if (o->timeout_ms < FIXD_TIMEOUT_NONE)
		return fixd_fail_with(
			f, -EINVAL,
			"fixd_fork_options.timeout_ms is %d: expected a number of ms, FIXD_TIMEOUT_DEFAULT or FIXD_TIMEOUT_NONE",
			o->timeout_ms);
	return 0;
}

/* -ECONNRESET, -ESTALE: it has ended or is stale, and there is time for another one, which the daemon knows of soon. */
static int try(struct fixd_process *p, const char *name, const struct fixd_options *attach, const struct fixd_fork_options *o,
	       int64_t deadline)
{
	int r = fixd_attach(p->fixd, name, attach, &p->view);

	if (r == 0)
		r = ask_until(p, name, o, deadline);
	if ((r != -ECONNRESET && r != -ESTALE) || !p->view)
		return r == -ECONNRESET ? -ECONNREFUSED : r;
	fixd_detach(p->view);
	p->view = NULL;
	if (ms_until(deadline) == 0)
		return fixd_fail_with(p->fixd, -ETIMEDOUT, "the template '%s' has ended, or is stale, again and again", name);
	poll(NULL, 0, AGAIN_MS_MIN);
	return r;
}

int fixd_fork(struct fixd *f, const char *name, const struct fixd_fork_options *options, struct fixd_process **out)
{
	struct fixd_fork_options o;
	struct fixd_options attach = { .size = sizeof attach };
	struct fixd_process *p;
	int64_t deadline;
	int r = options_check(f, options, &o);

	*out = NULL;
	if (r < 0)
		return r;
	p = calloc(1, sizeof *p);
	if (!p)
		return fixd_fail_with(f, -ENOMEM, "no memory");
	*p = (struct fixd_process){ .fixd = f, .fd = -1, .pidfd = -1 };
	attach.timeout_ms = o.timeout_ms;
	attach.scope_key = o.scope_key;
	deadline = connection_now_ms() + (o.timeout_ms == FIXD_TIMEOUT_NONE ? TIMEOUT_MAX_MS
					  : o.timeout_ms		    ? o.timeout_ms
									    : connection_timeout());
	do
		r = try(p, name, &attach, &o, deadline);
	while (r == -ECONNRESET || r == -ESTALE);
	if (r < 0) {
		fixd_process_close(p);
		return r;
	}
	*out = p;
	return 0;
}

pid_t fixd_process_id(const struct fixd_process *p)
{
	return p->pid;
}

int fixd_process_pidfd(const struct fixd_process *p)
{
	return p->pidfd;
}

int fixd_process_fd(const struct fixd_process *p)
{
	return p->fd;
}

int fixd_process_wait(struct fixd_process *p, int timeout_ms, int *status)
{
	struct pollfd ready = { .fd = p->fd, .events = POLLIN };
	struct fork_event e;
	size_t none = 0;
	ssize_t n;
	int r;

	*status = p->status;
	if (p->over)
		return 0;
	r = poll(&ready, 1, timeout_ms);
	if (r <= 0)
		return r == 0 ? -ETIMEDOUT : -errno;
	n = socket_receive(p->fd, &e, sizeof e, NULL, &none, 0);
	if (n == -EINTR)
		return -EINTR;
	if (n != sizeof e)
		return fixd_fail_with(p->fixd, -ECONNRESET, "the template has ended, and its forks with it");
	*status = p->status = e.status;
	p->over = !WIFSTOPPED(e.status) && !WIFCONTINUED(e.status);
	return 0;
}

int fixd_process_kill(struct fixd_process *p, int signal)
{
	struct fork_signal s = { .signal = signal };
	int r = p->over ? -ESRCH : socket_send(p->fd, &s, sizeof s, NULL, 0, MSG_DONTWAIT);

	return r == -EPIPE || r == -ECONNRESET ? -ESRCH : r;
}

void fixd_process_close(struct fixd_process *p)
{
	if (!p)
		return;
	fd_close(p->fd); /* which kills it */
	fd_close(p->pidfd);
	fixd_detach(p->view);
	free(p);
}
