/* SPDX-License-Identifier: MIT */
#include "builder/remote.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/text.h"
#include "base/units.h"
#include "builder/descriptors.h"
#include "builder/pack.h"
#include "builder/pack_objects.h"
#include "builder/work.h"
#include "image/memfd.h"
#include "image/relocate.h"
#include "wire/carry.h"
#include "wire/socket.h"

/* Of how images are made: another one makes other keys. */
#define FORMAT "4"
#define HEADER_MAX 32
#define REMOTE_WRONG 5 /* the exit status of fixd-remote (remote/remote.h) */
#define PIPE_SIZE (1 << 20)
#define NOT_TAKEN "it was not taken: see the log of the fixture"

static bool has_option(const struct work *w, const char *name)
{
	for (char **o = w->job.remote; o && *o; o++) {
		if (!strncmp(*o, name, strlen(name)))
			return true;
	}
	return false;
}

static bool is_tree(const struct work *w)
{
	return w->job.tree != NULL;
}

static bool is_objects(const struct work *w)
{
	return w->job.kind == JOB_PLUGIN;
}

static void remote_add(struct text *t, const char *name, const char *value)
{
	text_add(t, name, strlen(name) + 1);
	text_add(t, value ? value : "", strlen(value ? value : "") + 1);
}

/* As it is called in every checkout: below the root, if it is there. */
static const char *relative(const struct work *w, const char *path)
{
	return path_below(path, w->job.root) ? path + strlen(w->job.root) : path;
}

/* What is no file has a name only, and whether it is there; a link where it leads to, and then what is there. */
static void add_input(const struct work *w, struct text *t, const char *path)
{
	_cleanup_free_ char *name = xasprintf("@%s", relative(w, path));
	_cleanup_free_ char *resolved = realpath(path, NULL), *root = realpath(w->job.root, NULL);
	const char *leads_to = resolved && root && path_below(resolved, root) ? resolved + strlen(root) : resolved;
	char target[PATH_MAX];
	ssize_t n = readlink(path, target, sizeof target - 1);
	struct stat st;

	if (n >= 0) {
		target[n] = '\0';
		remote_add(t, "=link", relative(w, target));
	}
	/* Also what is on the way to it, and behind the first link. */
	if (leads_to && strcmp(leads_to, relative(w, path)) != 0)
		remote_add(t, "=leads to", leads_to);
	if (stat(path, &st) == 0 && S_ISREG(st.st_mode)) {
		remote_add(t, name, path);
		remote_add(t, "=mode", st.st_mode & 0111 ? "x" : "-");
	} else {
		*name = '=';
		remote_add(t, name, access(path, F_OK) == 0 ? "there" : "not there");
	}
}

/* More than an image has addresses. */
#define CANONICAL_BITS 40

/* The objects of a dependency as they would lie at an address that is the same everywhere. A descriptor, or -errno. */
static int make_canonical(const struct work *w, size_t of)
{
	struct move moves[WIRE_FDS_MAX];

	for (size_t i = 0; i < w->job.n_dependencies; i++) {
		const struct job_dependency *d = &w->job.dependencies[i];

		moves[i] = (struct move){ d->address, d->size, (uint64_t)(i + 1) << CANONICAL_BITS };
	}
	return relocate_copy(w->dep_fds[of], w->job.dependencies[of].size, moves, w->job.n_dependencies);
}

/* The manifest of a tree without the times of its files, which are those of a checkout. A descriptor, or -errno. */
static int make_timeless(const struct work *w, size_t of)
{
	size_t size = w->job.dependencies[of].size;
	_cleanup_free_ char *manifest = xcalloc(1, size + 1);
	_cleanup_text_ struct text lines = { 0 };

	if (fd_pread_all(w->dep_fds[of], manifest, size, 0) != (ssize_t)size)
		return -EIO;
	for (char *rest, *line = strtok_r(manifest, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		char kind, mode[16], bytes[24];
		int time = 0, behind = 0;

		if (sscanf(line, "%c %15s %23s %n%*s%n", &kind, mode, bytes, &time, &behind) == 3 && kind == 'f' && behind)
			text_printf(&lines, "%.*s-%s\n", time, line, line + behind);
		else
			text_printf(&lines, "%s\n", line);
	}
	return memfd_from_bytes("fixd:timeless", lines.data, lines.size);
}

/* What is read of a dependency, which is inherited: a descriptor, or -errno. */
static int key_of_dependency(struct work *w, size_t i)
{
	const struct job_dependency *d = &w->job.dependencies[i];
	int fd = w->dep_fds[i];

	if (d->size && (d->kind == WIRE_IMAGE_OBJECTS || (d->kind == WIRE_IMAGE_TREE && !is_objects(w)))) {
		if (w->canonical[i] < 0)
			w->canonical[i] = d->kind == WIRE_IMAGE_TREE ? make_timeless(w, i) : make_canonical(w, i);
		fd = w->canonical[i];
	}
	return fd < 0 ? fd : fd_set_cloexec(fd, false) < 0 ? -errno : fd;
}

/* Those that are named, and what the objects of those point into. */
static int add_dependencies(struct work *w, struct text *t)
{
	size_t n = w->job.n_dependencies;

	if (!w->canonical && n) {
		w->canonical = xcalloc(n, sizeof *w->canonical);
		for (size_t i = 0; i < n; i++)
			w->canonical[i] = -1;
	}
	for (size_t i = 0; i < n; i++) {
		const struct job_dependency *d = &w->job.dependencies[i];
		_cleanup_free_ char *name = xasprintf("@depends %s", d->name), *root = xasprintf("%llu", (unsigned long long)d->root);
		int fd = key_of_dependency(w, i);
		char path[FD_PATH_SIZE];

		if (fd < 0)
			return fd;
		remote_add(t, name, fd_path(fd, path));
		remote_add(t, "=root", root);
	}
	return 0;
}

/* Its files, as they were loaded before its function was called. Of the library that leads back here the format tells. */
static int add_plugin(struct work *w, struct text *t)
{
	int r = plugin_load(w);

	remote_add(t, "=symbol", w->job.symbol);
	remote_add(t, "=malloc", w->job.malloc_arena ? "arena" : "heap");
	for (char **l = w->libraries; r == 0 && l && *l; l++) {
		_cleanup_free_ char *name = xasprintf("@library %s", relative(w, *l));

		if (!strstr(*l, "/libfixd-builder."))
			remote_add(t, name, *l);
	}
	return r;
}

/* What each builder has of the daemon, and programs write and sort by. */
static const char *const seen_by_all[] = { "=environment LANG",	      "=environment LANGUAGE", "=environment LC_ALL",
					   "=environment LC_COLLATE", "=environment LC_CTYPE", "=environment LC_NUMERIC",
					   "=environment LC_TIME",    "=environment TZ" };

/* See remote/key.h. A descriptor, or -errno. */
static int describe(struct work *w)
{
	const struct job *j = &w->job;
	_cleanup_text_ struct text t = { 0 };
	_cleanup_free_ char *kind = xasprintf("%d", (int)j->kind), *page = xasprintf("%ld", sysconf(_SC_PAGESIZE)),
			    *mask = xasprintf("%03o", (unsigned)w->umask), *strays = xasprintf("%d", (int)j->stray);
	struct utsname machine;
	int r;

	if (uname(&machine) < 0)
		return -errno;
	remote_add(&t, "=format", FORMAT);
	remote_add(&t, "=machine", machine.machine);
	remote_add(&t, "=page", page);
	remote_add(&t, "=kind", kind);
	remote_add(&t, "=fixture", j->name);
	remote_add(&t, "=user", j->user);
	remote_add(&t, "=umask", mask);
	remote_add(&t, "=stray-pointers", strays);
	remote_add(&t, "=source", relative(w, j->source));
	remote_add(&t, "=param", j->param);
	remote_add(&t, "=scope-key", j->scope_key);
	remote_add(&t, "=as-is", j->as_is ? "yes" : "no");
	for (char **e = j->env; e && *e; e++)
		remote_add(&t, "=env", *e);
	for (size_t k = 0; k < ELEMENTSOF(seen_by_all); k++)
		remote_add(&t, seen_by_all[k], getenv(strchr(seen_by_all[k], ' ') + 1));
	for (char **e = j->exclude; e && *e; e++)
		remote_add(&t, "=exclude", *e);
	for (char **i = j->inputs; i && *i; i++)
		add_input(w, &t, *i);
	r = j->kind == JOB_PLUGIN ? add_plugin(w, &t) : 0;
	if (r == 0)
		r = add_dependencies(w, &t);
	if (r < 0)
		return r;
	return memfd_from_bytes("fixd:description", t.data, t.size);
}

/* Beside this program. */
static char *program(void)
{
	char own[4096];
	ssize_t n = readlink("/proc/self/exe", own, sizeof own - 1);
	char *slash;

	own[n > 0 ? n : 0] = '\0';
	slash = strrchr(own, '/');
	return xasprintf("%.*s/fixd-remote", slash ? (int)(slash - own) : 0, own);
}

static void append(char ***list, char *s)
{
	size_t n = list_count(*list);

	*list = xrealloc(*list, (n + 2) * sizeof **list);
	(*list)[n] = s;
	(*list)[n + 1] = NULL;
}

/* The options of the job, and the descriptors, which are inherited. To be freed with list_free(). */
static char **command(const struct work *w, const char *what, int description, int head, int image, int told)
{
	char **argv = NULL;

	append(&argv, xstrdup("fixd-remote"));
	append(&argv, xstrdup(what));
	for (char **o = w->job.remote; *o; o++)
		append(&argv, xstrdup(*o));
	if (description >= 0)
		append(&argv, xasprintf("--description-fd=%d", description));
	append(&argv, xasprintf("--parts-fd=%d", w->parts));
	if (told >= 0)
		append(&argv, xasprintf("--told-fd=%d", told));
	append(&argv, xasprintf("--limit=%llu", (unsigned long long)w->job.limit + (is_objects(w) ? CARRY_SIZE : 0)));
	if (w->anew && !strcmp(what, "put"))
		append(&argv, xstrdup("--anew"));
	if (head >= 0)
		append(&argv, xasprintf("--head-fd=%d", head));
	if (image >= 0)
		append(&argv, xasprintf("--image-fd=%d", image));
	return argv;
}

/* The daemon has one end of a socket then; the other one, or -1: nobody is told. */
static int tell_daemon(const struct work *w, bool up)
{
	struct job_handover message = { .message = JOB_TRANSFER, .up = up };
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return -1;
	if (socket_send(w->channel, &message, sizeof message, &ends[1], 1, 0) < 0)
		ends[0] = fd_close(ends[0]);
	fd_close(ends[1]);
	return ends[0];
}

/* "BYTES\n", before the image. False: there is none. */
static bool read_header(int fd, uint64_t *size)
{
	char text[HEADER_MAX];
	size_t n = 0;

	while (n + 1 < sizeof text && read(fd, text + n, 1) == 1) {
		if (text[n] == '\n') {
			text[n] = '\0';
			*size = strtoull(text, NULL, 10);
			return n > 0;
		}
		n++;
	}
	return false;
}

/* What has come of an image that is not whole is given up, and so is what was said of it. */
static int begin_again(struct work *w)
{
	int r;

	if (is_tree(w))
		pack_clear(w->job.tree);
	space_deinit(&w->space);
	w->error = 0;
	free(w->sentence);
	w->sentence = NULL;
	w->other_bytes = 0;
	w->digest = (struct digest){ 0 };
	w->root = 0;
	r = work_make_space(w);
	/* The one before was no other's doing. */
	if (w->plugin)
		descriptors_note(w);
	return r;
}

static int take_stream(struct work *w, int from, pid_t pid, uint64_t size)
{
	if (is_tree(w))
		return pack_take_tree(w, from, size);
	if (is_objects(w))
		return pack_take_objects(w, from, size, pid);
	space_expect(&w->space, size);
	return work_fill(w, from, true, pid);
}

/* What fixd-remote has written there, if it has. */
static void keep_parts(struct work *w)
{
	const struct job_handover message = { .message = JOB_PARTS };

	if (lseek(w->parts, 0, SEEK_END) <= 0 || fd_set_cloexec(w->parts, true) < 0 || memfd_seal(w->parts) < 0)
		w->parts = fd_close(w->parts);
	else if (socket_send(w->channel, &message, sizeof message, &w->parts, 1, 0) < 0)
		fprintf(stderr, "fixd is not told of the parts of the key\n");
}

/* The time that a build may take begins. */
static void tell_looked(const struct work *w)
{
	const struct job_handover message = { .message = JOB_LOOKED };

	socket_send(w->channel, &message, sizeof message, NULL, 0, 0);
}

int remote_take(struct work *w)
{
	_cleanup_free_ char *path = program();
	_cleanup_fd_ int description = -1, from = -1, to = -1, told = -1;
	uint64_t size;
	int pipes[2], status = -1, r = 0;
	bool reads = has_option(w, "--read=") && !w->job.anew;
	struct sigaction before;
	char **argv;
	pid_t pid;

	description = describe(w);
	/* Inherited, as the description is. */
	w->parts = memfd_new("fixd:parts");
	if (description < 0 || w->parts < 0 || fd_set_cloexec(w->parts, false) < 0 || pipe2(pipes, O_CLOEXEC) < 0)
		return 0;
	from = pipes[0];
	to = pipes[1];
	/* As much as may be: each piece of it is a turn of both. */
	fcntl(to, F_SETPIPE_SZ, PIPE_SIZE);
	fd_set_cloexec(description, false);
	told = reads ? tell_daemon(w, false) : -1;
	if (told >= 0)
		fd_set_cloexec(told, false);
	argv = command(w, reads ? "get" : "key", description, -1, -1, told);
	/* A plugin that was loaded for its description may ignore the end of children, which would never be seen then. */
	sigaction(SIGCHLD, &(struct sigaction){ .sa_handler = SIG_DFL }, &before);
	pid = work_spawn(path, argv, to);
	list_free(argv);
	to = fd_close(to);
	if (pid < 0) {
		fprintf(stderr, "%s cannot be started: %s\n", path, strerror(-pid));
		tell_looked(w);
		return 0;
	}
	if (read_header(from, &size))
		r = take_stream(w, from, pid, size);
	else
		r = -ENOENT;
	from = fd_close(from);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	sigaction(SIGCHLD, &before, NULL);
	w->anew = WIFEXITED(status) && WEXITSTATUS(status) == REMOTE_WRONG;
	keep_parts(w);
	tell_looked(w);
	if (r == 0 && status == 0)
		return 1;
	/* It has come, and is not what it should be. */
	if (status == 0 && told >= 0)
		send(told, NOT_TAKEN, strlen(NOT_TAKEN), MSG_DONTWAIT | MSG_NOSIGNAL);
	return begin_again(w);
}

/* `head`: what comes before the image, or -1. */
_Noreturn static void offer(struct work *w, int description, int head, int told)
{
	_cleanup_free_ char *path = program();
	int packed = is_tree(w) ? pack_tree(w) : dup(w->image);
	char **argv;

	if (packed < 0 || (head >= 0 && fd_set_cloexec(head, false) < 0)) {
		const char *why = packed == -EBADMSG ? PACK_REFUSED : strerror(packed < 0 ? -packed : errno);

		if (told >= 0)
			send(told, why, strlen(why), MSG_DONTWAIT | MSG_NOSIGNAL);
		_exit(EXIT_FAILURE);
	}
	if (description >= 0)
		fd_set_cloexec(description, false);
	fd_set_cloexec(packed, false);
	fd_set_cloexec(w->parts, false);
	if (told >= 0)
		fd_set_cloexec(told, false);
	argv = command(w, "put", description, head, packed, told);
	execv(path, argv);
	fprintf(stderr, "%s cannot be started: %s\n", path, strerror(errno));
	_exit(EXIT_FAILURE);
}

void remote_offer_by_hand(char **args)
{
	enum { PARTS, IMAGE, TOLD, HEAD, N };
	struct work w = { .image = -1, .parts = -1 };
	uint64_t numbers[N] = { 0 }, size = 0;
	bool has_head;

	for (size_t k = 0; k < N; k++) {
		const char *text = args[0] && args[1] ? args[2 + k] : NULL;

		if (!text || (*text ? parse_u64(text, 10, INT32_MAX, &numbers[k]) < 0 : k != HEAD)) {
			fprintf(stderr, "fixd-builder: --offer is for fixctl remote push\n");
			_exit(2);
		}
	}
	has_head = *args[2 + HEAD];
	w.job.name = args[0];
	w.job.tree = *args[1] ? args[1] : NULL;
	w.job.remote = args + 2 + N;
	w.parts = (int)numbers[PARTS];
	w.image = (int)numbers[IMAGE];
	if (memfd_verify(w.image, &size) < 0) {
		fprintf(stderr, "fixd-builder: descriptor %d is no image\n", w.image);
		_exit(2);
	}
	w.space.used = size;
	offer(&w, -1, has_head ? (int)numbers[HEAD] : -1, (int)numbers[TOLD]);
}

/* A session of its own, which the end of this build does not reach. It goes on when the daemon has found the image right. */
static void wait_apart(int ready, int told)
{
	char allowed;

	setsid();
	/* Nobody reads the log of a build that is over. */
	signal(SIGPIPE, SIG_IGN);
	close(ready);
	if (read(told, &allowed, 1) != 1)
		_exit(EXIT_SUCCESS);
}

void remote_offer(struct work *w)
{
	_cleanup_fd_ int description = -1, told = -1;
	int ready[2];
	char nothing;
	pid_t pid;

	if (!has_option(w, "--write=") || !w->sealed || w->error || w->taken || w->parts < 0)
		return;
	if (w->packed) {
		fprintf(stderr, "it does not go to the remote: it has pointers in packed structs, which cannot be relocated\n");
		return;
	}
	description = describe(w);
	if (description < 0 || pipe2(ready, O_CLOEXEC) < 0)
		return;
	told = tell_daemon(w, true);
	pid = told < 0 ? -1 : fork();
	if (pid == 0) {
		wait_apart(ready[1], told);
		offer(w, description, is_objects(w) ? pack_objects_head(w) : -1, told);
	}
	close(ready[1]);
	/* Until it is out of reach. */
	while (pid > 0 && read(ready[0], &nothing, 1) < 0 && errno == EINTR)
		;
	close(ready[0]);
}
