/* SPDX-License-Identifier: MIT */
#include "fixctl/run.h"
#include "fixctl/transfers.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/elf.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/preloads.h"
#include "base/units.h"
#include "client/connection.h"
#include "fixd.h"
#include "wire/socket.h"

struct command {
	struct fixctl *ctl;
	struct run_options options;
	char **argv;
	char id[64];
	char *shim;   /* libfixd-preload.so */
	char *socket; /* of the daemon */
	struct fixd *f;
	struct scratch scratch;
	struct keeper keeper;
	struct shown_list shown;
	char **places; /* directories that something is shown in */
	int *trees;    /* as the run has them, or NULL */
	struct follow follow;
	uint64_t transfers_from; /* for transfers_wait() */
};

static void add_place(struct command *c, const char *path)
{
	size_t n = list_count(c->places);

	c->places = xrealloc(c->places, (n + 2) * sizeof *c->places);
	c->places[n] = xstrdup(path);
	c->places[n + 1] = NULL;
}

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

/* The file that execvp() would start, to be freed, or NULL. */
static char *find_program(const char *name)
{
	const char *path = getenv("PATH");

	if (strchr(name, '/'))
		return xstrdup(name);
	for (const char *p = path ? path : "/bin:/usr/bin"; *p; p += strcspn(p, ":"), p += *p == ':') {
		int n = (int)strcspn(p, ":");
		char *candidate = xasprintf("%.*s%s%s", n, p, n ? "/" : "", name);

		if (access(candidate, X_OK) == 0)
			return candidate;
		free(candidate);
	}
	return NULL;
}

/* Why a program sees nothing of what the shim shows; NULL: it does. */
static const char *why_blind(int fd)
{
	if (elf_is_static(fd, NULL, 0))
		return "is linked statically";
	if (elf_is_foreign(fd, NULL, 0))
		return "is for another machine, word size or C library";
	return elf_is_go(fd, NULL, 0) ? "makes its system calls itself" : NULL;
}

/* An address sanitizer's runtime wants to be the first of all libraries; some programs can have none of ours. */
static void fit_preload(const char *program, bool mount)
{
	_cleanup_free_ char *path = find_program(program), *value = NULL;
	const char *had, *rest;
	struct preload first;
	_cleanup_fd_ int fd = path ? open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC) : -1;
	char sanitizer[64];

	if (fd >= 0 && !mount && why_blind(fd))
		fprintf(stderr,
			"fixctl: %s: it %s, and does not see the fixtures of the run; --isolate=mount shows them, where that is allowed\n",
			path, why_blind(fd));
	if (fd >= 0 && elf_is_foreign(fd, NULL, 0))
		environment_drop_preload();
	had = rest = getenv("LD_PRELOAD");
	if (fd < 0 || !had || !elf_sanitizer(fd, sanitizer, sizeof sanitizer))
		return;
	first = preload_next(&rest);
	if (preload_is_sanitizer(first))
		return;
	value = xasprintf("%s:%.*s:%s", sanitizer, (int)first.size, first.name, had);
	setenv("LD_PRELOAD", value, 1);
}

/* What a fixture is shown in must be there, and for a mount the directory that it covers. Each is kept there once. */
static int make_surroundings(struct command *c, const struct shown *x, bool mount)
{
	_cleanup_free_ char *path = NULL;
	_cleanup_fd_ int lock = -1;
	bool itself = x->kind == RUN_TREE && mount;
	struct stat st;
	int r;

	path = itself ? xstrdup(x->path) : xstrndup(x->path, (size_t)(strrchr(x->path, '/') - x->path));
	if (!*path || list_has(c->places, path))
		return 0;
	/* A mount would cover what it leads to, which is somebody else's. */
	if (itself && lstat(path, &st) == 0 && S_ISLNK(st.st_mode))
		return -ELOOP;
	r = scratch_make_directory(&c->scratch, path, &lock);
	if (r == 0 && lock >= 0)
		r = keeper_hold(&c->keeper, lock);
	if (r == 0)
		add_place(c, path);
	return r;
}

/* In the scratch directory, for programs that the shim is not loaded in: of a tree until something is mounted there. */
static int make_link(const struct shown *x, bool mount)
{
	_cleanup_free_ char *target = NULL;

	if (x->kind == RUN_TREE && mount)
		return mkdir(x->path, 0755) < 0 ? -errno : 0;
	target = x->kind == RUN_TREE ? xstrdup(x->tree) : xasprintf("/proc/self/fd/%d", x->fd);
	return symlink(target, x->path) < 0 && errno != EEXIST ? -errno : 0;
}

/* 0, or -errno and the fixture that there is no place for. */
static int make_places(struct command *c, bool mount, const struct shown **where)
{
	for (size_t i = 0; i < c->shown.n; i++) {
		const struct shown *x = &c->shown.all[i];
		int r = x->has_path ? make_surroundings(c, x, mount) : make_link(x, mount);

		*where = x;
		if (r < 0)
			return r;
	}
	return 0;
}

/* When there are no mounts after all: the directories that were made for them go. */
static int replace_by_links(const struct command *c)
{
	for (size_t i = 0; i < c->shown.n; i++) {
		const struct shown *x = &c->shown.all[i];

		if (!x->has_path && x->kind == RUN_TREE && rmdir(x->path) < 0 && errno != ENOENT)
			return -errno;
	}
	return 0;
}

/* Trees that are mounted are there for everybody; files are shown by the shim. */
static bool needs_shim(const struct command *c, bool mount)
{
	for (size_t i = 0; i < c->shown.n; i++) {
		if (c->shown.all[i].kind == RUN_FILE && !c->shown.all[i].objects)
			return true;
	}
	return !mount;
}

/* What every process of the run inherits. */
static int inherit(const struct command *c, int table)
{
	int r = 0;

	if (table >= 0) {
		r = fd_set_cloexec(table, false);
		if (r == 0)
			r = fd_set_cloexec(c->scratch.lock, false);
	}
	for (size_t i = 0; r == 0 && i < c->shown.n; i++) {
		if (c->shown.all[i].kind == RUN_FILE)
			r = fd_set_cloexec(c->shown.all[i].fd, false);
	}
	return r;
}

/* Could the program be in a fixture that only the shim shows? */
static bool is_shown_at(const struct command *c, bool mount, const char *path)
{
	_cleanup_free_ char *here = getcwd(NULL, 0);
	char normal[PATH_MAX];

	if (!here || !path_normalize(here, path, normal, sizeof normal))
		return false;
	for (size_t i = 0; i < c->shown.n; i++) {
		const struct shown *x = &c->shown.all[i];

		if ((x->kind == RUN_FILE || !mount) && path_below(normal, x->path))
			return true;
	}
	return false;
}

static bool is_shown(const struct command *c, bool mount)
{
	const char *name = c->argv[0], *path = getenv("PATH");

	if (strchr(name, '/'))
		return is_shown_at(c, mount, name);
	for (const char *p = path ? path : ""; *p; p += strcspn(p, ":"), p += *p == ':') {
		_cleanup_free_ char *candidate = xasprintf("%.*s/%s", (int)strcspn(p, ":"), p, name);

		if (is_shown_at(c, mount, candidate))
			return true;
		if (access(candidate, X_OK) == 0)
			return false;
	}
	return false;
}

/* Its libraries may be in a fixture that only the shim shows. */
static bool has_libraries(const struct command *c)
{
	_cleanup_free_ char *path = find_program(c->argv[0]);
	_cleanup_fd_ int fd = path ? open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC) : -1;

	return fd >= 0 && elf_has_search(fd, NULL, 0);
}

/* Returns errno. A program that is shown is started by one that has the shim. */
static int start(const struct command *c, bool mount)
{
	size_t n = 0;
	char **argv;

	if (!needs_shim(c, mount) || (!is_shown(c, mount) && !has_libraries(c))) {
		execvp(c->argv[0], c->argv);
		return errno;
	}
	while (c->argv[n])
		n++;
	argv = xcalloc(n + 4, sizeof *argv);
	memcpy(argv + 3, c->argv, n * sizeof *argv);
	if (!strchr(c->argv[0], '=')) {
		argv[1] = (char *)"env";
		argv[2] = (char *)"--";
		execv("/usr/bin/env", argv + 1);
		return errno;
	}
	/* For env that would be a variable. */
	argv[0] = (char *)"sh";
	argv[1] = (char *)"-c";
	argv[2] = (char *)"exec \"$0\" \"$@\"";
	execv("/bin/sh", argv);
	return errno;
}

/* In the child, when the mounts are made. 0 or -errno. */
static int set_up(struct command *c, bool mount, int ends)
{
	int r = ends >= 0 ? keeper_watch(&c->keeper, ends) : 0, table = -1;

	environment_set(&c->shown, c->id, c->socket, &c->options);
	if (r == 0 && needs_shim(c, mount))
		r = table = table_write(&c->shown, &c->scratch, c->shim, mount ? RUN_TREES_MOUNTED : 0);
	else
		environment_drop_shim();
	if (table >= 0)
		fit_preload(c->argv[0], mount);
	return r < 0 ? r : inherit(c, table);
}

/* What the child tells before it becomes the command. */
enum told { TOLD_REFUSED = UINT32_MAX }; /* or the index of a tree, whose descriptor comes along */

static int tell(int channel, uint32_t what, int fd)
{
	return socket_send(channel, &what, sizeof what, &fd, fd >= 0, 0);
}

/* For who wants to know what has been changed in them. */
static int tell_trees(const struct command *c, int channel)
{
	int *trees = mounts_open(&c->shown), r = 0;

	for (size_t i = 0; r == 0 && i < c->shown.n; i++) {
		if (trees[i] >= 0)
			r = tell(channel, (uint32_t)i, trees[i]);
	}
	for (size_t i = 0; i < c->shown.n; i++)
		fd_close(trees[i]);
	free(trees);
	return r;
}

static bool wants_changes(const struct command *c)
{
	return c->options.changes.list || c->options.changes.keep;
}

/* In the child. `channel` is closed by exec; with --isolate=auto it is told that there are no mounts. Returns an exit code. */
static int become_command(struct command *c, pid_t parent, bool mount, int channel)
{
	_cleanup_free_ char *why = NULL;
	int r, ends = -1;

	/* As if it had been killed itself. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		return EXIT_REFUSED;
	if (mount && mounts_make(&c->shown, &c->scratch, &ends, &why) < 0) {
		if (c->options.isolate == RUN_AUTO)
			return tell(channel, TOLD_REFUSED, -1) == 0 ? EXIT_SUCCESS : EXIT_REFUSED;
		fprintf(stderr, "fixctl: --isolate=mount: %s; --isolate=shim does without\n", why);
		return EXIT_REFUSED;
	}
	r = set_up(c, mount, ends);
	if (r == 0 && mount && wants_changes(c))
		r = tell_trees(c, channel);
	if (r < 0) {
		fprintf(stderr, "fixctl: the run cannot be set up in %s: %s\n", c->scratch.path, strerror(-r));
		return EXIT_REFUSED;
	}
	shown_allow_descriptors(false);
	follow_restore(&c->follow);
	r = start(c, mount);
	fprintf(stderr, "fixctl: %s: %s\n", c->argv[0], strerror(r));
	return r == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE;
}

/* Until it has become the command. True: there can be no mounts. */
static bool hear(struct command *c, int channel)
{
	bool refused = false;

	for (;;) {
		uint32_t what = 0;
		size_t one = 1;
		int fd = -1;
		ssize_t n = socket_receive(channel, &what, sizeof what, &fd, &one, 0);

		if (n == -EINTR)
			continue;
		if (n != sizeof what)
			return refused;
		refused |= what == TOLD_REFUSED;
		if (one && what < c->shown.n && !c->trees) {
			c->trees = xcalloc(c->shown.n, sizeof *c->trees);
			for (size_t i = 0; i < c->shown.n; i++)
				c->trees[i] = -1;
		}
		if (one && what < c->shown.n)
			c->trees[what] = fd;
		else if (one)
			fd_close(fd);
	}
}

static void place_copies(struct command *c)
{
	for (size_t i = 0; i < c->shown.n; i++) {
		if (c->shown.all[i].kind == RUN_TREE) {
			copies_place(&c->scratch, c->shown.all[i].tree);
			return;
		}
	}
}

/* The process of the command, or -errno. *refused: there can be no mounts, and it has ended. */
static pid_t start_command(struct command *c, bool mount, bool *refused)
{
	pid_t parent = getpid(), pid;
	int channel[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel) < 0)
		return -errno;
	if (!mount)
		place_copies(c);
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		close(channel[0]);
		_exit(become_command(c, parent, mount, channel[1]));
	}
	close(channel[1]);
	*refused = pid > 0 && hear(c, channel[0]);
	close(channel[0]);
	return pid < 0 ? -errno : pid;
}

/* With the keeper its daemon is gone, and with that the trees: nothing that the command sees is right any more. */
static bool has_lost_keeper(void *arg)
{
	struct command *c = arg;

	if (!c->options.config || c->keeper.pid <= 0 || kill(c->keeper.pid, 0) < 0 ||
	    waitpid(c->keeper.pid, NULL, WNOHANG) != c->keeper.pid)
		return false;
	fputs("fixctl: the run's keeper was killed, and its daemon with it: the command is ended\n", stderr);
	c->keeper.pid = -1;
	return true;
}

static int no_place(const struct shown *x, int err)
{
	fprintf(stderr, "fixctl: there is no place to show '%s' at %s: %s\n", x->name, x->path, strerror(-err));
	return EXIT_REFUSED;
}

static int tell_changes(struct command *c)
{
	int r = changes_tell(&c->shown, &c->scratch, c->trees, &c->options.changes);

	/* They keep the mounts, and those the run. */
	for (size_t i = 0; c->trees && i < c->shown.n; i++)
		fd_close(c->trees[i]);
	free(c->trees);
	c->trees = NULL;
	return r;
}

static int run_command(struct command *c)
{
	bool mount = c->options.isolate != RUN_SHIM, refused = false;
	const struct shown *where = NULL;
	int r = make_places(c, mount, &where), code;
	pid_t pid;

	if (r < 0 && c->options.isolate == RUN_AUTO) {
		mount = false;
		replace_by_links(c);
		r = make_places(c, mount, &where);
	}
	if (r < 0)
		return no_place(where, r);
	follow_begin(&c->follow);
	pid = start_command(c, mount, &refused);
	if (pid > 0 && refused) {
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
		r = replace_by_links(c);
		if (r == 0)
			r = make_places(c, false, &where);
		pid = r < 0 ? r : start_command(c, false, &refused);
	}
	if (pid > 0)
		code = follow(&c->follow, pid, has_lost_keeper, c);
	else
		code = (fprintf(stderr, "fixctl: the command cannot be started: %s\n", strerror(-pid)), EXIT_REFUSED);
	/* From here on we may be interrupted: the keeper finishes without us. */
	sigprocmask(SIG_SETMASK, &c->follow.mask, NULL);
	if (pid > 0 && wants_changes(c) && tell_changes(c) < 0 && code == 0)
		code = EXIT_REFUSED;
	return code;
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
		       x->source, *x->input ? " " : "", x->input, way_of(x, mount, needs_shim(c, mount)));
	}
	if (mount)
		printf("Trees are mounted: this machine allows it%s.%s\n",
		       geteuid() ? ", but for those of other users and groups, and with files of several names" : "",
		       needs_shim(c, mount) ? " Files are shown by the preloaded library." : " Nothing is loaded into the programs.");
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
		code = run_command(c);
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

static void parse(struct command *c, int argc, char **argv)
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

static int run(struct fixctl *ctl, int argc, char **argv)
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
	parse(&c, argc, argv);
	if (disabled && !strcmp(disabled, "1")) {
		return follow_execute(&c.follow, c.argv);
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
	.run = run,
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
		"  -k, --keep DIR      copies of what is new or changed to DIR/FIXTURE\n"
		"  -b, --build-failed N  exit status when a fixture cannot be built (default 4; automake and Meson want 99)\n"
		"  -t, --timeout D     how long to wait for each build (90s, 5m; default $FIXD_TIMEOUT or 60s)",
};
