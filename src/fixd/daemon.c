/* SPDX-License-Identifier: MIT */
#include "fixd/daemon.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
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
#include "fixd/serve/conn.h"
#include "fixd/serve/control.h"
#include "fixd/serve/event_stream.h"
#include "fixd/serve/reload.h"
#include "fixd/serve/request.h"
#include "fixd/work/build.h"
#include "fixd/work/keeper.h"
#include "fixd/work/recovery.h"
#include "fixd/work/survivor.h"
#include "fixd/work/transfer.h"
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

static void daemon_set_log_level(const struct daemon *d)
{
	log_set_level((enum log_level)(d->log_level >= 0 ? d->log_level : d->model.config->log_level));
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

	if (session_instance(d->model.session, f, &(struct instance_lookup){ .param = param, .node = "", .env = env }, &i) == 0)
		instance_warm(i);
}

/* What is marked `warm`. */
static void warm(struct daemon *d)
{
	for (size_t k = 0; k < d->model.config->n_fixtures && !d->cold; k++) {
		const struct fixture *f = d->model.config->fixtures[k];
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

/* Whatever it was read for. */
static void daemon_reload(struct daemon *d, struct config *fresh, struct text *problems)
{
	struct config *old = d->model.config;

	if (d->model.stopping) {
		config_free(fresh);
		return;
	}
	if (!fresh) {
		log_error(0, "the configuration was not read, the old one stays");
	} else {
		if (fresh->address_base != old->address_base || fresh->io != old->io)
			text_printf(problems, "%s: address-base and io take effect at the next start\n", fresh->file);
		d->model.config = fresh;
		d->server.n_configs++;
		daemon_set_log_level(d);
		listener_permit(d->server.listener);
		link_for_each(l, &d->model.sessions)
			session_redefine(link_entry(l, struct session, link), fresh);
		config_free(old);
		log_info("configuration read: %zu fixture%s", fresh->n_fixtures, fresh->n_fixtures == 1 ? "" : "s");
		warm(d);
	}
	log_problems(problems);
}

static void daemon_stop(struct daemon *d)
{
	if (d->model.stopping)
		return;
	d->model.stopping = true;
	d->model.restarting = false;
	notify_send("STOPPING=1");
	/* Not in the middle of whatever we are called from. */
	loop_defer(d->model.loop, &d->ending);
}

/* Everybody is dropped, nothing is needed any more; what must be torn down is, in its order. */
static void end_everything(void *arg)
{
	struct daemon *d = arg;

	server_end(&d->server);
	timer_stop(&d->sweep);
	work_end(&d->work);
	while (!link_empty(&d->model.sessions))
		session_free(link_entry(d->model.sessions.prev, struct session, link));
	d->model.session = NULL;
	loop_defer(d->model.loop, &d->work.ended);
}

static void leave(struct daemon *d, const char *why)
{
	d->leaving = NULL;
	if (d->server.n_conns)
		return;
	/* With the machine they would be gone. */
	if (transfers_go_up(&d->work)) {
		log_info("%s: waiting for what goes to the remote", why);
		d->leaving = why;
		return;
	}
	log_info("%s: leaving", why);
	daemon_stop(d);
}

static void on_idle(void *arg)
{
	leave(arg, "nobody has been connected for the time of idle-exit");
}

/* There may be room; a daemon that stops or restarts waits for builds and keepers. */
static void on_work_ended(void *arg)
{
	struct daemon *d = arg;

	reclaim_wake(&d->model);
	if (d->model.stopping && !d->model.session && work_is_over(&d->work)) {
		fdstore_end(&d->keep);
		loop_stop(d->model.loop);
	}
	if (d->leaving)
		leave(d, d->leaving);
	restart_continue(&d->keep);
}

static void daemon_idle(struct daemon *d)
{
	int64_t configured = d->model.config->idle_exit;
	int64_t limit = configured != DURATION_NONE ? configured : d->idle_exit;

	d->leaving = NULL;
	if (!d->model.stopping && limit != DURATION_NONE)
		timer_start_in(d->model.loop, &d->idle, limit);
}

#define SWEEP_EVERY (10 * NSEC_PER_SEC)

static void on_sweep(void *arg)
{
	struct daemon *d = arg;

	watcher_look_at_mounts(d->work.watcher);
	link_for_each_safe(l, &d->model.sessions) {
		if (!session_sweep(link_entry(l, struct session, link)))
			session_free(link_entry(l, struct session, link));
	}
	transfers_let_go(&d->work);
	timer_start_in(d->model.loop, &d->sweep, SWEEP_EVERY);
	if (!d->leaving && !d->model.stopping && listener_is_lost(d->server.listener))
		leave(d, "the socket was removed, and nobody is connected");
}

/* The next daemon goes on with everything; if there is none, the service manager lets go of it, and it is torn down. */
static void daemon_leave(struct daemon *d)
{
	notify_send("STOPPING=1");
	if (fdstore_leave(&d->keep) < 0)
		return;
	transfers_go_alone(&d->work);
	log_info("everything is left with the service manager");
	_exit(EXIT_SUCCESS);
}

static void on_alive(void *arg)
{
	struct daemon *d = arg;

	notify_send("WATCHDOG=1");
	timer_start_in(d->model.loop, &d->alive, d->watchdog);
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
	on_alive(d);
}

static sigset_t handled;

/* 0: there is none. The descriptor only wakes the loop, as a read(2) of it that fails would not be asked for again. */
static int next_signal(const struct daemon *d, pid_t *from)
{
	static const struct timespec now;
	struct signalfd_siginfo told;
	siginfo_t info;
	int sig = sigtimedwait(&handled, &info, &now);

	*from = sig > 0 ? info.si_pid : 0;
	if (sig > 0 || errno == EAGAIN || errno == EINTR)
		return sig > 0 ? sig : 0;
	/* A seccomp filter does not know the call. */
	if (read(d->signals, &told, sizeof told) != sizeof told)
		return 0;
	*from = (pid_t)told.ssi_pid;
	return (int)told.ssi_signo;
}

static void on_signal(void *arg)
{
	struct daemon *d = arg;
	pid_t from;
	int sig;

	while ((sig = next_signal(d, &from)) > 0) {
		if (d->model.stopping) {
			log_info("already stopping");
		} else if (sig == SIGHUP) {
			reload_ask(&d->server, NULL, NULL);
		} else {
			log_info("stopping: signal %d from pid %d", sig, (int)from);
			if (sig == SIGTERM && d->keep.fdstore)
				daemon_leave(d);
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
	loop_watch(d->model.loop, d->signals, on_signal, d);
	return 0;
}

/* A descriptor for every image and every client; and images are files. */
static void raise_limits(struct daemon *d)
{
	struct rlimit r;
	char size[32];

	if (getrlimit(RLIMIT_FSIZE, &r) == 0 && r.rlim_cur != RLIM_INFINITY)
		log_warn(0, "files, and so images, may not be larger than %s here: expected no limit (ulimit -f)",
			 format_size(size, sizeof size, r.rlim_cur));
	if (getrlimit(RLIMIT_NOFILE, &r) < 0)
		r.rlim_cur = r.rlim_max = 1024;
	if (r.rlim_cur < r.rlim_max) {
		r.rlim_cur = r.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &r) < 0)
			log_warn(-errno, "the number of open files cannot be raised");
	}
	d->model.descriptors_max = (size_t)r.rlim_cur / 2;
}

static int start_loop(struct daemon *d)
{
	_cleanup_free_ char *reason = NULL;
	int r = loop_new(&d->model.loop, (enum io_kind)d->model.config->io, &reason);

	if (r < 0)
		log_error(0, "no event loop: %s", reason ? reason : strerror(-r));
	else if (loop_io_reason(d->model.loop))
		log_warn(0, "using epoll: %s", loop_io_reason(d->model.loop));
	return r;
}

static int start_listening(struct daemon *d)
{
	int r = listener_new(&d->server, fd_steal(&d->keep.listener), fd_steal(&d->keep.listener_lock));

	if (r == -EADDRINUSE)
		log_error(
			0,
			"another fixd listens on %s: fixctl --socket %s status says whose, and stop ends it; --socket PATH is another place",
			d->server.socket, d->server.socket);
	else if (r == -EMLINK)
		log_error(0, "several sockets were handed over: expected one, of one ListenSequentialPacket=");
	else if (r == -EPROTOTYPE)
		log_error(
			0,
			"the socket that was handed over is no listening SOCK_SEQPACKET Unix socket: expected one of ListenSequentialPacket=, "
			"or of systemd-socket-activate --seqpacket");
	else if (r < 0 && !*d->server.socket)
		log_error(
			0,
			"no place for the socket: $XDG_RUNTIME_DIR, /run/user/UID, /tmp/fixd-UID and ~/.cache/fixd cannot be made, or are not only "
			"this user's; expected --socket, FIXD_SOCKET, or 'socket =' in the file");
	else if (r < 0)
		log_error(r, "cannot listen on %s", d->server.socket);
	return r;
}

static void daemon_restart(struct daemon *d, struct conn *c, const struct wire_header *h)
{
	restart_ask(&d->keep, c, h);
}

static void init_rooms(struct daemon *d)
{
	d->model.effects = &work_effects;
	d->model.uid = geteuid();
	d->model.work = &d->work;
	deferred_init(&d->model.changed, fdstore_save, &d->keep);
	d->model.on_hold = fdstore_hold;
	d->model.on_hold_arg = &d->keep;
	model_init(&d->model);
	work_init(&d->work, &d->model);
	deferred_init(&d->work.ended, on_work_ended, d);
	server_init(&d->server, &d->model, &d->work);
	d->server.control = (struct control){ d, daemon_reload, daemon_stop, daemon_restart, daemon_idle };
	d->keep.model = &d->model;
	d->keep.work = &d->work;
	d->keep.server = &d->server;
	d->keep.listener = d->keep.listener_lock = -1;
	timer_init(&d->idle, on_idle, d);
	timer_init(&d->alive, on_alive, d);
	timer_init(&d->sweep, on_sweep, d);
	deferred_init(&d->ending, end_everything, d);
}

int daemon_start(struct daemon *d, const struct daemon_settings *settings)
{
	int r;

	d->model.config = settings->config;
	d->server.socket = settings->socket;
	d->server.alias = settings->alias;
	d->keep.program = settings->program;
	d->keep.argv = settings->argv;
	d->log_level = settings->log_level;
	d->idle_exit = settings->idle_exit;
	d->cold = settings->cold;
	daemon_set_log_level(d);
	raise_limits(d);
	r = start_loop(d);
	if (r < 0)
		return r;
	init_rooms(d);
	if ((r = watch_signals(d)) < 0) {
		log_error(r, "signals cannot be watched");
		return r;
	}
	if ((r = spawn_init()) < 0)
		return r;
	d->model.region = region_new(d->model.config->address_base, REGION_SIZE);
	d->model.session = session_new(&d->model, d->model.config->root, geteuid());
	if (restart_resume(&d->keep) == 0 && !d->work.board)
		fdstore_resume(&d->keep);
	if (!d->model.events && (r = work_open_events(&d->work, -1)) < 0)
		return r;
	if (!d->work.board && (r = board_new(&d->work.board)) < 0) {
		log_error(r, "the board cannot be made");
		return r;
	}
	r = start_listening(d);
	d->work.socket = d->server.socket;
	if (r == 0)
		d->keep.fdstore = fdstore_new(&d->keep);
	/* The socket is ours, so nobody else's trees have its name. */
	if (r == 0) {
		recovery_begin(&d->work);
		worker_wait(d->work.worker);
	}
	return r;
}

void daemon_finish(struct daemon *d)
{
	if (d->model.loop) {
		server_deinit(&d->server);
		work_end(&d->work);
		while (d->model.session && !link_empty(&d->model.sessions))
			session_free(link_entry(d->model.sessions.prev, struct session, link));
		d->model.session = NULL;
		timer_stop(&d->idle);
		timer_stop(&d->sweep);
		timer_stop(&d->alive);
		work_deinit(&d->work);
		d->keep.fdstore = fdstore_free(d->keep.fdstore);
		d->work.board = board_free(d->work.board);
		/* Replies that are still on their way hold images, and those their ranges. */
		d->model.loop = loop_free(d->model.loop);
		trees_deinit(&d->work);
		work_close_events(&d->work);
	}
	d->model.region = region_free(d->model.region);
	free(d->model.unsandboxed);
	config_free(d->model.config);
	free(d->server.socket);
	free(d->server.alias);
	free(d->keep.program);
}

static void announce(struct daemon *d, int ready_fd)
{
	_cleanup_text_ struct text problems = { 0 };
	size_t n = d->model.config->n_fixtures;

	config_check_sources(d->model.config, &problems);
	log_problems(&problems);
	log_info("listening on %s (%s), %zu fixture%s", d->server.socket, loop_io_name(d->model.loop), n, n == 1 ? "" : "s");
	notify_send("READY=1\nSTATUS=%zu fixture%s, %s", n, n == 1 ? "" : "s", loop_io_name(d->model.loop));
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
	if (!d->server.n_conns)
		daemon_idle(d);
	warm(d);
	restart_answer(&d->keep);
	start_watchdog(d);
	timer_start_in(d->model.loop, &d->sweep, SWEEP_EVERY);
	r = loop_run(d->model.loop);
	if (r < 0)
		log_error(r, "the event loop failed");
	return r;
}
