/* SPDX-License-Identifier: MIT */
/* fixctl fork: a fork of a template, in the foreground, as if it were a command. */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/units.h"
#include "client/connection.h"
#include "fixctl/fixctl.h"
#include "fixctl/follow.h"
#include "fixctl/pty.h"
#include "fixd.h"

struct forking {
	struct fixd *f;
	struct fixd_process *process;
	struct pty *terminal; /* NULL: it has ours */
	int signals;
	int ended; /* its status, when it has; -1 */
};

/* The terminal knows us and not the fork, which is in another session: it gets whatever we get. */
static void pass_signals(struct forking *k)
{
	struct signalfd_siginfo si;

	while (read(k->signals, &si, sizeof si) == sizeof si) {
		if (si.ssi_signo == SIGWINCH && k->terminal)
			pty_resize(k->terminal);
		else if (si.ssi_signo != SIGCHLD)
			fixd_process_kill(k->process, (int)si.ssi_signo);
	}
}

static void stop_with_it(struct forking *k)
{
	if (k->terminal)
		pty_pause(k->terminal);
	raise(SIGSTOP);
	if (k->terminal)
		pty_resume(k->terminal);
}

/* We stop with it; what lets us go on is passed to it. 0 or -errno. */
static int take_event(struct forking *k)
{
	int status, r = fixd_process_wait(k->process, 0, &status);

	if (r == -ETIMEDOUT || r == -EINTR)
		return 0;
	if (r < 0)
		return r;
	if (WIFSTOPPED(status))
		stop_with_it(k);
	else if (!WIFCONTINUED(status))
		k->ended = WIFSIGNALED(status) ? EXIT_SIGNAL + WTERMSIG(status) : WEXITSTATUS(status);
	return 0;
}

static int wait_for_end(struct forking *k)
{
	int r = 0;

	while (r == 0 && k->ended < 0) {
		struct pollfd p[] = {
			{ .fd = k->signals, .events = POLLIN },
			{ .fd = fixd_process_fd(k->process), .events = POLLIN },
			{ .fd = -1 },
			{ .fd = -1 },
		};

		if (k->terminal)
			pty_poll(k->terminal, p + 2);
		if (poll(p, ELEMENTSOF(p), -1) < 0 && errno != EINTR)
			return ctl_failed(NULL, -errno);
		if (p[2].revents || p[3].revents)
			pty_pass(k->terminal, p + 2);
		if (p[0].revents)
			pass_signals(k);
		if (p[1].revents)
			r = take_event(k);
	}
	if (r == 0)
		return k->ended;
	ctl_failed(k->f, r);
	return EXIT_REFUSED;
}

/* Has the template prepared if there is none. Without a lease: those of a template are its forks. */
static int prepare(struct fixd *f, const char *name, const struct fixd_fork_options *o)
{
	int timeout_ms = o->timeout_ms ? o->timeout_ms : connection_timeout();
	struct reply reply;
	int r = connection_attach(f, name, o->scope_key, WIRE_ATTACH_WARM, timeout_ms, &reply);

	if (r == 0)
		reply_close(&reply);
	return r;
}

static int fork_and_follow(struct forking *k, const char *name, struct fixd_fork_options *o)
{
	struct follow f;
	int r, code;

	follow_init(&f);
	/* While it is prepared signals end us; from then on they are the fork's. */
	r = prepare(k->f, name, o);
	follow_begin(&f);
	if (r == 0 && (k->signals = signalfd(-1, &f.held, SFD_CLOEXEC | SFD_NONBLOCK)) < 0)
		r = fixd_fail_with(k->f, -errno, "no descriptor for signals: %s", strerror(errno));
	if (r == 0)
		r = fixd_fork(k->f, name, o, &k->process);
	code = r < 0 ? ctl_failed(k->f, r) : wait_for_end(k);
	if (k->terminal)
		pty_close(k->terminal);
	fixd_process_close(k->process);
	fd_close(k->signals);
	return code;
}

/* Returns where NAME is. */
static int fork_parse(struct fixd_fork_options *o, bool *tty, int argc, char **argv)
{
	static const struct option options[] = {
		{ "scope-key", required_argument, NULL, 'k' },
		{ "timeout", required_argument, NULL, 't' },
		{ "tty", no_argument, NULL, 'T' },
		{ NULL, 0, NULL, 0 },
	};
	int64_t timeout;
	int c, name;

	while ((c = getopt_long(argc, argv, "+k:t:T", options, NULL)) >= 0) {
		if (c == 'k')
			o->scope_key = optarg;
		else if (c == 'T')
			*tty = true;
		else if (c != 't')
			ctl_bad_option("fork");
		else if (parse_duration(optarg, &timeout) < 0 || timeout <= 0 || timeout > INT64_C(1000000) * NSEC_PER_SEC)
			ctl_misuse("fork", "--timeout %s: expected a number above 0 with ms, s, m or h", optarg);
		else
			o->timeout_ms = (int)((timeout + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC);
	}
	name = optind;
	if (name == argc || !strcmp(argv[name], "--") || (name > 0 && !strcmp(argv[name - 1], "--")))
		ctl_misuse("fork", "a NAME is missing");
	if (name + 1 < argc && strcmp(argv[name + 1], "--") != 0)
		ctl_misuse("fork", "'%s': arguments of the fork come after '--'", argv[name + 1]);
	o->args = name + 1 < argc ? argv + name + 2 : NULL;
	return name;
}

static int fork_run(struct fixctl *ctl, int argc, char **argv)
{
	struct fixd_fork_options o = { .size = sizeof o };
	struct forking k = { .signals = -1, .ended = -1 };
	const char *disabled = getenv("FIXD_DISABLE");
	bool tty = false;
	int name = fork_parse(&o, &tty, argc, argv), code;

	if (disabled && !strcmp(disabled, "1")) {
		fprintf(stderr, "fixctl: FIXD_DISABLE is set: there is no template to fork; start its program itself\n");
		return EXIT_REFUSED;
	}
	k.f = ctl_open(ctl);
	if (tty && !(k.terminal = pty_open()))
		return EXIT_REFUSED;
	if (k.terminal) {
		o.flags = FIXD_FORK_TERMINAL;
		o.fds = pty_fds(k.terminal);
	}
	code = fork_and_follow(&k, argv[name], &o);
	fixd_close(k.f);
	return code;
}

const struct fixctl_command command_fork = {
	.name = "fork",
	.run = fork_run,
	.summary = "run a fork of a template (process =)",
	.help = "fork [OPTION...] NAME [-- ARGUMENT...]\n"
		"A fork of the template NAME or NAME[PARAM], which is prepared first if there is none, goes on from its checkpoint with these\n"
		"arguments, and with the environment, directory, umask, limits and descriptors 0, 1 and 2 of this command. Signals are\n"
		"passed to it. It is killed when this command is. Exits as the fork does, 128+N for signal N; 4 if the template\n"
		"cannot be prepared.\n"
		"\n"
		"  -T, --tty            with a terminal of its own (/dev/tty), which is shown on this one\n"
		"  -k, --scope-key KEY  for a fixture of a narrower scope than session\n"
		"  -t, --timeout D      how long to wait for the template (90s, 5m; default $FIXD_TIMEOUT or 60s)",
};
