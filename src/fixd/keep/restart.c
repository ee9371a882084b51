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
#include "fixd/host/notify.h"
#include "fixd/host/spawn.h"
#include "fixd/keep/check.h"
#include "fixd/keep/keep.h"
#include "fixd/keep/state.h"
#include "fixd/loop/loop.h"
#include "fixd/model/reclaim.h"
#include "fixd/model/session.h"
#include "fixd/serve/cleanup.h"
#include "fixd/serve/conn.h"
#include "fixd/serve/event_stream.h"
#include "fixd/work/build.h"
#include "image/memfd.h"

#define RESUME "FIXD_RESUME" /* the descriptor of the state */
#define STATE_SIZE_MAX ((off_t)1 << 30)
#define CHECK_MS 10000
#define QUIESCE (2 * NSEC_PER_SEC)

extern char **environ;

static void answer_asker(struct keep *keep, int err, const char *sentence)
{
	const struct wire_header h = { .type = WIRE_TYPE_restart, .id = keep->asker_request };

	link_for_each(l, &keep->server->conns) {
		struct conn *c = link_entry(l, struct conn, link);

		if (c->client.id != keep->asker || h.id == 0)
			continue;
		if (err)
			conn_reply_error(c, &h, err, "%s", sentence);
		else
			conn_reply_text(c, &h, sentence, strlen(sentence));
		break;
	}
	keep->asker = keep->asker_request = 0;
}

/* A run of the program, to see whether it could be our successor. */
struct trial {
	struct keep *keep;
	struct source *process;
	struct timer limit;
	pid_t pid;
	bool too_long;
};

static struct trial trial; /* at most one */

static void begin_restart(struct keep *keep);

static void trial_over(void *arg)
{
	struct trial *t = arg;
	struct keep *keep = t->keep;
	siginfo_t status;

	spawn_reap(t->pid, &status);
	timer_stop(&t->limit);
	t->process = source_close(t->process);
	t->pid = 0;
	if (keep->model->stopping) {
		answer_asker(keep, -EAGAIN, "not restarted: it ends");
	} else if (status.si_code == CLD_EXITED && status.si_status == 0) {
		begin_restart(keep);
	} else {
		_cleanup_free_ char *why = xasprintf(
			t->too_long
				? "not restarted: %s has not said within %d s whether it could go on"
				: "not restarted: %s does not like what it would have to go on with (its words are in the log of the daemon)",
			keep->program, CHECK_MS / 1000);

		answer_asker(keep, -EAGAIN, why);
	}
}

static void trial_too_long(void *arg)
{
	struct trial *t = arg;

	t->too_long = true;
	process_kill(t->pid, SIGKILL);
}

/* NULL, or why there is none. */
static char *begin_trial(struct keep *keep)
{
	char version[16], check[] = "--check", resumes[] = "--resumes", config[] = "--config";
	char *argv[] = { keep->program, check, resumes, version, config, keep->model->config->file, NULL };
	posix_spawn_file_actions_t actions;
	int r, fd;

	snprintf(version, sizeof version, "%d", STATE_VERSION);
	r = posix_spawn_file_actions_init(&actions);
	if (r == 0) {
		r = posix_spawn_file_actions_adddup2(&actions, 2, 1);
		if (r == 0)
			r = posix_spawn(&trial.pid, keep->program, &actions, NULL, argv, environ);
		posix_spawn_file_actions_destroy(&actions);
	}
	if (r != 0)
		return xasprintf("%s cannot be started: %s", keep->program, strerror(r));
	fd = process_open(trial.pid);
	if (fd < 0) {
		r = -fd;
		process_kill(trial.pid, SIGKILL);
		waitpid(trial.pid, NULL, 0);
		trial.pid = 0;
		return xasprintf("%s cannot be waited for: %s", keep->program, strerror(r));
	}
	trial.keep = keep;
	trial.too_long = false;
	trial.process = loop_watch(keep->model->loop, fd, trial_over, &trial);
	timer_init(&trial.limit, trial_too_long, &trial);
	timer_start_in(keep->model->loop, &trial.limit, CHECK_MS * NSEC_PER_MSEC);
	return NULL;
}

static void set_inherited(const struct state *s, bool on)
{
	for (size_t i = 0; i < s->n_fds; i++)
		fd_set_cloexec(s->fds[i], !on);
}

/* Everything stays as it is. */
static void restart_give_up(struct keep *keep, const char *why)
{
	log_error(0, "not restarted: %s", why);
	keep->model->restarting = false;
	answer_asker(keep, -EAGAIN, why);
	builds_resume(keep->work->builds);
	link_for_each(l, &keep->model->sessions)
		session_requeue(link_entry(l, struct session, link));
	notify_send("READY=1");
}

static void drop_the_stuck(struct keep *keep)
{
	link_for_each_safe(l, &keep->server->conns) {
		struct conn *c = link_entry(l, struct conn, link);

		if (source_unsent(c->source))
			conn_drop(c, "it does not read its answers, and the daemon restarts");
	}
}

/* Returns only if it fails: with errno. */
static int exec_program(struct keep *keep, const struct state *s, int fd)
{
	_cleanup_free_ char *resume = xasprintf(RESUME "=%d", fd);
	_cleanup_free_ char **env = NULL;
	size_t n = list_count(environ);
	int err;

	/* In one of its own: a thread may be reading ours. */
	env = xcalloc(n + 2, sizeof *env);
	memcpy(env, environ, n * sizeof *env);
	env[n] = resume;
	set_inherited(s, true);
	fd_set_cloexec(fd, false);
	execve(keep->program, keep->argv, env);
	err = -errno;
	set_inherited(s, false);
	return err;
}

static void restart_exec(void *arg)
{
	struct keep *keep = arg;
	struct state s;
	_cleanup_fd_ int fd = -1;
	_cleanup_free_ char *why = NULL;
	int r;

	if (keep->model->stopping)
		return;
	r = loop_quiesce(keep->model->loop, QUIESCE);
	/* Somebody may have asked for the end meanwhile, and was told that it comes. */
	if (keep->model->stopping) {
		loop_resume(keep->model->loop);
		return;
	}
	if (r == 0) {
		drop_the_stuck(keep);
		state_save(keep, STATE_FOR_EXEC, &s);
		/* Its successor would refuse it, when there is no way back. */
		why = s.records.size > STATE_SIZE_MAX ? xstrdup("its state is larger than 1 GiB")
						      : state_check(s.records.data, s.records.size);
		fd = why ? -EBADMSG : memfd_from_bytes("fixd:state", s.records.data, s.records.size);
		r = fd < 0 ? fd : exec_program(keep, &s, fd);
		state_deinit(&s);
	}
	loop_resume(keep->model->loop);
	if (!why)
		why = xasprintf("%s: %s", keep->program, strerror(-r));
	restart_give_up(keep, why);
}

void restart_continue(struct keep *keep)
{
	bool over = builds_are_over(keep->work->builds) && link_empty(&keep->work->relocations);

	if (keep->model->restarting && !keep->model->stopping && over)
		loop_defer(keep->model->loop, &keep->restart);
}

void restart_ask(struct keep *keep, struct conn *c, const struct wire_header *h)
{
	_cleanup_free_ char *why = keep->model->restarting || trial.pid ? xstrdup("it restarts already") : begin_trial(keep);

	if (why) {
		conn_reply_error(c, h, -EAGAIN, "not restarted: %s", why);
		return;
	}
	log_info("restarting: asked by pid %d", (int)c->client.pid);
	keep->asker = c->client.id;
	keep->asker_request = h->id;
}

/* The program on disk can go on. */
static void begin_restart(struct keep *keep)
{
	notify_reloading();
	keep->model->restarting = true;
	reclaim_wake(keep->model);
	cleanups_end(keep->server);
	event_stream_end(keep->server);
	deferred_init(&keep->restart, restart_exec, keep);
	builds_end(keep->work->builds);
	restart_continue(keep);
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

int restart_resume(struct keep *keep)
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
		r = state_load(keep, records, size, take_inherited, NULL);
	free(records);
	fd = fd_close(fd);
	close_the_rest();
	if (r < 0)
		log_error(r, "the state of the daemon before this one is of no use: starting afresh");
	return r;
}

void restart_answer(struct keep *keep)
{
	size_t images = keep->model->account.n_images, conns = keep->server->n_conns;
	_cleanup_free_ char *sentence = xasprintf("fixd %s goes on: pid %d, %zu image%s, %zu connection%s\n", PACKAGE_VERSION,
						  (int)getpid(), images, images == 1 ? "" : "s", conns, conns == 1 ? "" : "s");

	answer_asker(keep, 0, sentence);
}
