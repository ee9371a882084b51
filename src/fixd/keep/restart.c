/* SPDX-License-Identifier: MIT */
#include "fixd/keep/restart.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/process.h"
#include "base/units.h"
#include "config/config.h"
#include "fixd/daemon.h"
#include "fixd/host/notify.h"
#include "fixd/host/spawn.h"
#include "fixd/keep/state.h"
#include "fixd/loop/loop.h"
#include "fixd/model/events.h"
#include "fixd/model/reclaim.h"
#include "fixd/model/session.h"
#include "fixd/serve/cleanup.h"
#include "fixd/serve/conn.h"
#include "fixd/work/build.h"
#include "image/memfd.h"

#define RESUME "FIXD_RESUME" /* the descriptor of the state */
#define STATE_SIZE_MAX ((off_t)1 << 30)
#define CHECK_MS 10000
#define QUIESCE (2 * NSEC_PER_SEC)

extern char **environ;

static void answer_asker(struct daemon *d, int err, const char *sentence)
{
	const struct wire_header h = { .type = WIRE_TYPE_restart, .id = d->resumed.asker_request };

	link_for_each(l, &d->conns) {
		struct conn *c = link_entry(l, struct conn, link);

		if (c->id != d->resumed.asker || h.id == 0)
			continue;
		if (err)
			conn_reply_error(c, &h, err, "%s", sentence);
		else
			conn_reply_text(c, &h, sentence, strlen(sentence));
		break;
	}
	d->resumed.asker = d->resumed.asker_request = 0;
}

/* A run of the program, to see whether it could be our successor. */
struct trial {
	struct daemon *daemon;
	struct source *process;
	struct timer limit;
	pid_t pid;
	bool too_long;
};

static struct trial trial; /* at most one */

static void begin_restart(struct daemon *d);

static void trial_over(void *arg)
{
	struct trial *t = arg;
	struct daemon *d = t->daemon;
	siginfo_t status;

	spawn_reap(t->pid, &status);
	timer_stop(&t->limit);
	t->process = source_close(t->process);
	t->pid = 0;
	if (d->stopping) {
		answer_asker(d, -EAGAIN, "not restarted: it ends");
	} else if (status.si_code == CLD_EXITED && status.si_status == 0) {
		begin_restart(d);
	} else {
		_cleanup_free_ char *why = xasprintf(
			t->too_long ? "not restarted: %s has not said within %d s whether it could go on" :
				      "not restarted: %s does not like what it would have to go on with (its words are in the log of the daemon)",
			d->program, CHECK_MS / 1000);

		answer_asker(d, -EAGAIN, why);
	}
}

static void trial_too_long(void *arg)
{
	struct trial *t = arg;

	t->too_long = true;
	kill(t->pid, SIGKILL);
}

/* NULL, or why there is none. */
static char *begin_trial(struct daemon *d)
{
	char version[16], check[] = "--check", resumes[] = "--resumes", config[] = "--config";
	char *argv[] = { d->program, check, resumes, version, config, d->config->file, NULL };
	posix_spawn_file_actions_t actions;
	int r, fd;

	snprintf(version, sizeof version, "%d", STATE_VERSION);
	r = posix_spawn_file_actions_init(&actions);
	if (r == 0) {
		r = posix_spawn_file_actions_adddup2(&actions, 2, 1);
		if (r == 0)
			r = posix_spawn(&trial.pid, d->program, &actions, NULL, argv, environ);
		posix_spawn_file_actions_destroy(&actions);
	}
	if (r != 0)
		return xasprintf("%s cannot be started: %s", d->program, strerror(r));
	fd = process_open(trial.pid);
	if (fd < 0) {
		r = -fd;
		kill(trial.pid, SIGKILL);
		waitpid(trial.pid, NULL, 0);
		trial.pid = 0;
		return xasprintf("%s cannot be waited for: %s", d->program, strerror(r));
	}
	trial.daemon = d;
	trial.too_long = false;
	trial.process = loop_watch(d->loop, fd, trial_over, &trial);
	timer_init(&trial.limit, trial_too_long, &trial);
	timer_start(d->loop, &trial.limit, clock_now() + CHECK_MS * NSEC_PER_MSEC);
	return NULL;
}

static void set_inherited(const struct state *s, bool on)
{
	for (size_t i = 0; i < s->n_fds; i++)
		fd_set_cloexec(s->fds[i], !on);
}

/* Everything stays as it is. */
static void give_up(struct daemon *d, const char *why)
{
	log_error(0, "not restarted: %s", why);
	d->restarting = false;
	answer_asker(d, -EAGAIN, why);
	builds_resume(d->builds);
	link_for_each(l, &d->sessions)
		session_ask_again(link_entry(l, struct session, link));
	notify_send("READY=1");
}

static void drop_the_stuck(struct daemon *d)
{
	link_for_each_safe(l, &d->conns) {
		struct conn *c = link_entry(l, struct conn, link);

		if (source_unsent(c->source))
			conn_drop(c, "it does not read its answers, and the daemon restarts");
	}
}

/* Returns only if it fails: with errno. */
static int exec_program(struct daemon *d, const struct state *s, int fd)
{
	_cleanup_free_ char *number = xasprintf("%d", fd);

	set_inherited(s, true);
	fd_set_cloexec(fd, false);
	setenv(RESUME, number, 1);
	execve(d->program, d->argv, environ);
	unsetenv(RESUME);
	set_inherited(s, false);
	return -errno;
}

static void go(void *arg)
{
	struct daemon *d = arg;
	struct state s;
	_cleanup_fd_ int fd = -1;
	_cleanup_free_ char *why = NULL;
	int r;

	if (d->stopping)
		return;
	r = loop_quiesce(d->loop, QUIESCE);
	/* Somebody may have asked for the end meanwhile, and was told that it comes. */
	if (d->stopping) {
		loop_resume(d->loop);
		return;
	}
	if (r == 0) {
		drop_the_stuck(d);
		state_save(d, STATE_FOR_EXEC, &s);
		fd = memfd_from_bytes("fixd:state", s.records.data, s.records.size);
		r = fd < 0 ? fd : exec_program(d, &s, fd);
		state_deinit(&s);
	}
	loop_resume(d->loop);
	why = xasprintf("%s: %s", d->program, strerror(-r));
	give_up(d, why);
}

void restart_continue(struct daemon *d)
{
	if (d->restarting && !d->stopping && builds_are_over(d->builds) && !timer_is_running(&d->restart))
		timer_start(d->loop, &d->restart, clock_now());
}

void restart_ask(struct conn *c, const struct wire_header *h)
{
	struct daemon *d = c->daemon;
	_cleanup_free_ char *why = d->restarting || trial.pid ? xstrdup("it restarts already") : begin_trial(d);

	if (why) {
		conn_reply_error(c, h, -EAGAIN, "not restarted: %s", why);
		return;
	}
	log_info("restarting: asked by pid %d", (int)c->pid);
	d->resumed.asker = c->id;
	d->resumed.asker_request = h->id;
}

/* The program on disk can go on. */
static void begin_restart(struct daemon *d)
{
	notify_send("RELOADING=1\nMONOTONIC_USEC=%lld", (long long)(clock_now() / 1000));
	d->restarting = true;
	reclaim_wake(d);
	cleanups_end(d);
	events_end(d);
	timer_init(&d->restart, go, d);
	builds_end(d->builds);
	restart_continue(d);
}

/* What we have by its number is ours from now on. What we have opened ourselves, or have taken already, is close-on-exec. */
static int take_inherited(void *arg, int number)
{
	(void)arg;
	return number <= STDERR_FILENO || !fd_is_inherited(number) || fd_set_cloexec(number, true) < 0 ? -1 : number;
}

/* Of what was inherited, what nobody has taken. */
static void close_the_rest(void)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *e;

	while (dir && (e = readdir(dir))) {
		uint64_t fd;

		if (parse_u64(e->d_name, 10, INT32_MAX, &fd) == 0 && fd > STDERR_FILENO && fd_is_inherited((int)fd))
			close((int)fd);
	}
	if (dir)
		closedir(dir);
}

int restart_resume(struct daemon *d)
{
	const char *number = getenv(RESUME);
	_cleanup_fd_ int fd = -1;
	char *records = NULL;
	uint64_t v, size;
	int r;

	if (!number)
		return 0;
	r = parse_u64(number, 10, INT32_MAX, &v);
	unsetenv(RESUME);
	if (r == 0) {
		fd = (int)v;
		r = memfd_verify(fd, &size);
	}
	if (r == 0 && size > STATE_SIZE_MAX)
		r = -EFBIG;
	if (r == 0) {
		records = xcalloc(1, size);
		r = fd_pread_all(fd, records, size, 0) == (ssize_t)size ? 0 : -EIO;
	}
	if (r == 0)
		r = state_load(d, records, size, take_inherited, NULL);
	free(records);
	fd = fd_close(fd);
	close_the_rest();
	if (r < 0)
		log_error(r, "the state of the daemon before this one is of no use: starting afresh");
	return r;
}

void restart_answer(struct daemon *d)
{
	_cleanup_free_ char *sentence = xasprintf("fixd %s goes on: pid %d, %zu images, %zu connections\n", PACKAGE_VERSION, (int)getpid(),
						  d->n_images, d->n_conns);

	answer_asker(d, 0, sentence);
}
