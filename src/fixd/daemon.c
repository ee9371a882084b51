/* SPDX-License-Identifier: MIT */
#include "fixd/daemon.h"
#include "fixd/serve/cleanup.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/units.h"
#include "config/config.h"
#include "fixd/host/board.h"
#include "fixd/host/notify.h"
#include "fixd/host/spawn.h"
#include "fixd/host/watch.h"
#include "fixd/host/worker.h"
#include "fixd/keep/fdstore.h"
#include "fixd/keep/restart.h"
#include "fixd/loop/loop.h"
#include "fixd/model/instance.h"
#include "fixd/model/reclaim.h"
#include "fixd/model/session.h"
#include "fixd/model/survivor.h"
#include "fixd/serve/conn.h"
#include "fixd/serve/control.h"
#include "fixd/serve/event_stream.h"
#include "fixd/serve/request.h"
#include "fixd/work/build.h"
#include "fixd/work/keeper.h"
#include "fixd/work/trees.h"
#include "fixd/work/work.h"
#include "image/region.h"

static void log_problems(const struct text *problems)
{
	const char *end;

	for (const char *p = problems->data; p && *p; p = end + 1) {
		end = strchr(p, '\n');
		log_warn(0, "%.*s", (int)(end - p), p);
	}
}

static int make_socket_directory(const char *path)
{
	const char *slash = strrchr(path, '/');
	_cleanup_free_ char *dir = slash && slash != path ? xstrndup(path, (size_t)(slash - path)) : NULL;

	return dir ? dir_make_all(dir, 0755) : 0;
}

static void daemon_set_log_level(const struct daemon *d)
{
	log_set_level((enum log_level)(d->log_level >= 0 ? d->log_level : d->config->log_level));
}

/* The daemon's own values of the variables a fixture is told of: nobody else asks. */
static char **own_env(const struct fixture *f)
{
	size_t n = list_count(f->all_env);
	char **env = xcalloc(n + 1, sizeof *env);

	for (size_t k = 0; k < n; k++) {
		const char *v = getenv(f->all_env[k]);

		env[k] = v ? xasprintf("%s=%s", f->all_env[k], v) : xstrdup(f->all_env[k]);
	}
	return env;
}

static void warm_one(struct daemon *d, const struct fixture *f, const char *param, char *const *env)
{
	struct instance *i;

	if (session_instance(d->session, f, &(struct place){ param, "", env, NULL }, &i) == 0)
		instance_warm(i);
}

/* What is marked `warm`. */
static void warm(struct daemon *d)
{
	for (size_t k = 0; k < d->config->n_fixtures; k++) {
		const struct fixture *f = d->config->fixtures[k];
		char **env;

		if (!f->warm)
			continue;
		env = own_env(f);
		for (size_t p = 0; p < list_count(f->params); p++)
			warm_one(d, f, f->params[p], env);
		if (!f->params)
			warm_one(d, f, NULL, env);
		list_free(env);
	}
}

/* systemd compares it with its own reading of that clock (sd_notify(3)). */
static long long monotonic_usec(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

static int reload(struct daemon *d, struct text *problems)
{
	struct config *fresh, *old = d->config;
	int r;

	notify_send("RELOADING=1\nMONOTONIC_USEC=%lld", monotonic_usec());
	r = config_load(old->file, &fresh, problems);
	if (r < 0) {
		log_error(0, "the configuration was not read, the old one stays");
	} else {
		config_check_sources(fresh, problems);
		if (fresh->address_base != old->address_base || fresh->io != old->io)
			text_printf(problems, "%s: address-base and io take effect at the next start\n", fresh->file);
		d->config = fresh;
		d->n_configs++;
		daemon_set_log_level(d);
		listener_permit(d->listener);
		link_for_each(l, &d->sessions)
			session_redefine(link_entry(l, struct session, link), fresh);
		config_free(old);
		log_info("configuration read: %zu fixtures", fresh->n_fixtures);
		warm(d);
	}
	log_problems(problems);
	notify_send("READY=1");
	return r;
}

void daemon_stop(struct daemon *d)
{
	if (d->stopping)
		return;
	d->stopping = true;
	d->restarting = false;
	notify_send("STOPPING=1");
	/* Not in the middle of whatever we are called from. */
	timer_start(d->loop, &d->end, clock_now());
}

/* Everybody is dropped, nothing is needed any more; what must be torn down is, in its order. */
static void end_everything(void *arg)
{
	struct daemon *d = arg;

	cleanups_end(d);
	events_end(d);
	link_for_each_safe(l, &d->conns) {
		struct conn *c = link_entry(l, struct conn, link);

		if (c->last)
			conn_retire(c);
		else
			conn_drop(c, NULL);
	}
	survivors_end(d);
	timer_stop(&d->sweep);
	builds_end(d->builds);
	while (!link_empty(&d->sessions))
		session_free(link_entry(d->sessions.prev, struct session, link));
	d->session = NULL;
	loop_defer(d->loop, &d->work_ended);
}

/* There may be room; a daemon that stops or restarts waits for builds and keepers. */
static void on_work_ended(void *arg)
{
	struct daemon *d = arg;

	reclaim_wake(d);
	if (d->stopping && !d->session && d->builds && builds_are_over(d->builds) && link_empty(&d->keepers))
		loop_stop(d->loop);
	restart_continue(d);
}

static void on_idle(void *arg)
{
	struct daemon *d = arg;

	if (d->n_conns)
		return;
	log_info("nobody has been connected for the time of idle-exit: leaving");
	daemon_stop(d);
}

static void conn_left(struct daemon *d)
{
	if (!d->stopping && d->n_conns == 0 && d->config->idle_exit != DURATION_NONE)
		timer_start(d->loop, &d->idle, clock_now() + d->config->idle_exit);
}

#define SWEEP_EVERY (10 * NSEC_PER_SEC)

static void on_sweep(void *arg)
{
	struct daemon *d = arg;

	watcher_look_at_mounts(d->watcher);
	link_for_each_safe(l, &d->sessions) {
		if (!session_sweep(link_entry(l, struct session, link)))
			session_free(link_entry(l, struct session, link));
	}
	timer_start(d->loop, &d->sweep, clock_now() + SWEEP_EVERY);
}

/* The next daemon goes on with everything; if there is none, the service manager lets go of it, and it is torn down. */
static void leave(struct daemon *d)
{
	notify_send("STOPPING=1");
	if (fdstore_leave(d) < 0)
		return;
	log_info("everything is left with the service manager");
	_exit(EXIT_SUCCESS);
}

static void on_alive(void *arg)
{
	struct daemon *d = arg;

	notify_send("WATCHDOG=1");
	timer_start(d->loop, &d->alive, clock_now() + d->watchdog);
}

/* sd_watchdog_enabled(3) */
static void start_watchdog(struct daemon *d)
{
	const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
	uint64_t v, p;

	if (!usec || parse_u64(usec, 10, INT64_MAX / 1000, &v) < 0 || v < 2 ||
	    (pid && (parse_u64(pid, 10, INT32_MAX, &p) < 0 || (pid_t)p != getpid())))
		return;
	d->watchdog = (int64_t)v * 1000 / 2;
	timer_start(d->loop, &d->alive, clock_now());
}

static sigset_t handled;

static void on_signal(void *arg)
{
	static const struct timespec now;
	struct daemon *d = arg;
	siginfo_t info;
	int sig;

	/* The descriptor only wakes the loop: a read(2) of it that fails would not be asked for again. */
	while ((sig = sigtimedwait(&handled, &info, &now)) > 0) {
		if (d->stopping) {
			log_info("stopping: it is not over yet");
		} else if (sig == SIGHUP) {
			_cleanup_text_ struct text problems = { 0 };

			reload(d, &problems);
		} else {
			log_info("stopping: signal %d from pid %d", sig, (int)info.si_pid);
			if (sig == SIGTERM && d->fdstore)
				leave(d);
			daemon_stop(d);
		}
	}
}

static int watch_signals(struct daemon *d)
{
	sigemptyset(&handled);
	sigaddset(&handled, SIGHUP);
	sigaddset(&handled, SIGTERM);
	sigaddset(&handled, SIGINT);
	if (sigprocmask(SIG_BLOCK, &handled, NULL) < 0)
		return -errno;
	signal(SIGPIPE, SIG_IGN);
	d->signals = signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK);
	if (d->signals < 0)
		return -errno;
	loop_watch(d->loop, d->signals, on_signal, d);
	return 0;
}

/* A descriptor for every image and every client. */
static void raise_limits(struct daemon *d)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) < 0)
		r.rlim_cur = r.rlim_max = 1024;
	if (r.rlim_cur < r.rlim_max) {
		r.rlim_cur = r.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &r) < 0)
			log_warn(-errno, "the number of open files cannot be raised");
	}
	d->descriptors_max = (size_t)r.rlim_cur / 2;
}

static int start_loop(struct daemon *d)
{
	_cleanup_free_ char *reason = NULL;
	int r = loop_new(&d->loop, (enum io_kind)d->config->io, &reason);

	if (r < 0)
		log_error(0, "no event loop: %s", reason ? reason : strerror(-r));
	else if (loop_io_reason(d->loop))
		log_warn(0, "using epoll: %s", loop_io_reason(d->loop));
	return r;
}

static int start_listening(struct daemon *d)
{
	int r = make_socket_directory(d->socket);

	if (r == 0)
		r = listener_new(d, &d->listener);
	if (r == -EADDRINUSE)
		log_error(0, "another fixd listens on %s", d->socket);
	else if (r == -EPROTOTYPE)
		log_error(0, "the socket that was handed over is no listening SOCK_SEQPACKET Unix socket: expected is one of ListenSequentialPacket=, "
			     "or of systemd-socket-activate --seqpacket");
	else if (r < 0)
		log_error(r, "cannot listen on %s", d->socket);
	return r;
}

static const struct control control = {
	.reload = reload,
	.stop = daemon_stop,
	.restart = restart_ask,
	.conn_left = conn_left,
};

int daemon_start(struct daemon *d)
{
	int r;

	d->control = &control;
	d->effects = &work_effects;
	d->image_owner = &session_images;
	d->started = clock_now();
	/* No image of this daemon has the number of one of another, also where every daemon has the same pid. */
	d->last_serial = (uint64_t)clock_real();
	link_init(&d->conns);
	inboxes_init(&d->inboxes, d);
	d->inboxes.dispatch = request_dispatch;
	d->inboxes.is_note = request_is_note;
	link_init(&d->survivors);
	link_init(&d->sessions);
	link_init(&d->users);
	link_init(&d->unused);
	link_init(&d->keepers);
	link_init(&d->rooms);
	link_init(&d->cleanups);
	link_init(&d->followers);
	timer_init(&d->telling, events_tell, d);
	deferred_init(&d->unsaved, fdstore_save, d);
	link_init(&d->leftovers);
	deferred_init(&d->work_ended, on_work_ended, d);
	timer_init(&d->idle, on_idle, d);
	d->trees_lock = d->resumed.board = d->resumed.events = d->resumed.listener = d->resumed.listener_lock = -1;
	timer_init(&d->alive, on_alive, d);
	timer_init(&d->sweep, on_sweep, d);
	timer_init(&d->end, end_everything, d);
	daemon_set_log_level(d);
	raise_limits(d);
	r = start_loop(d);
	if (r < 0)
		return r;
	if ((r = watch_signals(d)) < 0) {
		log_error(r, "cannot start");
		return r;
	}
	if ((r = spawn_init()) < 0) {
		log_error(r, "the program fixd-builder is not there");
		return r;
	}
	d->region = region_new(d->config->address_base, REGION_SIZE);
	d->watcher = watcher_new(d->loop);
	d->worker = worker_new(d->loop);
	d->builds = builds_new(d);
	d->session = session_new(d, d->config->root, geteuid());
	if (restart_resume(d) == 0 && !d->board)
		fdstore_resume(d);
	if (!d->events && !(d->events = events_new(-1)))
		return -ENOMEM;
	if (!d->board && (r = board_new(&d->board)) < 0) {
		log_error(r, "cannot start");
		return r;
	}
	r = start_listening(d);
	if (r == 0)
		d->fdstore = fdstore_new(d);
	/* The socket is ours, so nobody else's trees have its name. */
	if (r == 0) {
		trees_init(d);
		worker_wait(d->worker);
	}
	return r;
}

void daemon_finish(struct daemon *d)
{
	d->listener = listener_free(d->listener);
	while (d->loop && !link_empty(&d->conns))
		conn_drop(link_entry(d->conns.next, struct conn, link), NULL);
	if (d->loop)
		survivors_end(d);
	d->builds = builds_free(d->builds);
	while (d->session && !link_empty(&d->sessions))
		session_free(link_entry(d->sessions.prev, struct session, link));
	d->session = NULL;
	/* Only where the loop has failed are there any left. */
	if (d->loop)
		keepers_abandon(d);
	d->worker = worker_free(d->worker);
	timer_stop(&d->idle);
	timer_stop(&d->sweep);
	timer_stop(&d->end);
	timer_stop(&d->alive);
	d->fdstore = fdstore_free(d->fdstore);
	d->watcher = watcher_free(d->watcher);
	d->board = board_free(d->board);
	/* Replies that are still on their way hold images, and those their ranges. */
	d->loop = loop_free(d->loop);
	trees_deinit(d);
	d->region = region_free(d->region);
	d->events = events_free(d->events);
	config_free(d->config);
	free(d->socket);
	free(d->program);
}

static void announce(struct daemon *d, int ready_fd)
{
	_cleanup_text_ struct text problems = { 0 };

	config_check_sources(d->config, &problems);
	log_problems(&problems);
	log_info("listening on %s (%s), %zu fixtures", d->socket, loop_io_name(d->loop), d->config->n_fixtures);
	notify_send("READY=1\nSTATUS=%zu fixtures, %s", d->config->n_fixtures, loop_io_name(d->loop));
	notify_be_brief();
	if (ready_fd < 0)
		return;
	if (write(ready_fd, "\n", 1) != 1)
		log_warn(-errno, "--ready-fd %d cannot be written to", ready_fd);
	close(ready_fd);
}

int daemon_run(struct daemon *d, int ready_fd)
{
	int r;

	announce(d, ready_fd);
	conn_left(d);
	warm(d);
	restart_answer(d);
	start_watchdog(d);
	timer_start(d->loop, &d->sweep, clock_now() + SWEEP_EVERY);
	r = loop_run(d->loop);
	if (r < 0)
		log_error(r, "the event loop failed");
	return r;
}
