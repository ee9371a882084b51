/* SPDX-License-Identifier: MIT */
#include "client/forked.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "wire/socket.h"

#define ENVIRON_MAX ((size_t)8 << 20)
#define FAILED 126

extern char **environ;

/* NAME=VALUE that this program has set, and NAME that it has removed; NULL-terminated, never freed. */
static char **own_variables;

__attribute__((format(printf, 3, 4))) static int refuse(char *wrong, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(wrong, FORK_SENTENCE_MAX, fmt, ap);
	va_end(ap);
	return err;
}

/* Cuts the text at its zeros: the arguments, and then the environment. False: it is another number of strings, or has no end. */
static bool take_apart(struct call *c)
{
	const char *end = c->text + c->head.text_size;
	size_t n = 0, k = 0;

	if (c->head.text_size && end[-1])
		return false;
	for (const char *p = c->text; p < end; p += strlen(p) + 1)
		n++;
	if (c->head.n_args > n)
		return false;
	c->args = calloc(n + 2, sizeof *c->args);
	if (!c->args)
		return false;
	/* One array, with a NULL between the two. */
	c->environment = c->args + c->head.n_args + 1;
	for (char *p = c->text; p < end; p += strlen(p) + 1) {
		k += k == c->head.n_args;
		c->args[k++] = p;
	}
	return true;
}

static int read_text(struct call *c, char *wrong)
{
	ssize_t n;

	if (c->head.text_size > FORK_TEXT_MAX)
		return refuse(wrong, -E2BIG, "its arguments and environment have %u bytes; expected at most %d", c->head.text_size,
			      FORK_TEXT_MAX);
	c->text = malloc(c->head.text_size + 1);
	n = c->text ? fd_pread_all(c->fds[FORK_FD_TEXT], c->text, c->head.text_size, 0) : -ENOMEM;
	if (n < 0)
		return refuse(wrong, (int)n, "its arguments cannot be read: %s", strerror((int)-n));
	c->text[n] = '\0';
	if (n != (ssize_t)c->head.text_size || !take_apart(c))
		return refuse(wrong, -EBADMSG, "its arguments and environment are not whole");
	return 0;
}

int call_receive(int connection, struct call *c, char wrong[FORK_SENTENCE_MAX])
{
	size_t n_fds = FORK_FDS;
	ssize_t n;

	*c = (struct call){ 0 };
	for (size_t i = 0; i < FORK_FDS; i++)
		c->fds[i] = -1;
	n = socket_receive(connection, &c->head, sizeof c->head, c->fds, &n_fds, MSG_DONTWAIT);
	if (n == -EAGAIN || n == -EINTR)
		return -EAGAIN;
	if (n == 0 || n == -ECONNRESET)
		return -ENOTCONN;
	if (n < 0)
		return refuse(wrong, (int)n, "what was asked cannot be received: %s", strerror((int)-n));
	if (n != sizeof c->head || n_fds != FORK_FDS || c->head.version != FORK_VERSION)
		return refuse(wrong, -EPROTONOSUPPORT, "it was asked in a way that this libfixd (%s) does not know", PACKAGE_VERSION);
	return read_text(c, wrong);
}

void call_close(struct call *c)
{
	for (size_t i = 0; i < FORK_FDS; i++)
		c->fds[i] = fd_close(c->fds[i]);
}

void call_deinit(struct call *c)
{
	call_close(c);
	free(c->text);
	free(c->args);
	c->text = NULL;
	c->args = c->environment = NULL;
}

static size_t name_length(const char *variable)
{
	return strcspn(variable, "=");
}

static bool same_name(const char *a, const char *b)
{
	size_t n = name_length(a);

	return n == name_length(b) && !memcmp(a, b, n);
}

static const char *forked_find(char *const *variables, const char *name)
{
	for (; variables && *variables; variables++) {
		if (same_name(*variables, name))
			return *variables;
	}
	return NULL;
}

/* What is said to this process only, and what a shell says of itself. */
static bool is_private(const char *variable)
{
	static const char *const names[] = { "NOTIFY_SOCKET", "PWD", "OLDPWD", "SHLVL", "_" };

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		if (same_name(variable, names[i]))
			return true;
	}
	return !strncmp(variable, "FIXD_", 5);
}

/* As the program was given it: pointers into *text. */
static int read_first(char **text, char ***out)
{
	size_t size, n = 0;
	int r = file_read_all("/proc/self/environ", ENVIRON_MAX, text, &size);

	if (r < 0)
		return r;
	for (const char *p = *text; p < *text + size; p += strlen(p) + 1)
		n++;
	*out = calloc(n + 1, sizeof **out);
	if (!*out)
		return -ENOMEM;
	n = 0;
	for (char *p = *text; p < *text + size; p += strlen(p) + 1)
		(*out)[n++] = p;
	return 0;
}

static size_t count(char *const *list)
{
	size_t n = 0;

	while (list && list[n])
		n++;
	return n;
}

int forked_note_environment(void)
{
	char *text = NULL, **first = NULL;
	int r = read_first(&text, &first);
	size_t n = 0;

	if (r == 0 && !(own_variables = calloc(count(environ) + count(first) + 1, sizeof *own_variables)))
		r = -ENOMEM;
	for (char **v = environ; r == 0 && v && *v; v++) {
		const char *before = forked_find(first, *v);

		if (!is_private(*v) && (!before || strcmp(before, *v) != 0))
			own_variables[n++] = strdup(*v);
	}
	for (char **v = first; r == 0 && *v; v++) {
		if (!is_private(*v) && !forked_find(environ, *v))
			own_variables[n++] = strndup(*v, name_length(*v));
	}
	free(first);
	free(text);
	return r;
}

_Noreturn __attribute__((format(printf, 1, 2))) static void fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	dprintf(2, "fixd: this fork cannot be its caller's: ");
	vdprintf(2, fmt, ap);
	dprintf(2, ": %s\n", strerror(errno));
	va_end(ap);
	_exit(FAILED);
}

void forked_fail(const struct call *c, const char *sentence)
{
	dprintf(c->fds[FORK_FD_ERROR], "fixd: this fork cannot be its caller's: %s\n", sentence);
	_exit(FAILED);
}

/* Of a template that is told to prepare another one. */
static bool is_of_template(const char *variable)
{
	return same_name(variable, FORK_TEMPLATE) || same_name(variable, FORK_AUDIT) || same_name(variable, "NOTIFY_SOCKET");
}

static void set_environment(const struct call *c)
{
	char **new = calloc(count(c->environment) + count(own_variables) + 1, sizeof *new);
	size_t n = 0;

	if (!new)
		fail("its environment");
	for (char **v = c->environment; *v; v++) {
		if (!forked_find(own_variables, *v) && !is_of_template(*v))
			new[n++] = *v;
	}
	for (char **v = own_variables; v && *v; v++) {
		if (strchr(*v, '='))
			new[n++] = *v;
	}
	environ = new;
}

/* As far as this process may: nobody gets more by asking for a fork. */
static void set_limits(const struct call *c)
{
	for (int i = 0; i < RLIM_NLIMITS; i++) {
		struct rlimit l = { .rlim_cur = c->head.limits[i].soft, .rlim_max = c->head.limits[i].hard }, now;

		if (setrlimit((__rlimit_resource_t)i, &l) == 0 || getrlimit((__rlimit_resource_t)i, &now) < 0)
			continue;
		l.rlim_max = l.rlim_max < now.rlim_max ? l.rlim_max : now.rlim_max;
		l.rlim_cur = l.rlim_cur < l.rlim_max ? l.rlim_cur : l.rlim_max;
		setrlimit((__rlimit_resource_t)i, &l);
	}
}

/* Whoever has a handler wants it. */
static void ignore_signals(const struct call *c)
{
	for (int signal = 1; signal < SIGRTMIN; signal++) {
		struct sigaction now;

		if ((c->head.ignored & UINT64_C(1) << (signal - 1)) && sigaction(signal, NULL, &now) == 0 && now.sa_handler == SIG_DFL) {
			now.sa_handler = SIG_IGN;
			sigaction(signal, &now, NULL);
		}
	}
}

/* What the template has drawn before the checkpoint its forks would all draw again. */
static void set_seeds(void)
{
	unsigned short seed[7];

	if (getrandom(seed, sizeof seed, GRND_NONBLOCK) < 0)
		return;
	srandom((unsigned)seed[0] << 16 | seed[1]);
	seed48(seed + 2);
}

void forked_become(const struct call *c, pid_t template)
{
	bool terminal = c->head.flags & FORK_TERMINAL;

	if ((terminal ? setsid() : setpgid(0, 0)) < 0)
		fail("a process group");
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != template)
		fail("its template has ended");
	for (int i = 0; i < 3; i++) {
		if (fd_dup_to(c->fds[FORK_FD_IN + i], i) < 0)
			fail("descriptor %d", i);
	}
	if (terminal && ioctl(0, TIOCSCTTY, 0) < 0)
		fail("its terminal");
	if (fchdir(c->fds[FORK_FD_DIRECTORY]) < 0)
		fail("its directory");
	umask((mode_t)c->head.umask & 0777);
	set_limits(c);
	ignore_signals(c);
	set_environment(c);
	set_seeds();
}
