/* SPDX-License-Identifier: MIT */
#include "fixctl/run.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/units.h"
#include "client/connection.h"
#include "fixctl/run_command.h"
#include "fixctl/transfers.h"
#include "fixd.h"
#include "wire/socket.h"

/* The library beside this program in a build tree, or the one that was installed. */
static char *find_shim(void)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	char *path = NULL;

	if (n > 0) {
		self[n] = '\0';
		path = xasprintf("%.*s/.libs/libfixd-preload.so", (int)(strrchr(self, '/') - self), self);
	}
	if (path && access(path, R_OK) == 0)
		return path;
	free(path);
	return xstrdup(PKGLIBDIR "/libfixd-preload.so");
}

static int open_daemon(struct command *c)
{
	int r = fixd_open(&c->f, c->socket), code;

	if (r < 0) {
		fprintf(stderr, "fixctl: %s\n", fixd_error(NULL));
		if (ctl_open_failed(r) == EXIT_NO_DAEMON)
			fputs("fixctl: with --config FILE the run has a daemon of its own\n", stderr);
		return ctl_open_failed(r);
	}
	if (!c->socket)
		c->socket = xstrdup(c->f->path);
	code = keeper_hold(&c->keeper, c->f->fd);
	if (code < 0) {
		fprintf(stderr, "fixctl: the run's keeper is gone: %s\n", strerror(-code));
		return EXIT_REFUSED;
	}
	return 0;
}

/* The trees stay for as long as anything of the run does. */
static int hold_trees(struct command *c)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < c->shown.n; i++) {
		struct shown *x = &c->shown.all[i];

		if (x->kind == RUN_TREE) {
			r = keeper_hold(&c->keeper, x->fd);
			x->fd = fd_close(x->fd);
		}
	}
	if (r < 0)
		fprintf(stderr, "fixctl: the run's keeper is gone: %s\n", strerror(-r));
	return r < 0 ? EXIT_REFUSED : 0;
}

static int join(struct command *c)
{
	const char *root = c->ctl->session ? c->ctl->session : c->shown.root;
	int r = fixd_join(c->f, root, c->id, 0);

	return r < 0 ? ctl_failed(c->f, r) : 0;
}

/* By which way what is shown is shown, and why. */
static const char *way_of(const struct shown *x, bool mount, bool shim)
{
	if (x->kind == RUN_TREE)
		return mount ? "mount" : "shim";
	return x->objects ? "descriptor" : shim ? "shim" : "link";
}

static int dry_run(struct command *c)
{
	_cleanup_free_ char *why = c->options.isolate == RUN_SHIM ? xstrdup("--isolate=shim") : mounts_refused();
	int code = shown_select(c->f, &c->options, &c->scratch, &c->shown);
	bool mount = !why;

	if (code)
		return code;
	if (why && c->options.isolate == RUN_MOUNT) {
		fprintf(stderr, "fixctl: --isolate=mount: %s; --isolate=shim does without\n", why);
		return EXIT_REFUSED;
	}
	for (size_t i = 0; i < c->shown.n; i++) {
		const struct shown *x = &c->shown.all[i];

		printf("%s: %s%s\n    of: %s%s%s\n    by: %s\n", x->name, x->has_path ? "" : "$", x->has_path ? x->path : x->variable,
		       x->source, *x->input ? " " : "", x->input, way_of(x, mount, command_needs_shim(c, mount)));
	}
	if (mount)
		printf("Trees are mounted: this machine allows it%s.%s\n",
		       geteuid() ? ", but for those of other users and groups, and with files of several names" : "",
		       command_needs_shim(c, mount) ? " Files are shown by the preloaded library."
						    : " Nothing is loaded into the programs.");
	else
		printf("All is shown by the preloaded library: %s. Programs that are linked statically do not see it.\n", why);
	return 0;
}

static int run_it(struct command *c)
{
	int r = scratch_make(&c->scratch), code;

	if (r < 0) {
		fprintf(stderr, "fixctl: no scratch directory in %s: %s\n", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp", strerror(-r));
		return EXIT_REFUSED;
	}
	if (c->options.config)
		c->socket = xasprintf("%s/socket", c->scratch.path);
	else if (c->ctl->socket)
		c->socket = realpath(c->ctl->socket, NULL);
	if (!c->socket && c->ctl->socket)
		c->socket = xstrdup(c->ctl->socket);
	if (c->options.config && strlen(c->socket) > SOCKET_PATH_MAX) {
		fprintf(stderr,
			"fixctl: %s: the socket of the run's daemon would be there, and its path has at most %d bytes, not %zu; set TMPDIR\n",
			c->scratch.path, SOCKET_PATH_MAX, strlen(c->socket));
		scratch_remove(c->scratch.path);
		return EXIT_REFUSED;
	}
	code = keeper_start(&c->keeper, &c->scratch, c->options.config, c->socket);
	if (code == 0)
		code = open_daemon(c);
	if (code == 0 && c->options.wait_upload)
		code = transfers_begin(c->f, &c->transfers_from);
	if (code == 0 && c->options.dry)
		code = dry_run(c);
	else if (code == 0)
		code = shown_attach(c->f, &c->options, &c->scratch, &c->shown);
	if (code == EXIT_BUILD_FAILED)
		code = c->options.build_failed;
	if (code == 0 && c->options.dry)
		goto end;
	if (code == 0)
		code = hold_trees(c);
	if (code == 0)
		code = join(c);
	/* What its own daemon has said so far is about the fixtures; from here on standard error is the command's. */
	keeper_print_log(&c->keeper);
	if (code == 0)
		code = command_execute(c);
	/* How the command has ended is what counts. */
	if (c->options.wait_upload)
		transfers_wait(c->f, c->transfers_from);
end:
	fixd_close(c->f);
	shown_free(&c->shown);
	keeper_end(&c->keeper, &c->scratch);
	return code;
}

static int parse_isolate(const char *mode)
{
	static const char *const modes[] = { "auto", "mount", "shim" };

	for (size_t k = 0; k < ELEMENTSOF(modes); k++) {
		if (!strcmp(mode, modes[k]))
			return (int)k;
	}
	ctl_misuse("run", "--isolate=%s: expected one of auto, mount, shim", mode);
}

static const struct option options[] = {
	{ "isolate", required_argument, NULL, 'i' },
	{ "reset-on-fork", no_argument, NULL, 'r' },
	{ "fresh", no_argument, NULL, 'F' },
	{ "config", required_argument, NULL, 'c' },
	{ "fixture", required_argument, NULL, 'f' },
	{ "timeout", required_argument, NULL, 't' },
	{ "build-failed", required_argument, NULL, 'b' },
	{ "dry-run", no_argument, NULL, 'n' },
	{ "changes", optional_argument, NULL, 'C' },
	{ "keep", required_argument, NULL, 'k' },
	{ "json", no_argument, NULL, 'j' },
	{ "blame", no_argument, NULL, 'B' },
	{ "wait-upload", no_argument, NULL, 'W' },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

static void run_parse(struct command *c, int argc, char **argv)
{
	struct run_options *o = &c->options;
	int64_t timeout;
	uint64_t status;
	size_t n = 0;
	int k;

	while ((k = getopt_long(argc, argv, "+i:rFc:f:t:b:nk:j", options, NULL)) >= 0) {
		switch (k) {
		case 'i':
			o->isolate = parse_isolate(optarg);
			break;
		case 'r':
			o->reset_on_fork = true;
			break;
		case 'B':
			o->blame = true;
			break;
		case 'W':
			o->wait_upload = true;
			break;
		case 'F':
			o->fresh = true;
			break;
		case 'c':
			o->config = optarg;
			break;
		case 'n':
			o->dry = true;
			break;
		case 'C':
			o->changes.list = true;
			o->changes.file = optarg;
			break;
		case 'k':
			o->changes.keep = optarg;
			break;
		case 'j':
			o->changes.json = true;
			break;
		case 'f':
			o->only = xrealloc(o->only, (n + 2) * sizeof *o->only);
			o->only[n++] = optarg;
			o->only[n] = NULL;
			break;
		case 't':
			if (parse_duration(optarg, &timeout) < 0 || timeout == 0 || timeout > INT64_C(1000000) * NSEC_PER_SEC)
				ctl_misuse("run", "--timeout %s: expected a number above 0 with ms, s, m or h", optarg);
			o->timeout_ms = (int)((timeout + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC);
			break;
		case 'h':
			ctl_print_help(&command_run);
			exit(EXIT_SUCCESS);
		case 'b':
			if (parse_u64(optarg, 10, 255, &status) < 0 || status == 0)
				ctl_misuse("run", "--build-failed %s: expected an exit status from 1 to 255", optarg);
			o->build_failed = (int)status;
			break;
		default:
			ctl_bad_option("run");
		}
	}
	o->changes.json |= c->ctl->json;
	if (o->changes.json && !o->changes.list)
		ctl_misuse("run", "--json is the form of --changes: it has no meaning without");
	if (optind == argc && !o->dry)
		ctl_misuse("run", "a command is missing");
	if (o->config && c->ctl->socket)
		ctl_misuse("run", "--config starts a daemon of the run's own: --socket has no meaning");
	c->argv = argv + optind;
}

static int run_suite(struct fixctl *ctl, int argc, char **argv)
{
	struct command c = { .ctl = ctl,
			     .keeper = { .pid = -1, .channel = -1 },
			     .options = { .timeout_ms = connection_timeout(), .build_failed = EXIT_BUILD_FAILED } };
	const char *disabled = getenv("FIXD_DISABLE");
	int code;

	/* What we open must not become somebody's standard stream. */
	for (int fd = 0; fd <= 2; fd++) {
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR | O_CLOEXEC) != fd)
			return EXIT_REFUSED;
	}
	follow_init(&c.follow);
	run_parse(&c, argc, argv);
	if (disabled && !strcmp(disabled, "1")) {
		if (!c.options.dry)
			return follow_execute(&c.follow, c.argv);
		puts("FIXD_DISABLE is set: nothing would be shown.");
		return EXIT_SUCCESS;
	}
	c.shim = find_shim();
	if (access(c.shim, R_OK) < 0 || strpbrk(c.shim, ": ")) {
		fprintf(stderr, "fixctl: %s: %s\n", c.shim,
			strpbrk(c.shim, ": ") ? "LD_PRELOAD cannot have blanks and colons in a path" : strerror(errno));
		return EXIT_REFUSED;
	}
	snprintf(c.id, sizeof c.id, "run-%d-%llx", (int)getpid(), (unsigned long long)clock_real());
	shown_allow_descriptors(true);
	code = run_it(&c);
	free(c.options.only);
	list_free(c.places);
	free(c.socket);
	scratch_free(&c.scratch);
	free(c.shim);
	return code;
}

const struct fixctl_command command_run = {
	.name = "run",
	.json = true,
	.run = run_suite,
	.summary = "run a command that finds the fixtures at their paths",
	.help = "run [OPTION...] [--] COMMAND [ARGUMENT...]\n"
		"Shows the fixtures to COMMAND and all it starts: at their `path`, the others at $FIXD_FIXTURE_<NAME>. What is\n"
		"written there is private to the run and gone after it. Exits as COMMAND does: 128+N for signal N, 126 or 127 if\n"
		"it cannot be started; 4 if a fixture cannot be built.\n"
		"\n"
		"  -i, --isolate auto|mount|shim  mount: by the kernel, in a mount namespace; shim: by a preloaded library;\n"
		"                      auto (default): mount where it is allowed\n"
		"  -f, --fixture GLOB  only these fixtures, and only they are built; may be repeated\n"
		"  -r, --reset-on-fork copy-on-write views are pristine in a forked child\n"
		"      --blame         say on standard error which line has changed a copy-on-write view and not put it back\n"
		"      --wait-upload   end only when all that goes to the remote is there\n"
		"  -F, --fresh         build the fixtures anew\n"
		"  -c, --config FILE   with a daemon of its own for the length of the run\n"
		"  -n, --dry-run       say what would appear where, from what and by which way; nothing is built or started\n"
		"      --changes[=F]   after COMMAND, what it has changed in the fixtures, a line each (--json: an array), to\n"
		"                      standard error or to file F\n"
		"  -k, --keep DIR      copies of what is new or changed to DIR/NAME, as in $FIXD_FIXTURE_NAME\n"
		"  -b, --build-failed N  exit status when a fixture cannot be built (default 4; automake and Meson want 99)\n"
		"  -t, --timeout D     how long to wait for each build (90s, 5m; default $FIXD_TIMEOUT or 60s)",
};
