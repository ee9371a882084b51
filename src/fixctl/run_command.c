/* SPDX-License-Identifier: MIT */
#include "fixctl/run_command.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/elf.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/preloads.h"
#include "wire/socket.h"

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

#define SCRIPTS_MAX 5 /* as deep as the kernel goes from script to script */

/* What the kernel would load for it: of a script its interpreter. *path is that, then. Or -1. */
static int open_program(char **path)
{
	int fd = *path ? open(*path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC) : -1;
	char line[256], *interpreter;
	ssize_t n;

	for (int depth = 0; fd >= 0 && depth < SCRIPTS_MAX && (n = pread(fd, line, sizeof line - 1, 0)) > 2 && !strncmp(line, "#!", 2);
	     depth++) {
		line[n] = '\0';
		line[strcspn(line, "\n")] = '\0';
		interpreter = line + 2 + strspn(line + 2, " \t");
		interpreter[strcspn(interpreter, " \t")] = '\0';
		close(fd);
		fd = open(interpreter, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
		free(*path);
		*path = xstrdup(interpreter);
	}
	return fd;
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
	_cleanup_fd_ int fd = open_program(&path);
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
		list_append(&c->places, xstrdup(path));
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

bool command_needs_shim(const struct command *c, bool mount)
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
	const char *more = getenv("LD_LIBRARY_PATH");

	return fd >= 0 && ((more && *more) || elf_has_search(fd, NULL, 0));
}

/* Of what is to be preloaded something is, which nothing finds that has no shim yet. */
static bool preloads_shown(const struct command *c, bool mount)
{
	const char *rest = getenv("LD_PRELOAD");
	struct preload p;

	while (rest && (p = preload_next(&rest)).size) {
		_cleanup_free_ char *name = xstrndup(p.name, p.size);

		if (strchr(name, '/') && is_shown_at(c, mount, name))
			return true;
	}
	return false;
}

/* By a program that has the shim. Returns errno. */
static int start_by_another(const struct command *c, char *preload)
{
	size_t n = 0, at = 0;
	char **argv;

	while (c->argv[n])
		n++;
	argv = xcalloc(n + 6, sizeof *argv);
	/* For env that would be a variable. */
	if (strchr(c->argv[0], '=')) {
		argv[at++] = (char *)"sh";
		argv[at++] = (char *)"-c";
		argv[at++] = (char *)(preload ? "export \"$0\"; exec \"$@\"" : "exec \"$0\" \"$@\"");
		if (preload)
			argv[at++] = preload;
	} else {
		argv[at++] = (char *)"env";
		argv[at++] = (char *)"--";
		if (preload)
			argv[at++] = preload;
	}
	memcpy(argv + at, c->argv, n * sizeof *argv);
	execv(strcmp(argv[0], "sh") ? "/usr/bin/env" : "/bin/sh", argv);
	return errno;
}

/* Returns errno. */
static int command_start(const struct command *c, bool mount)
{
	bool preloads = command_needs_shim(c, mount) && preloads_shown(c, mount);
	_cleanup_free_ char *preload = preloads ? xasprintf("LD_PRELOAD=%s", getenv("LD_PRELOAD")) : NULL;

	if (!command_needs_shim(c, mount) || (!preloads && !is_shown(c, mount) && !has_libraries(c))) {
		execvp(c->argv[0], c->argv);
		return errno;
	}
	if (preloads)
		setenv("LD_PRELOAD", c->shim, 1);
	return start_by_another(c, preload);
}

/* In the child, when the mounts are made. 0 or -errno. */
static int set_up(struct command *c, bool mount, int ends)
{
	int r = ends >= 0 ? keeper_watch(&c->keeper, ends) : 0, table = -1;

	environment_set(&c->shown, c->id, c->socket, &c->options);
	if (r == 0 && command_needs_shim(c, mount))
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
	r = command_start(c, mount);
	fprintf(stderr, "fixctl: %s: %s\n", c->argv[0], strerror(r));
	return r == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE;
}

/* Until it has become the command. True: there can be no mounts. */
static bool command_hear(struct command *c, int channel)
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
	*refused = pid > 0 && command_hear(c, channel[0]);
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

int command_execute(struct command *c)
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
