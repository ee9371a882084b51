/* SPDX-License-Identifier: MIT */
/* fixd: the command line. */
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/units.h"
#include "config/config.h"
#include "fixd/background.h"
#include "fixd/daemon.h"
#include "fixd/keep/state.h"
#include "wire/default_socket.h"

#define EXIT_USAGE 2
#define RESUME_TRIES 20
#define RESUME_PAUSE_MS 50
#define EXIT_CONFIG 78 /* EX_CONFIG of sysexits.h */

struct options {
	const char *config;
	const char *socket;
	bool check;
	bool background;
	int resumes; /* the version of a state, or 0 */
	int ready_fd;
	int log_level;	   /* -1: as configured */
	int64_t idle_exit; /* ns, for a file that says none */
	bool cold;
};

static const char help[] = "Usage: fixd --config FILE [OPTION...]\n"
			   "Builds test fixtures once, in sealed shared memory, for all test processes.\n"
			   "\n"
			   "  -c, --config FILE      the fixtures and their policy, see fixd.ini(5)\n"
			   "  -s, --socket PATH      listen there instead of what the file says\n"
			   "      --check            check the file, print what is wrong with it, and exit\n"
			   "      --background       end when it listens, and leave it running\n"
			   "      --ready-fd N       write a newline to descriptor N when it listens\n"
			   "      --log-level LEVEL  error, warn, info or debug\n"
			   "      --idle-exit D      end after D without a client, unless the file has one\n"
			   "      --cold             build nothing before somebody asks for it\n"
			   "  -h, --help             this text\n"
			   "  -V, --version          the version\n"
			   "\n"
			   "It logs to standard error. SIGHUP reads the file again, SIGTERM ends it.\n";

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
	fprintf(stderr, "fixd: --log-level %s: expected one of error, warn, info, debug\n", s);
	usage_error();
}

static int parse_fd(const char *s)
{
	uint64_t v;

	if (parse_u64(s, 10, 65535, &v) == 0)
		return (int)v;
	fprintf(stderr, "fixd: --ready-fd %s: expected the number of an open descriptor\n", s);
	usage_error();
}

static int64_t parse_idle_exit(const char *s)
{
	int64_t ns;

	if (parse_duration(s, &ns) == 0 && ns > 0)
		return ns;
	fprintf(stderr, "fixd: --idle-exit %s: expected a number above 0 with ms, s, m or h\n", s);
	usage_error();
}

/* Of a daemon that would like to know before it becomes us. */
static int parse_state_version(const char *s)
{
	uint64_t v;

	if (parse_u64(s, 10, INT32_MAX, &v) == 0 && v > 0)
		return (int)v;
	fprintf(stderr, "fixd: --resumes %s: expected the version of a state\n", s);
	usage_error();
}

/* The same from everywhere: the name of the socket also names our directory of trees. */
static char *main_absolute(const char *path)
{
	_cleanup_free_ char *here = *path == '/' ? NULL : getcwd(NULL, 0);

	return here ? xasprintf("%s/%s", here, path) : xstrdup(path);
}

/* Found once: the search path may mean something else later. To be freed. */
static char *find_self(const char *name)
{
	const char *path = getenv("PATH");

	if (strchr(name, '/'))
		return main_absolute(name);
	for (const char *p = path ? path : "/usr/bin:/bin"; *p; p += strcspn(p, ":"), p += *p == ':') {
		char *candidate = xasprintf("%.*s/%s", (int)strcspn(p, ":"), p, name);

		if (access(candidate, X_OK) == 0)
			return candidate;
		free(candidate);
	}
	return xstrdup("/proc/self/exe");
}

static struct options parse_options(int argc, char **argv)
{
	enum { OPT_CHECK = 256, OPT_BACKGROUND, OPT_READY_FD, OPT_LOG_LEVEL, OPT_IDLE_EXIT, OPT_RESUMES, OPT_COLD };
	static const struct option long_options[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "socket", required_argument, NULL, 's' },
		{ "check", no_argument, NULL, OPT_CHECK },
		{ "resumes", required_argument, NULL, OPT_RESUMES },
		{ "background", no_argument, NULL, OPT_BACKGROUND },
		{ "ready-fd", required_argument, NULL, OPT_READY_FD },
		{ "log-level", required_argument, NULL, OPT_LOG_LEVEL },
		{ "idle-exit", required_argument, NULL, OPT_IDLE_EXIT },
		{ "cold", no_argument, NULL, OPT_COLD },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 },
	};
	struct options o = { .ready_fd = -1, .log_level = -1, .idle_exit = DURATION_NONE };
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
		case OPT_BACKGROUND:
			o.background = true;
			break;
		case OPT_RESUMES:
			o.resumes = parse_state_version(optarg);
			break;
		case OPT_READY_FD:
			o.ready_fd = parse_fd(optarg);
			break;
		case OPT_LOG_LEVEL:
			o.log_level = parse_level(optarg);
			break;
		case OPT_IDLE_EXIT:
			o.idle_exit = parse_idle_exit(optarg);
			break;
		case OPT_COLD:
			o.cold = true;
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
	if (o.resumes && !o.check) {
		fputs("fixd: --resumes is for --check\n", stderr);
		usage_error();
	}
	if (o.background && (o.check || o.ready_fd >= 0)) {
		fprintf(stderr, "fixd: one of --background and --%s is meant, not both\n", o.check ? "check" : "ready-fd");
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

static int check_only(const struct config *c, bool quiet)
{
	_cleanup_text_ struct text problems = { 0 };
	size_t n = config_check_sources(c, &problems);

	print_problems(&problems);
	if (n == 0 && !quiet)
		printf("%s: %zu fixture%s, no problems\n", c->file, c->n_fixtures, c->n_fixtures == 1 ? "" : "s");
	return n ? EXIT_CONFIG : EXIT_SUCCESS;
}

/* $FIXD_SOCKET is where clients look first; then the user's own place, then the system's. Empty: there is none. */
static void choose_socket(const struct options *o, struct daemon_settings *s)
{
	const char *env = getenv("FIXD_SOCKET"), *named = o->socket ? o->socket : s->config->socket;
	char path[PATH_MAX];

	if (named || (env && *env)) {
		s->socket = main_absolute(named ? named : env);
		return;
	}
	s->socket = xstrdup(default_socket_to_listen(path, sizeof path) ? path : "");
	s->alias = default_socket_alias(s->socket, path, sizeof path) ? xstrdup(path) : NULL;
}

int main(int argc, char **argv)
{
	/* Whoever starts us may have closed them: no socket is to get their numbers, and our log with it. */
	int standard = fd_open_standard();
	struct options o = parse_options(argc, argv);
	struct daemon_settings s = { .log_level = o.log_level, .idle_exit = o.idle_exit, .cold = o.cold, .argv = argv };
	struct daemon d = { 0 };
	_cleanup_text_ struct text problems = { 0 };
	/* Who waited for us was told long ago. */
	bool resumed = getenv("FIXD_RESUME") != NULL;
	int r = config_load(o.config, &s.config, &problems);

	/* A moment ago it could be read, and there is no way back: what is passing may be over. */
	for (int tries = 0; r < 0 && resumed && tries < RESUME_TRIES; tries++) {
		poll(NULL, 0, RESUME_PAUSE_MS);
		problems.size = 0;
		r = config_load(o.config, &s.config, &problems);
	}
	if (r < 0) {
		print_problems(&problems);
		return EXIT_CONFIG;
	}
	if (o.check) {
		r = check_only(s.config, o.resumes);
		if (o.resumes && o.resumes != STATE_VERSION) {
			fprintf(stderr, "fixd: version %d of the state is not known here, but %d\n", o.resumes, STATE_VERSION);
			r = EXIT_FAILURE;
		} else if (o.resumes && r == EXIT_CONFIG) {
			r = EXIT_SUCCESS; /* a source that cannot be read is no reason to stay */
		}
		config_free(s.config);
		return r;
	}
	log_init("fixd", getenv("JOURNAL_STREAM") != NULL);
	if (o.background && !resumed && (o.ready_fd = background_enter()) < 0) {
		log_error(o.ready_fd, "--background");
		return EXIT_FAILURE;
	}
	/* Whoever starts us may ignore it, and then nobody would hear of the end of a builder. */
	signal(SIGCHLD, SIG_DFL);
	fd_survive_limit();
	r = standard < 0 ? standard : clock_init();
	if (r < 0)
		log_error(r, standard < 0 ? "/dev/null" : "FIXD_TEST_CLOCK");
	choose_socket(&o, &s);
	s.program = find_self(argv[0]);
	if (r == 0)
		r = daemon_start(&d, &s);
	if (r == 0)
		r = daemon_run(&d, resumed ? -1 : o.ready_fd);
	daemon_finish(&d);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
