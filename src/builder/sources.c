/* SPDX-License-Identifier: MIT */
/* The sources whose image is bytes: a file, the output of a command, the manifest of a tree; and the check command. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/process.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/tree.h"
#include "builder/keep.h"
#include "builder/processes.h"
#include "builder/usage.h"
#include "builder/work.h"

#define PIPE_SIZE (1 << 20)
#define LOOK_MIN (50 * NSEC_PER_MSEC)
#define STRAGGLERS_END (5 * NSEC_PER_SEC)

void source_file_reserve(struct work *w)
{
	struct stat st;

	if (stat(w->job.source, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size + SPACE_STEP > w->job.reserved)
		w->job.reserved = ((uint64_t)st.st_size / SPACE_STEP + 2) * SPACE_STEP; /* its end is looked for behind it */
}

/* What is expected is asked for. */
static bool is_sparse(const struct stat *st)
{
	return st->st_blocks * 512 < st->st_size;
}

int source_file(struct work *w)
{
	const char *path = w->job.source;
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return work_fail(w, -errno, "%s cannot be read: %s", path, strerror(errno));
	if (S_ISDIR(st.st_mode))
		return work_fail(w, -EISDIR, "%s is a directory; use 'directory =' for it", path);
	if (S_ISFIFO(st.st_mode))
		return work_fail(w, -EINVAL, "%s is a pipe; use 'command = cat %s', which waits for who writes to it", path, path);
	if (S_ISREG(st.st_mode) && !is_sparse(&st))
		space_expect(&w->space, (uint64_t)st.st_size);
	return work_fill(w, fd, !S_ISREG(st.st_mode), 0);
}

int source_command(struct work *w)
{
	_cleanup_fd_ int from = -1, to = -1;
	int pipes[2], r;
	pid_t pid;

	if (pipe2(pipes, O_CLOEXEC) < 0)
		return work_fail(w, -errno, "no pipe: %s", strerror(errno));
	from = pipes[0];
	to = pipes[1];
	fcntl(to, F_SETPIPE_SZ, PIPE_SIZE);
	pid = work_shell(w, w->job.source, to);
	if (pid < 0)
		return pid;
	to = fd_close(to);
	r = work_fill(w, from, true, pid);
	if (r < 0)
		return r; /* the daemon ends the command with us */
	return work_wait(w, pid, "the command");
}

static void say_left_out(void *arg, const char *path, const char *why)
{
	struct work *w = arg;

	fprintf(stderr, "%s: left out of '%s': %s\n", path, w->job.name, why);
}

int work_copy_tree(struct work *w, const char *from, const char *to, enum manifest_modes how, struct text *manifest)
{
	_cleanup_free_ char *where = NULL;
	const struct manifest_host host = { .grant = work_grant, .left_out = say_left_out, .arg = w, .exclude = w->job.exclude };
	uint64_t bytes = 0;
	int r = manifest_copy_tree(from, to, how, &host, manifest, &bytes, &where);

	if (r == -EDQUOT)
		return work_fail_space(w, r);
	if (r == -EXDEV)
		return work_fail(w, r, "something is mounted at %s: expected what the command has written itself", where);
	if (r < 0)
		return work_fail(w, r, "%s cannot be copied: %s", where ? where : from, strerror(-r));
	w->other_bytes = bytes;
	return 0;
}

/* Copies it to where it will be seen, and makes the manifest the image. */
static int take_tree(struct work *w, const char *from, enum manifest_modes how)
{
	_cleanup_text_ struct text manifest = { 0 };
	char *p;
	int r = work_copy_tree(w, from, w->job.tree, (w->job.as_is ? MANIFEST_AS_IS : MANIFEST_READ_ONLY) | how, &manifest);

	if (r < 0)
		return r;
	p = space_extend(&w->space, manifest.size, &r);
	if (!p)
		return work_fail_space(w, r);
	if (manifest.size)
		memcpy(p, manifest.data, manifest.size);
	w->digest = digest_bytes(p, manifest.size);
	return 0;
}

int source_directory(struct work *w)
{
	return take_tree(w, w->job.source, 0);
}

/* The tree has got its modes and times by now, and keeps them. */
static int remove_draft(const char *tree, const char *draft)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT } };
	struct stat st;
	int r;

	if (stat(tree, &st) < 0 || chmod(tree, 0700) < 0)
		return -errno;
	r = tree_remove(draft);
	times[1] = st.st_mtim;
	if (r == 0 && (utimensat(AT_FDCWD, tree, times, 0) < 0 || chmod(tree, st.st_mode & 07777) < 0))
		r = -errno;
	return r;
}

int work_take_draft(struct work *w, const char *draft)
{
	struct stat st;
	int r;

	if (lstat(draft, &st) == 0 && !S_ISDIR(st.st_mode))
		return work_fail(w, -ENOTDIR, "its directory is none any more: expected FIXD_DIR as it was, with the files in it");
	r = take_tree(w, draft, MANIFEST_CONSUME);
	if (r < 0)
		return r;
	r = remove_draft(w->job.tree, draft);
	return r < 0 ? work_fail(w, r, "what was written there cannot be removed: %s", strerror(-r)) : 0;
}

/* After so long at most, or as soon as it has ended. Where poll(2) is refused its end is asked for. */
static bool still_runs(pid_t pid, int pidfd, int64_t pause)
{
	struct timespec time = { .tv_nsec = LOOK_MIN };
	struct pollfd p = { .fd = pidfd, .events = POLLIN };
	int n = poll(&p, 1, (int)(pause / NSEC_PER_MSEC));

	if (n < 0 && errno != EINTR) {
		nanosleep(&time, NULL);
		return process_is_child(pid);
	}
	return n <= 0;
}

/* The budget is asked for while the command runs: it must not fill the memory of the machine before it is told that it may not. */
static int guard_draft(struct work *w, pid_t pid, char *draft)
{
	_cleanup_fd_ int ended = process_open(pid);
	int64_t pause = LOOK_MIN;
	uint64_t asked = 0;

	while (ended >= 0 && still_runs(pid, ended, pause)) {
		int64_t begun = clock_now();
		uint64_t bytes = usage_of_tree(draft);
		int r = bytes > asked ? work_grant(w, bytes) : 0;

		if (r < 0)
			return work_fail_space(w, r); /* the daemon ends the command with us */
		asked = bytes > asked ? bytes : asked;
		/* At most a tenth of a processor. */
		pause = 10 * (clock_now() - begun);
		pause = pause < LOOK_MIN ? LOOK_MIN : pause;
	}
	return 0;
}

/* Who works in the draft, after at most so long for their end; 0: nobody. */
static pid_t wait_for_stragglers(const char *draft, int64_t time, bool killed)
{
	int64_t deadline = clock_now() + time;
	pid_t pid;

	while (keep_has_children()) {
		_cleanup_fd_ int ended = -1;
		struct pollfd p = { .events = POLLIN };

		pid = processes_inside(draft);
		if (pid <= 0 || clock_now() >= deadline)
			return pid;
		if (killed)
			process_kill(pid, SIGKILL);
		p.fd = ended = process_open(pid);
		poll(&p, 1, (int)(LOOK_MIN / NSEC_PER_MSEC));
	}
	return 0;
}

/* Whoever still works there may write at any time. A server that was not stopped is ended, as nobody else would. */
static int end_stragglers(struct work *w, const char *draft)
{
	pid_t pid = wait_for_stragglers(draft, STRAGGLERS_END, false);
	_cleanup_free_ char *path = xasprintf("/proc/%d/comm", (int)pid), *name = NULL;

	if (pid == 0)
		return 0;
	if (file_read_all(path, NAME_MAX, &name, NULL) == 0)
		name[strcspn(name, "\n")] = '\0';
	work_fail(
		w, -EBUSY,
		"the command has ended, and %s (pid %d), which it left running, works in its tree; expected a command that stops its servers "
		"and waits for their end",
		name ? name : "a process", (int)pid);
	wait_for_stragglers(draft, STRAGGLERS_END, true);
	return w->error;
}

/* The command writes below the tree, on the same tmpfs: whatever becomes of it, the daemon removes all of it. */
int source_tree(struct work *w)
{
	_cleanup_free_ char *draft = xasprintf("%s/.fixd-draft", w->job.tree);
	pid_t pid;
	int r;

	if (mkdir(draft, 0755) < 0)
		return work_fail(w, -errno, "no directory for the command: %s", strerror(errno));
	setenv("FIXD_DIR", draft, 1);
	pid = work_shell(w, w->job.source, -1);
	r = pid < 0 ? pid : guard_draft(w, pid, draft);
	if (r == 0)
		r = work_wait(w, pid, "the command");
	if (r == 0)
		r = end_stragglers(w, draft);
	return r < 0 ? r : work_take_draft(w, draft);
}

int source_check(struct work *w)
{
	pid_t pid = work_shell(w, w->job.source, -1);

	return pid < 0 ? pid : work_wait(w, pid, "its command");
}
