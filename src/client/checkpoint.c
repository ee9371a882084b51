/* SPDX-License-Identifier: MIT */
/*
 * A template: this process, from its checkpoint on. It forks for whoever of its user connects, and tells what becomes of each fork.
 *
 * Promises: who hangs up has its fork killed, with its process group; no fork outlives the template, or has one of its descriptors;
 * a caller that says something wrong or nothing at all is refused or waits, and harms nobody; the template waits without turning.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/process.h"
#include "client/connection.h"
#include "client/coverage.h"
#include "client/extend.h"
#include "client/forked.h"
#include "client/hazards.h"
#include "client/loaded.h"
#include "client/mapping.h"
#include "client/spare.h"
#include "fixd.h"
#include "wire/socket.h"

#define CHECKPOINT_SIZE_0 (offsetof(struct fixd_checkpoint, files) + sizeof(const char *const *))
#define CALLERS_MAX 512
/* A spare fork is made when nothing was heard for so long, so that it does not compete with the fork that was made last. */
#define QUIET_MS 10
#define AUDIT_FAILED 70 /* EX_SOFTWARE of sysexits.h */

/* Of the template, what it has to do with one caller. */
struct caller {
	int fd;
	bool asked;
	pid_t fork; /* 0: there is none yet, or it has ended */
};

struct template
{
	const struct fixd_checkpoint *how;
	int listener, signals, notify;
	bool stale;   /* its helper knows it */
	bool threads; /* it has others than this one */
	struct spare spare;
	int spare_in; /* when nothing is heard for so many ms, another one is made; -1: none is wanted */
	struct caller callers[CALLERS_MAX];
	size_t n_callers;
	struct pollfd polled[CALLERS_MAX + 2];
	struct sigaction children; /* as the program had it, like the next */
	sigset_t mask;
};

/* That of the process, until it ends. */
static struct template template;
/* A second checkpoint, and one in a fork, is none. */
static bool passed;

__attribute__((format(printf, 2, 3))) static int here_fails(int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(connection_open_error, sizeof connection_open_error, fmt, ap);
	va_end(ap);
	return err;
}

static int listen_at(const char *path)
{
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_storage address;
	socklen_t n;
	int r = fd < 0 ? -errno : socket_address(path, &address, &n);

	if (r < 0)
		return r;
	if (unlink(path) < 0 && errno != ENOENT)
		return -errno;
	if (bind(fd, (struct sockaddr *)&address, n) < 0 || chmod(path, 0600) < 0 || listen(fd, SOMAXCONN) < 0)
		return -errno;
	return fd_steal(&fd);
}

static int notify_connect(void)
{
	const char *name = getenv("NOTIFY_SOCKET");
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	size_t n = name ? strlen(name) : 0;

	if (fd < 0)
		return -errno;
	if (n < 2 || n > sizeof address.sun_path)
		return -EINVAL;
	memcpy(address.sun_path, name, n);
	if (*name == '@')
		address.sun_path[0] = '\0';
	return connect(fd, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)) < 0 ? -errno
														     : fd_steal(&fd);
}

/* To its helper, as sd_notify(3) does it. */
static int notify(const struct template *t, const char *message)
{
	while (send(t->notify, message, strlen(message), MSG_NOSIGNAL) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return 0;
}

/* Those that ask it to end, and that of its children. */
static sigset_t heard(void)
{
	static const int all[] = { SIGCHLD, SIGTERM, SIGINT, SIGQUIT, SIGHUP };
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		sigaddset(&set, all[i]);
	return set;
}

static int template_begin(struct template *t, const char *path)
{
	struct sigaction children = { .sa_handler = SIG_DFL };
	sigset_t set = heard();
	int r = forked_note_environment();

	if (r < 0)
		return here_fails(r, "the environment cannot be read: %s", strerror(-r));
	r = loaded_note(t->how->files);
	if (r < 0)
		return here_fails(r, "what was loaded cannot be found out: %s", strerror(-r));
	coverage_find();
	t->listener = listen_at(path);
	if (t->listener < 0)
		return here_fails(t->listener, "the template cannot listen at %s: %s", path, strerror(-t->listener));
	if (sigaction(SIGCHLD, &children, &t->children) < 0 || sigprocmask(SIG_BLOCK, &set, &t->mask) < 0 ||
	    (t->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK)) < 0)
		return here_fails(-errno, "the template cannot be set up: %s", strerror(errno));
	t->notify = notify_connect();
	r = t->notify < 0 ? t->notify : notify(t, "READY=1");
	return r < 0 ? here_fails(r, "the daemon cannot be told of the checkpoint ($NOTIFY_SOCKET): %s", strerror(-r)) : 0;
}

static void answer(const struct caller *c, int err, pid_t pid, const char *sentence)
{
	char packet[sizeof(struct fork_answer) + FORK_SENTENCE_MAX];
	struct fork_answer a = { .error = err, .pid = (uint32_t)pid };
	_cleanup_fd_ int pidfd = err ? -1 : process_open(pid);
	size_t n = sentence ? strnlen(sentence, FORK_SENTENCE_MAX) : 0;

	memcpy(packet, &a, sizeof a);
	if (n)
		memcpy(packet + sizeof a, sentence, n);
	/* One that does not take it hangs up, or has hung up. */
	socket_send(c->fd, packet, sizeof a + n, &pidfd, pidfd >= 0, MSG_DONTWAIT);
}

static void kill_fork(const struct caller *c, int signal)
{
	/* Of a session of its own the group is there a little later. */
	if (kill(-c->fork, signal) < 0)
		kill(c->fork, signal);
}

/* The last one takes its place, once its fork has ended and was waited for: until then it has no descriptor. */
static void caller_drop(struct template *t, size_t i)
{
	struct caller *c = &t->callers[i];

	c->fd = fd_close(c->fd);
	if (c->fork)
		kill_fork(c, SIGKILL);
	else
		*c = t->callers[--t->n_callers];
}

/* At the end of a fork, instead of the handlers and destructors that belong to the template. */
static void finish(int status, void *arg)
{
	(void)arg;
	fflush(NULL);
	coverage_write();
	_exit(status);
}

static void close_template(struct template *t)
{
	for (size_t i = 0; i < t->n_callers; i++)
		fd_close(t->callers[i].fd);
	t->n_callers = 0;
	t->listener = fd_close(t->listener);
	t->signals = fd_close(t->signals);
	t->notify = fd_close(t->notify);
	hazards_drop_daemon();
}

static void restore_signals(const struct template *t)
{
	sigaction(SIGCHLD, &t->children, NULL);
	sigprocmask(SIG_SETMASK, &t->mask, NULL);
}

/* As fork(2). */
static pid_t fork_template(const struct template *t)
{
	const struct fixd_checkpoint *how = t->how;
	pid_t pid;
	int err;

	fflush(NULL);
	if (how->before)
		how->before(how->arg);
	pid = how->fork ? how->fork(how->arg) : fork();
	err = errno;
	if (pid != 0 && how->parent)
		how->parent(how->arg);
	errno = err;
	return pid;
}

/* In the fork, which has closed what is the template's. */
static int become_fork(const struct template *t, struct call *what, pid_t parent)
{
	const struct fixd_checkpoint *how = t->how;

	restore_signals(t);
	forked_become(what, parent);
	mapping_allow_writes();
	if (!(how->flags & FIXD_INHERIT_ATEXIT))
		on_exit(finish, NULL);
	call_close(what);
	if (how->child)
		how->child(how->arg);
	return FIXD_FORKED;
}

/* One that does something around a fork does it for a fork that is wanted; and what other threads change is to be as it is then. */
static bool wants_spare(const struct template *t)
{
	return !t->spare.pid && !t->threads && !t->how->before && !t->how->parent;
}

/* FIXD_FORKED in what was a spare one, when it is given away; else 0. That there is none now harms nobody. */
static int make_spare(struct template *t, struct call *what)
{
	pid_t self = getpid(), pid;
	int ends[2];

	t->spare_in = -1;
	if (t->spare.pid || spare_prepare(ends) < 0)
		return 0;
	pid = fork_template(t);
	if (pid != 0) {
		spare_keep(&t->spare, pid, ends);
		return 0;
	}
	fd_close(ends[0]);
	close_template(t);
	spare_wait(ends[1], self, what);
	return become_fork(t, what, self);
}

static int fork_for(struct template *t, struct caller *c, struct call *what)
{
	pid_t self = getpid(), pid = spare_give(&t->spare, what);

	if (!pid)
		pid = fork_template(t);
	if (pid == 0) {
		t->spare.fd = fd_close(t->spare.fd);
		close_template(t);
		return become_fork(t, what, self);
	}
	if (wants_spare(t))
		t->spare_in = QUIET_MS;
	if (pid < 0) {
		answer(c, -errno, 0, "the template cannot fork now");
		return 0;
	}
	if (!(what->head.flags & FORK_TERMINAL))
		setpgid(pid, pid); /* both do it: it is there whoever comes first */
	c->fork = pid;
	answer(c, 0, pid, NULL);
	return 0;
}

/* Those who have forks keep them; nobody gets another one. False, with a sentence. */
static bool is_current(struct template *t, char wrong[FORK_SENTENCE_MAX])
{
	const char *path = loaded_changed();
	char message[FORK_SENTENCE_MAX + 32];

	if (!path)
		return true;
	snprintf(wrong, FORK_SENTENCE_MAX, "it has loaded %s, which has changed", path);
	snprintf(message, sizeof message, "STOPPING=1\nSTATUS=%s", wrong);
	if (!t->stale)
		t->stale = notify(t, message) == 0;
	return false;
}

/* The first message of a caller asks for the fork. FIXD_FORKED there, with the call; else 0, or -ENOTCONN: it is to be dropped. */
static int caller_take_call(struct template *t, struct caller *c, struct call *what)
{
	char wrong[FORK_SENTENCE_MAX];
	int r = call_receive(c->fd, what, wrong);

	if (r == -EAGAIN)
		return 0;
	c->asked = true;
	if (r == 0 && !is_current(t, wrong))
		r = -ESTALE;
	if (r == 0)
		r = fork_for(t, c, what);
	else if (r != -ENOTCONN)
		answer(c, r, 0, wrong);
	if (r != FIXD_FORKED)
		call_deinit(what);
	return r < 0 ? -ENOTCONN : r;
}

/* Those that come later send it signals. */
static int take_signal(struct caller *c)
{
	struct fork_signal s;
	size_t none = 0;
	ssize_t n = socket_receive(c->fd, &s, sizeof s, NULL, &none, MSG_DONTWAIT);

	if (n == -EAGAIN || n == -EINTR)
		return 0;
	if (n != sizeof s)
		return -ENOTCONN;
	if (c->fork && s.signal > 0 && s.signal < NSIG)
		kill_fork(c, s.signal);
	return 0;
}

static void accept_callers(struct template *t)
{
	while (t->n_callers < CALLERS_MAX) {
		struct caller c = { .fd = accept4(t->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK) };
		char wrong[FORK_SENTENCE_MAX];

		if (c.fd < 0)
			return;
		if (!socket_is_of_user(c.fd)) {
			snprintf(wrong, sizeof wrong, "the template runs as user %u, and only that user may fork it", (unsigned)geteuid());
			answer(&c, -EPERM, 0, wrong);
			c.asked = true; /* what it asks is read and not looked at: closed before, the answer would be lost */
		}
		t->callers[t->n_callers++] = c;
	}
}

/* What has become of its fork. False: it does not take what it is told, and would wait for it. */
static bool tell_caller(struct template *t, struct caller *c)
{
	struct fork_event e;

	while (c->fork && waitpid(c->fork, &e.status, WNOHANG | WUNTRACED | WCONTINUED) == c->fork) {
		if (!WIFSTOPPED(e.status) && !WIFCONTINUED(e.status)) {
			c->fork = 0;
			if (wants_spare(t))
				t->spare_in = 0;
		}
		if (socket_send(c->fd, &e, sizeof e, NULL, 0, MSG_DONTWAIT) < 0)
			return false;
	}
	return true;
}

/* SIGCHLD says that something has become of some. */
static void reap(struct template *t)
{
	spare_reap(&t->spare);
	for (size_t i = t->n_callers; i-- > 0;) {
		if (!tell_caller(t, &t->callers[i]))
			caller_drop(t, i);
	}
}

/* True: it is asked to end. */
static bool take_signals(struct template *t)
{
	struct signalfd_siginfo info;
	bool ends = false;

	while (read(t->signals, &info, sizeof info) == sizeof info)
		ends |= info.ssi_signo != SIGCHLD;
	reap(t);
	return ends;
}

/* False: nothing was heard for so long that a spare fork is to be made. */
static bool wait_for_something(struct template *t)
{
	int n;

	t->polled[0] = (struct pollfd){ .fd = t->signals, .events = POLLIN };
	t->polled[1] = (struct pollfd){ .fd = t->n_callers < CALLERS_MAX ? t->listener : -1, .events = POLLIN };
	for (size_t i = 0; i < t->n_callers; i++)
		t->polled[2 + i] = (struct pollfd){ .fd = t->callers[i].fd, .events = POLLIN };
	n = poll(t->polled, 2 + t->n_callers, t->spare_in);
	if (n < 0)
		memset(t->polled, 0, sizeof t->polled); /* interrupted: nothing is known */
	return n != 0;
}

/* A hook that closes what it does not know, or one of pthread_atfork(3), leaves a template that nobody can reach. */
static void check_own(const struct template *t)
{
	if (!((t->polled[0].revents | t->polled[1].revents) & (POLLNVAL | POLLERR | POLLHUP)))
		return;
	dprintf(2,
		"fixd: checkpoint: the descriptors of the template were closed by what is called around a fork (before, parent, pthread_atfork()): "
		"expected that it closes what it has opened\n");
	exit(AUDIT_FAILED);
}

/* Until it is asked to end, or in a fork, with its call. */
static int serve(struct template *t, struct call *what)
{
	for (;;) {
		if (!wait_for_something(t) && make_spare(t, what) == FIXD_FORKED)
			return FIXD_FORKED;
		check_own(t);
		/* From the end: what is dropped has the last one in its place, which had its turn. */
		for (size_t i = t->n_callers; i-- > 0;) {
			struct caller *c = &t->callers[i];
			int r;

			if (!t->polled[2 + i].revents)
				continue;
			r = c->asked ? take_signal(c) : caller_take_call(t, c, what);
			if (r == FIXD_FORKED)
				return r;
			if (r < 0)
				caller_drop(t, i);
		}
		if (t->polled[0].revents && take_signals(t))
			return FIXD_TEMPLATE_ENDS;
		if (t->polled[1].revents)
			accept_callers(t);
	}
}

static int take_arguments(const struct call *c, int *argc, char ***argv)
{
	char **all;

	if (!argc || !argv)
		return 0;
	all = calloc((size_t)c->head.n_args + 2, sizeof *all);
	if (!all)
		_exit(AUDIT_FAILED);
	all[0] = *argc > 0 ? (*argv)[0] : NULL;
	if (!all[0])
		all[0] = program_invocation_name;
	memcpy(all + 1, c->args, c->head.n_args * sizeof *all);
	*argc = (int)c->head.n_args + 1;
	*argv = all;
	return 0;
}

/* The forks still running go with it: they are told by the kernel. */
static int template_end(struct template *t)
{
	for (size_t i = t->n_callers; i-- > 0;)
		caller_drop(t, i);
	spare_end(&t->spare);
	close_template(t);
	restore_signals(t);
	if (t->how->flags & FIXD_RETURN_AT_END)
		return FIXD_TEMPLATE_ENDS;
	exit(EXIT_SUCCESS);
}

static void audit(const struct fixd_checkpoint *how)
{
	const char *fixture = getenv("FIXD_FIXTURE");
	unsigned n;

	fflush(NULL);
	n = hazards_tell(getenv(FORK_AUDIT), how->keep_fds, how->n_keep_fds);
	if (!n)
		return;
	dprintf(2,
		"fixd: checkpoint: what is told above does not survive a fork: end or close it before, or allow it (audit = KIND:allow in "
		"[fixture %s])\n",
		fixture ? fixture : "...");
	exit(AUDIT_FAILED);
}

static bool has_threads(void)
{
	struct stat st;

	/* "." and "..", and one for each. */
	return stat("/proc/self/task", &st) == 0 && st.st_nlink > 3;
}

static bool checkpoint_is_wanted(const char *path)
{
	const char *disabled = getenv("FIXD_DISABLE");

	return !passed && path && *path && !(disabled && !strcmp(disabled, "1"));
}

int fixd_fork_here(int *argc, char ***argv, const struct fixd_checkpoint *given)
{
	static const struct fixd_checkpoint none = { .size = sizeof none };
	static struct fixd_checkpoint how;
	const char *path = getenv(FORK_TEMPLATE);
	struct call what;
	int r = struct_extend(&how, sizeof how, CHECKPOINT_SIZE_0, given ? given : &none);

	if (r < 0)
		return here_fails(r, "fixd_checkpoint.size is %zu: expected sizeof(struct fixd_checkpoint)", given->size);
	if (how.flags & ~(unsigned)(FIXD_INHERIT_ATEXIT | FIXD_RETURN_AT_END))
		return here_fails(-EINVAL, "fixd_checkpoint.flags has bits that are not known here: 0x%x", how.flags);
	if (!checkpoint_is_wanted(path))
		return FIXD_NO_TEMPLATE;
	passed = true;
	audit(&how);
	template = (struct template){
		.how = &how,
		.listener = -1,
		.signals = -1,
		.notify = -1,
		.spare = { .fd = -1 },
		.spare_in = -1,
	};
	r = template_begin(&template, path);
	if (r < 0)
		return r;
	template.threads = has_threads();
	if (wants_spare(&template))
		template.spare_in = 0;
	r = serve(&template, &what);
	if (r == FIXD_TEMPLATE_ENDS)
		return template_end(&template);
	take_arguments(&what, argc, argv);
	return FIXD_FORKED;
}
