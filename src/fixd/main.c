/* SPDX-License-Identifier: MIT */
/* fixd: the daemon's command line and life. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/units.h"
#include "config/config.h"
#include "fixd/board.h"
#include "fixd/build.h"
#include "fixd/conn.h"
#include "fixd/daemon.h"
#include "fixd/instance.h"
#include "fixd/loop.h"
#include "fixd/notify.h"
#include "fixd/session.h"
#include "fixd/spawn.h"
#include "fixd/trees.h"
#include "fixd/watch.h"
#include "image/region.h"

#define EXIT_USAGE 2
#define EXIT_CONFIG 78 /* EX_CONFIG of sysexits.h */

struct options {
	const char *config;
	const char *socket;
	bool check;
	int ready_fd;
	int log_level; /* -1: as configured */
};

static const char help[] =
	"Usage: fixd --config FILE [OPTION...]\n"
	"Builds test fixtures once, in sealed shared memory, and hands them to test processes.\n"
	"\n"
	"  -c, --config FILE      the fixtures and their policy, see fixd.ini(5)\n"
	"  -s, --socket PATH      listen there instead of what the file says\n"
	"      --check            check the file, print what is wrong with it, and exit\n"
	"      --ready-fd N       write a newline to descriptor N when clients may connect\n"
	"      --log-level LEVEL  error, warn, info or debug\n"
	"  -h, --help             this text\n"
	"  -V, --version          the version\n"
	"\n"
	"It stays in the foreground. SIGHUP reads the file again, SIGTERM ends it.\n";

_Noreturn static void usage_error(void)
{
	fputs("Try 'fixd --help'.\n", stderr);
	exit(EXIT_USAGE);
}

static int parse_level(const char *s)
{
	static const char *const names[] = { "error", "warn", "info", "debug" };

	for (int i = 0; i < (int)ELEMENTSOF(names); i++) {
		if (!strcmp(s, names[i]))
			return i;
	}
	fprintf(stderr, "fixd: --log-level %s: allowed are error, warn, info, debug\n", s);
	usage_error();
}

static int parse_fd(const char *s)
{
	uint64_t v;

	if (parse_u64(s, 10, 65535, &v) == 0)
		return (int)v;
	fprintf(stderr, "fixd: --ready-fd %s: allowed is the number of an open descriptor\n", s);
	usage_error();
}

static struct options parse_options(int argc, char **argv)
{
	enum { OPT_CHECK = 256, OPT_READY_FD, OPT_LOG_LEVEL };
	static const struct option long_options[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "socket", required_argument, NULL, 's' },
		{ "check", no_argument, NULL, OPT_CHECK },
		{ "ready-fd", required_argument, NULL, OPT_READY_FD },
		{ "log-level", required_argument, NULL, OPT_LOG_LEVEL },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 },
	};
	struct options o = { .ready_fd = -1, .log_level = -1 };
	int c;

	while ((c = getopt_long(argc, argv, "c:s:hV", long_options, NULL)) >= 0) {
		switch (c) {
		case 'c':
			o.config = optarg;
			break;
		case 's':
			o.socket = optarg;
			break;
		case OPT_CHECK:
			o.check = true;
			break;
		case OPT_READY_FD:
			o.ready_fd = parse_fd(optarg);
			break;
		case OPT_LOG_LEVEL:
			o.log_level = parse_level(optarg);
			break;
		case 'h':
			fputs(help, stdout);
			exit(fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
		case 'V':
			puts("fixd " PACKAGE_VERSION);
			exit(fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
		default:
			usage_error();
		}
	}
	if (optind < argc) {
		fprintf(stderr, "fixd: unexpected argument '%s'\n", argv[optind]);
		usage_error();
	}
	if (!o.config) {
		fputs("fixd: --config FILE is missing\n", stderr);
		usage_error();
	}
	return o;
}

static void print_problems(const struct text *problems)
{
	const char *end;

	for (const char *p = problems->data; p && *p; p = end + 1) {
		end = strchr(p, '\n');
		fprintf(stderr, "fixd: %.*s\n", (int)(end - p), p);
	}
}

static void log_problems(const struct text *problems)
{
	const char *end;

	for (const char *p = problems->data; p && *p; p = end + 1) {
		end = strchr(p, '\n');
		log_warn(0, "%.*s", (int)(end - p), p);
	}
}

static int check_only(const struct config *c)
{
	_cleanup_text_ struct text problems = { 0 };
	size_t n = config_check_sources(c, &problems);

	print_problems(&problems);
	if (n == 0)
		printf("%s: %zu fixture%s, no problems\n", c->file, c->n_fixtures, c->n_fixtures == 1 ? "" : "s");
	return n ? EXIT_CONFIG : EXIT_SUCCESS;
}

/* The name of the socket also names our directory of trees: it must be the same from everywhere. */
static char *absolute(const char *path)
{
	_cleanup_free_ char *here = *path == '/' ? NULL : getcwd(NULL, 0);

	return here ? xasprintf("%s/%s", here, path) : xstrdup(path);
}

/* $FIXD_SOCKET is where clients look first; then the user's own place, then the system's. */
static char *choose_socket(const struct options *o, const struct config *c)
{
	const char *env = getenv("FIXD_SOCKET"), *runtime = getenv("XDG_RUNTIME_DIR");

	if (o->socket || c->socket)
		return absolute(o->socket ? o->socket : c->socket);
	if (env && *env)
		return absolute(env);
	if (runtime && *runtime)
		return xasprintf("%s/fixd/socket", runtime);
	return xstrdup("/run/fixd/socket");
}

static int make_socket_directory(const char *path)
{
	const char *slash = strrchr(path, '/');
	_cleanup_free_ char *dir = slash && slash != path ? xstrndup(path, (size_t)(slash - path)) : NULL;

	return dir ? dir_make_all(dir, 0755) : 0;
}

static void warm(struct daemon *d)
{

	for (size_t i = 0; i < d->config->n_fixtures; i++) {
		const struct fixture *f = d->config->fixtures[i];
		size_t n = list_count(f->all_env);
		char **env = xcalloc(n + 1, sizeof *env);
		static char *const none[] = { NULL, NULL };

		for (size_t k = 0; k < n; k++) {
			const char *v = getenv(f->all_env[k]);

			env[k] = v ? xasprintf("%s=%s", f->all_env[k], v) : xstrdup(f->all_env[k]);
		}
		for (char *const *param = f->params ? f->params : none; f->warm && (*param || !f->params); param++) {
			struct instance *in;

			if (session_instance(d->session, f, *param, "", env, &in) == 0)
				instance_warm(in);
			if (!f->params)
				break;
		}
		list_free(env);
	}
}

int daemon_reload(struct daemon *d, struct text *problems)
{
	struct config *fresh, *old = d->config;
	int r;

	notify_send("RELOADING=1\nMONOTONIC_USEC=%lld", (long long)(clock_now() / 1000));
	r = config_load(old->file, &fresh, problems);
	if (r < 0) {
		log_error(0, "the configuration was not read, the old one stays");
	} else {
		config_check_sources(fresh, problems);
		if (fresh->address_base != old->address_base || fresh->io != old->io)
			text_printf(problems, "%s: address-base and io take effect at the next start\n", fresh->file);
		d->config = fresh;
		listener_permit(d->listener);
		session_redefine(d->session, fresh);
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
	notify_send("STOPPING=1");
	loop_stop(d->loop);
}

static void on_idle(void *arg)
{
	struct daemon *d = arg;

	if (d->n_conns)
		return;
	log_info("nobody has been connected for the time of idle-exit: leaving");
	daemon_stop(d);
}

void daemon_conn_left(struct daemon *d)
{
	if (d->n_conns == 0 && d->config->idle_exit != DURATION_NONE)
		timer_start(d->loop, &d->idle, clock_now() + d->config->idle_exit);
}

struct signals {
	struct daemon *daemon;
	int fd;
};

static void on_signal(void *arg)
{
	struct signals *s = arg;
	struct signalfd_siginfo info;

	while (read(s->fd, &info, sizeof info) == sizeof info) {
		if (info.ssi_signo == SIGHUP) {
			_cleanup_text_ struct text problems = { 0 };

			daemon_reload(s->daemon, &problems);
		} else {
			log_info("stopping: signal %u from pid %u", info.ssi_signo, info.ssi_pid);
			daemon_stop(s->daemon);
		}
	}
}

/* Blocked from the start, so that none is lost before the loop runs. */
static int watch_signals(struct daemon *d, struct signals *s)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	signal(SIGPIPE, SIG_IGN);
	s->daemon = d;
	s->fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s->fd < 0)
		return -errno;
	loop_watch(d->loop, s->fd, on_signal, s);
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
	d->images_max = (size_t)r.rlim_cur / 2;
}

static int start(struct daemon *d, struct signals *signals)
{
	int r;

	d->started = clock_now();
	/* No image of this daemon has the number of one of another, also where every daemon has the same pid. */
	d->last_serial = (uint64_t)clock_real();
	link_init(&d->conns);
	timer_init(&d->idle, on_idle, d);
	raise_limits(d);
	r = loop_new(&d->loop, (enum io_kind)d->config->io, &d->io_reason);
	if (r < 0) {
		log_error(0, "no event loop: %s", d->io_reason ? d->io_reason : strerror(-r));
		return r;
	}
	if (d->io_reason)
		log_warn(0, "using epoll: %s", d->io_reason);
	if ((r = watch_signals(d, signals)) < 0 || (r = board_new(&d->board)) < 0) {
		log_error(r, "cannot start");
		return r;
	}
	if ((r = spawn_init()) < 0) {
		log_error(r, "the program fixd-builder is not there");
		return r;
	}
	d->region = region_new(d->config->address_base, REGION_SIZE);
	d->watcher = watcher_new(d->loop);
	d->builds = builds_new(d);
	d->session = session_new(d, d->config->root, geteuid());
	r = make_socket_directory(d->socket);
	if (r == 0)
		r = listener_new(d, &d->listener);
	if (r == -EADDRINUSE)
		log_error(0, "another fixd listens on %s", d->socket);
	else if (r < 0)
		log_error(r, "cannot listen on %s", d->socket);
	if (r == 0)
		trees_init(d);
	return r;
}

static void finish(struct daemon *d)
{
	d->listener = listener_free(d->listener);
	while (d->loop && !link_empty(&d->conns))
		conn_drop(link_entry(d->conns.next, struct conn, link), NULL);
	if (d->session) {
		d->builds = builds_free(d->builds);
		d->session = session_free(d->session);
		trees_deinit(d);
	}
	timer_stop(&d->idle);
	d->watcher = watcher_free(d->watcher);
	d->board = board_free(d->board);
	/* Replies that are still on their way hold images, and those their ranges. */
	d->loop = loop_free(d->loop);
	d->region = region_free(d->region);
	config_free(d->config);
	free(d->io_reason);
	free(d->socket);
}

static void announce(struct daemon *d, const struct options *o)
{
	_cleanup_text_ struct text problems = { 0 };

	config_check_sources(d->config, &problems);
	log_problems(&problems);
	log_info("listening on %s (%s), %zu fixtures", d->socket, loop_io_name(d->loop), d->config->n_fixtures);
	notify_send("READY=1\nSTATUS=%zu fixtures, %s", d->config->n_fixtures, loop_io_name(d->loop));
	if (o->ready_fd < 0)
		return;
	if (write(o->ready_fd, "\n", 1) != 1)
		log_warn(-errno, "--ready-fd %d cannot be written to", o->ready_fd);
	close(o->ready_fd);
}

int main(int argc, char **argv)
{
	struct options o = parse_options(argc, argv);
	struct daemon d = { 0 };
	struct signals signals = { .fd = -1 };
	_cleanup_text_ struct text problems = { 0 };
	int r = config_load(o.config, &d.config, &problems);

	if (r < 0) {
		print_problems(&problems);
		return EXIT_CONFIG;
	}
	if (o.check) {
		r = check_only(d.config);
		config_free(d.config);
		return r;
	}
	log_init("fixd", getenv("JOURNAL_STREAM") != NULL);
	log_set_level(o.log_level >= 0 ? (enum log_level)o.log_level : (enum log_level)d.config->log_level);
	r = clock_init();
	if (r < 0)
		log_error(r, "FIXD_TEST_CLOCK");
	d.socket = choose_socket(&o, d.config);
	if (r == 0)
		r = start(&d, &signals);
	if (r == 0) {
		announce(&d, &o);
		daemon_conn_left(&d);
		warm(&d);
		r = loop_run(d.loop);
		if (r < 0)
			log_error(r, "the event loop failed");
	}
	finish(&d);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
