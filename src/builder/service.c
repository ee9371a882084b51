/* SPDX-License-Identifier: MIT */
/* The source that is a process: its value, the bytes of the image, is where it is to be found. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/process.h"
#include "base/template.h"
#include "base/units.h"
#include "builder/keep.h"
#include "builder/notify.h"
#include "builder/processes.h"
#include "builder/sandbox.h"
#include "builder/touch.h"
#include "builder/unclean.h"
#include "builder/work.h"
#include "wire/fork.h"

#define LINE_SIZE_MAX 65536
#define FILE_SIZE_MAX (1 << 20)
/* Between two looks at a port or file: short at first. */
#define LOOK_MS_MIN 2
#define LOOK_MS_MAX 100
#define EMPTY_MS 30 /* and then a file with nothing in it stays so */

static const char *value_of(const char *name, void *arg)
{
	const struct work *w = arg;

	return !strcmp(name, "FIXD_DATA") ? w->job.view : getenv(name);
}

static char *expand(struct work *w, const char *template)
{
	_cleanup_free_ char *wrong = NULL;
	char *text = template_expand(template, value_of, w, &wrong);

	if (!text)
		work_fail(w, -EINVAL, "'%s': %s", template, wrong);
	return text;
}

static int service_put(struct work *w, const char *bytes, size_t size)
{
	int r = 0;
	char *p = space_extend(&w->space, size, &r);

	if (!p)
		return work_fail_space(w, r);
	if (size)
		memcpy(p, bytes, size);
	w->digest = digest_bytes(p, size);
	return 0;
}

/* What `value` says, or else what it has shown itself (NULL: nothing). */
static int put_value(struct work *w, const char *shown, size_t size)
{
	_cleanup_free_ char *value = NULL;

	if (w->job.value)
		value = expand(w, w->job.value);
	else if (!shown)
		value = xasprintf("127.0.0.1:%llu", (unsigned long long)w->job.port);
	if (w->job.value && !value)
		return w->error;
	return value ? service_put(w, value, strlen(value)) : service_put(w, shown, size);
}

static bool is_template(const struct work *w)
{
	return w->job.ready_by == JOB_READY_CHECKPOINT;
}

static int ended_early(struct keep *k)
{
	_cleanup_free_ char *how = work_describe_end(k->main_status);

	if (is_template(k->work))
		return work_fail(k->work, -EIO, "the process %s before it came to its checkpoint", how);
	return work_fail(k->work, -EIO, "the service %s before it was ready", how);
}

/* Has it failed? One that has gone into the background is alive in its descendants. */
static bool is_gone(const struct keep *k)
{
	return !k->main && (k->main_status || is_template(k->work) || !keep_has_children());
}

static int orphaned(struct keep *k)
{
	return work_fail(k->work, -ECANCELED, "it is not wanted any more");
}

/* How often it is looked what it takes before it is ready: most are by then. */
#define SAMPLE_MS 250

static void look_at_memory(struct keep *k)
{
	struct work *w = k->work;
	char limit[32];

	if (clock_now() < k->next_sample)
		return;
	k->next_sample = clock_now() + SAMPLE_MS * NSEC_PER_MSEC;
	if (keep_usage(k) > w->job.limit)
		work_fail(w, -EDQUOT, "the service takes more memory than memory-max allows (%s), with the files that it has written",
			  format_size(limit, sizeof limit, w->job.limit));
}

/* As keep_wait(), for something that is not ready. False: it is given up, and why, unless it is not wanted any more, is said. */
static bool wait_at_start(struct keep *k, int fd, int ms)
{
	if (!k->work->job.sandboxed)
		return keep_wait(k, fd, ms);
	if (!keep_wait(k, fd, ms < 0 || ms > SAMPLE_MS ? SAMPLE_MS : ms))
		return false;
	look_at_memory(k);
	return !k->work->error;
}

static int wait_for_line(struct keep *k)
{
	struct work *w = k->work;
	struct text line = { 0 };
	int r = -EAGAIN;

	while (r == -EAGAIN) {
		/* Its output is ours until the line is complete. */
		int from = k->output;
		ssize_t n = -1;
		bool open;
		char c;

		k->output = -1;
		open = wait_at_start(k, from, -1);
		k->output = from;
		if (!open)
			r = orphaned(k);
		/* A line may come in pieces, and other lines after it are for the log. */
		while (r == -EAGAIN && (n = from < 0 ? -1 : read(from, &c, 1)) == 1) {
			if (c == '\n')
				r = put_value(w, line.data ? line.data : "", line.size);
			else if (line.size == LINE_SIZE_MAX)
				r = work_fail(w, -EMSGSIZE, "the first line of the service is longer than %d bytes", LINE_SIZE_MAX);
			else
				text_add(&line, &c, 1);
		}
		if (n == 0)
			k->output = fd_close(from);
		if (r == -EAGAIN && is_gone(k))
			r = ended_early(k);
	}
	text_deinit(&line);
	if (r == 0 && k->output >= 0)
		r = fd_set_nonblock(k->output, false);
	return r;
}

static int wait_for_notification(struct keep *k)
{
	for (;;) {
		_cleanup_text_ struct text status = { 0 };
		unsigned said = notify_read(k->notify, &status);

		if (status.size)
			fputs(status.data, stderr);
		if (said & NOTIFY_READY)
			break;
		if (is_gone(k))
			return ended_early(k);
		if (!wait_at_start(k, k->notify, -1))
			return orphaned(k);
	}
	/* A template says more later. */
	if (!is_template(k->work))
		k->notify = fd_close(k->notify);
	return 0;
}

/* Its value is the socket at which it is asked for forks. */
static int wait_for_checkpoint(struct keep *k)
{
	_cleanup_free_ char *path = xasprintf("%s/" FORK_SOCKET, k->work->job.dir);
	int r = wait_for_notification(k);

	return r < 0 ? r : service_put(k->work, path, strlen(path));
}

static bool answers(const struct sockaddr *address, socklen_t size, int family)
{
	_cleanup_fd_ int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	int err = 0;
	socklen_t n = sizeof err;

	if (fd < 0 || (connect(fd, address, size) < 0 && errno != EINPROGRESS) || poll(&p, 1, LOOK_MS_MAX) != 1)
		return false;
	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &n) == 0 && err == 0;
}

static int port_is_ready(struct keep *k)
{
	uint16_t port = htons((uint16_t)k->work->job.port);
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = port, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = port, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	pid_t older;

	if (!answers((struct sockaddr *)&v4, sizeof v4, AF_INET) && !answers((struct sockaddr *)&v6, sizeof v6, AF_INET6))
		return -EAGAIN;
	/* Who was there before it is not the service. */
	older = k->main ? processes_older_listener((unsigned)k->work->job.port, k->main) : 0;
	if (older)
		return work_fail(k->work, -EADDRINUSE, "port %llu, which it should listen on, is that of process %d",
				 (unsigned long long)k->work->job.port, (int)older);
	return put_value(k->work, NULL, 0);
}

/* As the service sees it. */
static char *path_in_sight(const struct keep *k, const char *path)
{
	return k->sandbox >= 0 && *path == '/' ? xasprintf("/proc/%d/root%s", (int)k->main, path) : xstrdup(path);
}

/* Its content, without the last newline, is the value; an empty one only says that it is there. */
static int file_is_ready(struct keep *k)
{
	_cleanup_free_ char *named = expand(k->work, k->work->job.ready), *path = named ? path_in_sight(k, named) : NULL, *data = NULL;
	_cleanup_fd_ int fd = path ? open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK) : -1;
	int r = fd < 0 ? -errno : 0;
	struct stat st;
	size_t n;

	if (!path)
		return k->work->error;
	if (r == -ENOENT || r == -ENOTDIR)
		return -EAGAIN;
	if (r == -ENXIO || (r == 0 && fstat(fd, &st) == 0 && !S_ISREG(st.st_mode))) /* the former is a socket */
		return work_fail(k->work, -EINVAL, "%s is no file, which 'ready' must name", named);
	if (r == 0)
		r = fd_read_rest(fd, FILE_SIZE_MAX, &data, &n);
	if (r < 0)
		return work_fail(k->work, r, "%s cannot be read: %s", named, strerror(-r));
	/* Whoever has made it may be about to write to it. */
	if (n == 0 && !k->empty_since)
		k->empty_since = clock_now();
	if (n == 0 && clock_now() - k->empty_since < EMPTY_MS * NSEC_PER_MSEC)
		return -EAGAIN;
	if (n && data[n - 1] == '\n')
		n--;
	return put_value(k->work, n ? data : NULL, n);
}

/* Beside the service, which may end meanwhile; the command's end is in k->command_status. */
static int run_beside(struct keep *k, const char *key, const char *command)
{
	pid_t pid = processes_start(command, -1);

	if (pid < 0)
		return work_fail(k->work, pid, "the command of '%s' cannot be started: %s", key, strerror(-pid));
	for (k->command = pid; k->command;) {
		bool open = wait_at_start(k, -1, -1);

		if (open && (k->main || !k->main_status))
			continue;
		process_kill(-pid, SIGKILL);
		return open ? ended_early(k) : orphaned(k);
	}
	return 0;
}

static int command_is_ready(struct keep *k)
{
	int r = run_beside(k, "ready", k->work->job.ready);

	if (r < 0)
		return r;
	return k->command_status ? -EAGAIN : put_value(k->work, NULL, 0);
}

static int look_again(struct keep *k, int (*is_ready)(struct keep *k))
{
	int r, ms = LOOK_MS_MIN;

	while ((r = is_ready(k)) == -EAGAIN) {
		if (is_gone(k))
			return ended_early(k);
		if (!wait_at_start(k, -1, ms))
			return orphaned(k);
		ms = ms * 2 < LOOK_MS_MAX ? ms * 2 : LOOK_MS_MAX;
	}
	/* Somebody else may answer there. */
	return r == 0 && is_gone(k) ? ended_early(k) : r;
}

/* What it writes is its own. The pid, or what work_fail() returned. */
static pid_t start_in_sandbox(struct keep *k, int out)
{
	struct work *w = k->work;
	_cleanup_text_ struct text manifest = { 0 };
	_cleanup_free_ char *home = xstrndup(w->job.dir, (size_t)(strrchr(w->job.dir, '/') - w->job.dir)), *why = NULL;
	struct sandbox s = {
		.command = w->job.source,
		.out = out,
		.root = w->job.root,
		.home = home,
		.tree = w->job.data,
		.view = w->job.view,
		.touch = k->touch,
		.limit = w->job.limit,
	};
	pid_t pid = sandbox_start(&s, &k->sandbox, &why);
	int r;

	if (pid > 0)
		return pid;
	fprintf(stderr, "fixd-builder: the service gets %sno namespaces of its own: %s\n", w->job.data ? "a copy of its data, and " : "",
		why);
	r = !w->job.data ? 0 : work_copy_tree(w, w->job.data, w->job.view, MANIFEST_AS_IS, &manifest);
	w->unsandboxed = why;
	why = NULL;
	if (w->job.data)
		touch_watch(k->touch, w->job.view);
	return r < 0 ? r : processes_start(w->job.source, out);
}

static void export_template(const struct work *w)
{
	_cleanup_free_ char *path = xasprintf("%s/" FORK_SOCKET, w->job.dir);
	_cleanup_text_ struct text rules = { 0 };

	for (size_t i = 0; w->job.audit && w->job.audit[i]; i++)
		text_printf(&rules, "%s%s", i ? "," : "", w->job.audit[i]);
	setenv("FIXD_SOCKET", w->job.socket, 1);
	setenv(FORK_TEMPLATE, path, 1);
	setenv(FORK_AUDIT, rules.data ? rules.data : "", 1);
}

static int service_start(struct keep *k)
{
	struct work *w = k->work;
	_cleanup_fd_ int out = -1;
	int pipes[2];

	if (w->job.ready_by == JOB_READY_LINE) {
		if (pipe2(pipes, O_CLOEXEC) < 0)
			return work_fail(w, -errno, "no pipe: %s", strerror(errno));
		k->output = pipes[0];
		out = pipes[1];
		fd_set_nonblock(k->output, true);
	}
	if ((w->job.ready_by == JOB_READY_NOTIFY || is_template(w)) && (k->notify = notify_open(w->job.token)) < 0)
		return work_fail(w, k->notify, "no socket for its notification: %s", strerror(-k->notify));
	if (is_template(w))
		export_template(w);
	if (w->job.view)
		setenv("FIXD_DATA", w->job.view, 1);
	if (w->job.data && w->job.touch) {
		k->touch = touch_new();
		k->unclean = unclean_find(w->job.data);
	}
	k->main = w->job.sandboxed ? start_in_sandbox(k, out) : processes_start(w->job.source, out);
	unsetenv("FIXD_DATA"); /* to all others it is an empty directory */
	if (k->main < 0)
		return work_fail(w, k->main, "the service cannot be started: %s", strerror(-k->main));
	k->next_sample = clock_now() + SAMPLE_MS * NSEC_PER_MSEC;
	w->job.group = (uint64_t)k->main;
	return keep_note(k);
}

static int wait_until_ready(struct keep *k)
{
	static int (*const looks[])(struct keep * k) = {
		[JOB_READY_PORT] = port_is_ready,
		[JOB_READY_FILE] = file_is_ready,
		[JOB_READY_COMMAND] = command_is_ready,
	};
	uint64_t by = k->work->job.ready_by;
	int r;

	if (by == JOB_READY_LINE)
		return wait_for_line(k);
	if (by == JOB_READY_CHECKPOINT)
		return wait_for_checkpoint(k);
	if (by != JOB_READY_NOTIFY)
		return look_again(k, looks[by]);
	r = wait_for_notification(k);
	return r < 0 ? r : put_value(k->work, NULL, 0);
}

static int prewarm(struct keep *k)
{
	_cleanup_free_ char *how = NULL;
	int r = run_beside(k, "prewarm", k->work->job.prewarm);

	if (r < 0 || !k->command_status)
		return r;
	how = work_describe_end(k->command_status);
	return work_fail(k->work, -EIO, "its prewarm command %s", how);
}

/* What it takes from the start; keep.c looks what becomes of that. */
static int count_memory(struct keep *k)
{
	struct work *w = k->work;
	int r;

	w->other_bytes = keep_usage(k);
	r = work_grant(w, w->space.used);
	return r < 0 ? work_fail_space(w, r) : 0;
}

int source_service(struct work *w)
{
	struct keep *k = w->keep;
	int r = service_start(k);

	if (r == 0)
		r = wait_until_ready(k);
	if (r == 0 && w->job.prewarm)
		r = prewarm(k);
	if (r == 0 && keep_is_measured(k))
		r = count_memory(k);
	w->service = k->main;
	return r;
}
