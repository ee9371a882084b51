/* SPDX-License-Identifier: MIT */
#include "builder/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/mount.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/process.h"
#include "base/userns.h"
#include "builder/processes.h"
#include "builder/touch.h"
#include "image/manifest.h"
#include "wire/socket.h"

#define INODES_MIN 64 /* of the directories here, and of a view of small data */

/* What the first process says: that it is set up, or cannot be; and how the command has ended. */
struct report {
	int step;  /* STEPS: all are done */
	int value; /* errno of the step, or the status of the command */
};

/* In the first process. */
struct setup {
	const struct sandbox *sandbox;
	bool mapped; /* into a user namespace, where there is only: */
	uid_t uid;
	gid_t gid;
	int home, tmp, scratch; /* directories */
};

static int map_user(struct setup *u)
{
	return u->mapped ? userns_map(u->uid, u->gid) : 0;
}

/* What is mounted outside later is of no use inside; what is unmounted there must go here, too. */
static int leave_mounts(struct setup *u)
{
	(void)u;
	return mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0 ? -errno : 0;
}

static int mount_proc(struct setup *u)
{
	(void)u;
	return mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0 ? -errno : 0;
}

static int find_home(struct setup *u)
{
	const struct sandbox *s = u->sandbox;

	u->home = (int)syscall(SYS_open_tree, AT_FDCWD, s->home, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
	u->tmp = open("/tmp", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return u->home < 0 ? -errno : 0;
}

static int make_directory(int at, const char *name, mode_t mode)
{
	return mkdirat(at, name, 0700) < 0 || fchmodat(at, name, mode, 0) < 0 ? -errno : 0;
}

/* One tmpfs for all, over the home, which is shown again: so the place is there whatever the machine looks like. */
static int mount_scratch(struct setup *u)
{
	static const struct {
		const char *name;
		mode_t mode;
	} directories[] = { { "shm", 01777 }, { "tmp", 01777 }, { "tmp-work", 0700 }, { "data", 0700 }, { "data-work", 0700 } };
	unsigned long long limit = u->sandbox->limit;
	/* A file without a byte takes the kernel's memory, too. */
	_cleanup_free_ char *options = xasprintf("mode=0700,size=%llu,nr_inodes=%llu", limit, limit / MANIFEST_ENTRY + INODES_MIN);
	int r = 0;

	if (mount("fixd", u->sandbox->home, "tmpfs", MS_NOSUID | MS_NODEV, options) < 0)
		return -errno;
	u->scratch = open(u->sandbox->home, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (u->scratch < 0)
		return -errno;
	for (size_t i = 0; r == 0 && i < ELEMENTSOF(directories); i++)
		r = make_directory(u->scratch, directories[i].name, directories[i].mode);
	return r;
}

/* By descriptors: a path may have what separates the options. */
static int mount_overlay(const struct setup *u, int lower, const char *name, const char *more, const char *at)
{
	_cleanup_free_ char *options =
		xasprintf("lowerdir=/proc/self/fd/%d,upperdir=/proc/self/fd/%d/%s,workdir=/proc/self/fd/%d/%s-work%s%s", lower, u->scratch,
			  name, u->scratch, name, more, u->mapped ? ",userxattr" : "");

	return mount("fixd", at, "overlay", 0, options) < 0 ? -errno : 0;
}

static int mount_shm(struct setup *u)
{
	_cleanup_free_ char *shm = xasprintf("/proc/self/fd/%d/shm", u->scratch);

	return mount(shm, "/dev/shm", NULL, MS_BIND, NULL) < 0 && errno != ENOENT ? -errno : 0;
}

/* What lies there is seen, and may be the service's own program; what is written there is private. */
static int mount_tmp(struct setup *u)
{
	int r = u->tmp < 0 ? 0 : mount_overlay(u, u->tmp, "tmp", "", "/tmp");

	if (r < 0)
		fprintf(stderr, "fixd-builder: /tmp is shared: no overlay over it: %s\n", strerror(-r));
	return 0;
}

/* Through an overlay of one's own nothing can be written to what others own (EOVERFLOW), even if it is for everybody; /tmp itself can. */
static int find_tmpdir(struct setup *u)
{
	const char *dir = getenv("TMPDIR");
	_cleanup_free_ char *name = dir && path_below(dir, "/tmp") ? xasprintf("%s/fixd-XXXXXX", dir) : NULL;

	(void)u;
	if (name && mkdtemp(name))
		rmdir(name);
	else if (name && errno == EOVERFLOW)
		setenv("TMPDIR", "/tmp", 1);
	return 0;
}

/* It may lie in what was covered. */
static int show_home(struct setup *u)
{
	const char *home = u->sandbox->home;
	int r = dir_make_all(home, 0755);

	if (r < 0 && r != -EEXIST)
		return r;
	return syscall(SYS_move_mount, u->home, "", AT_FDCWD, home, MOVE_MOUNT_F_EMPTY_PATH) < 0 ? -errno : 0;
}

/* The root of the view is what its upper directory is. */
static int look_like(int at, const char *name, const struct stat *st)
{
	return fchownat(at, name, st->st_uid, st->st_gid, 0) < 0 || fchmodat(at, name, st->st_mode & 07777, 0) < 0 ? -errno : 0;
}

static int mount_view(struct setup *u)
{
	const struct sandbox *s = u->sandbox;
	_cleanup_fd_ int tree = -1;
	struct stat st;
	int r;

	if (!s->tree)
		return 0;
	tree = open(s->tree, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (tree < 0 || fstat(tree, &st) < 0)
		return -errno;
	r = look_like(u->scratch, "data", &st);
	/* Nothing of it is to outlive the service: there is nothing to be synchronised. */
	if (r == 0)
		r = mount_overlay(u, tree, "data", u->mapped ? ",volatile,xino=on" : ",volatile,xino=on,redirect_dir=on", s->view);
	if (r == 0)
		touch_watch(s->touch, s->view);
	return r;
}

/* Who names the tree instead of its view, by $FIXD_DEP_NAME, changes that, too, and not what all others get. */
static int hide_tree(struct setup *u)
{
	const struct sandbox *s = u->sandbox;

	return s->tree && mount(s->view, s->tree, NULL, MS_BIND, NULL) < 0 ? -errno : 0;
}

static int enter_root(struct setup *u)
{
	return chdir(u->sandbox->root) < 0 ? -errno : 0;
}

static const struct {
	int (*run)(struct setup *u);
	const char *what;
} steps[] = {
	{ map_user, "its user cannot be mapped into a user namespace" },
	{ leave_mounts, "its mounts cannot be parted from those of others" },
	{ mount_proc, "no /proc of its own can be mounted" },
	{ find_home, "its directory cannot be kept in sight" },
	{ mount_scratch, "no tmpfs can be mounted for what it writes" },
	{ mount_tmp, "no overlay can be mounted over /tmp" },
	{ find_tmpdir, "TMPDIR cannot be replaced" },
	{ mount_shm, "no /dev/shm of its own can be mounted" },
	{ show_home, "its directory cannot be shown again" },
	{ mount_view, "no overlay can be mounted over its data" },
	{ hide_tree, "its data cannot be hidden behind its view" },
	{ enter_root, "its root directory cannot be entered" },
};
#define STEPS ((int)ELEMENTSOF(steps))

static void report(int said, int step, int value)
{
	struct report r = { step, value };

	/* When nobody hears it, this ends at once. */
	if (send(said, &r, sizeof r, MSG_NOSIGNAL) < 0)
		_exit(EXIT_FAILURE);
}

/* Whoever is orphaned in a pid namespace becomes a child of its first process. False: there are no more. */
static bool sandbox_reap(pid_t command, int *status)
{
	int one;
	pid_t pid;

	while ((pid = waitpid(-1, &one, WNOHANG)) > 0) {
		if (pid == command)
			*status = one;
	}
	return pid == 0;
}

/* A command that has gone into the background is alive in those it has left behind; one that has failed is not. */
_Noreturn static void look_after(pid_t command, int signals, int said)
{
	struct pollfd p[] = { { .fd = signals, .events = POLLIN }, { .fd = said } };
	struct signalfd_siginfo info;
	int status = 0;

	while (sandbox_reap(command, &status) && status == 0) {
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			break;
		if (p[1].revents)
			_exit(EXIT_FAILURE);
		while (read(signals, &info, sizeof info) > 0)
			;
	}
	report(said, STEPS, status);
	_exit(EXIT_SUCCESS);
}

/* What the helper has open tells others that it lives, and has a lock. */
static void close_others(const int *keep, size_t n)
{
	int low = STDERR_FILENO;

	for (;;) {
		int next = INT_MAX;

		for (size_t i = 0; i < n; i++) {
			if (keep[i] > low && keep[i] < next)
				next = keep[i];
		}
		if (next - low > 1)
			syscall(SYS_close_range, low + 1, next == INT_MAX ? next : next - 1, 0);
		if (next == INT_MAX)
			return;
		low = next;
	}
}

_Noreturn static void be_first(struct setup *u, int said)
{
	sigset_t set;
	int signals;
	pid_t command;

	prctl(PR_SET_NAME, "fixd-sandbox");
	close_others((const int[]){ said, u->sandbox->out, u->sandbox->touch }, 3);
	setpgid(0, 0);
	for (int i = 0; i < STEPS; i++) {
		int r = steps[i].run(u);

		if (r < 0) {
			report(said, i, -r);
			_exit(EXIT_FAILURE);
		}
	}
	fd_close(u->home);
	fd_close(u->tmp);
	fd_close(u->scratch);
	fd_close(u->sandbox->touch);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0 || (signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK)) < 0)
		_exit(EXIT_FAILURE);
	/* It dies with us anyway. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	command = processes_start(u->sandbox->command, u->sandbox->out);
	if (command < 0)
		_exit(EXIT_FAILURE);
	report(said, STEPS, 0);
	look_after(command, signals, said);
}

static pid_t clone_first(struct setup *u, int ends[2], bool mapped)
{
	unsigned long flags = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWPID | (mapped ? CLONE_NEWUSER : 0);
	pid_t pid = (pid_t)syscall(SYS_clone, flags | SIGCHLD, NULL, NULL, NULL, NULL);

	if (pid < 0)
		return -errno;
	if (pid > 0)
		return pid;
	close(ends[0]);
	u->mapped = mapped;
	be_first(u, ends[1]);
}

/* 0 or -errno. */
static int wait_for_setup(int said, char **why)
{
	struct report r;
	size_t none = 0;
	ssize_t n;

	do {
		n = socket_receive(said, &r, sizeof r, NULL, &none, 0);
	} while (n == -EINTR);
	if (n != sizeof r) {
		*why = xstrdup("its first process has ended");
		return -EIO;
	}
	if (r.step == STEPS)
		return 0;
	*why = xasprintf("%s: %s", steps[r.step].what, strerror(r.value));
	return -r.value;
}

/* In a user namespace of one's own the files of others are nobody's, and cannot be changed; root needs none. */
static bool is_of_another_user(const char *tree, uid_t *owner)
{
	struct stat st;

	if (geteuid() == 0 || !tree || stat(tree, &st) < 0)
		return false;
	*owner = st.st_uid;
	return *owner != geteuid();
}

pid_t sandbox_start(const struct sandbox *s, int *said, char **why)
{
	struct setup u = { .sandbox = s, .uid = geteuid(), .gid = getegid(), .home = -1, .tmp = -1, .scratch = -1 };
	_cleanup_fd_ int here = -1, there = -1;
	int ends[2], r = 0;
	uid_t owner;
	pid_t pid;

	if (is_of_another_user(s->tree, &owner)) {
		*why = xasprintf("its data is of another user (%u): expected the same 'user' for both", (unsigned)owner);
		return -EPERM;
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) {
		*why = xasprintf("no pair of sockets: %s", strerror(errno));
		return -errno;
	}
	here = ends[0];
	there = ends[1];
	pid = clone_first(&u, ends, u.uid != 0);
	/* Root of a container may be none. */
	if (pid < 0 && u.uid == 0)
		pid = clone_first(&u, ends, true);
	if (pid < 0) {
		*why = xasprintf("no namespaces (kernel.unprivileged_userns_clone, user.max_user_namespaces, or a container's filter): %s",
				 strerror(-pid));
		return pid;
	}
	there = fd_close(there);
	r = wait_for_setup(here, why);
	if (r < 0) {
		process_kill(pid, SIGKILL);
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
		return r;
	}
	*said = fd_steal(&here);
	return pid;
}

/* They are on one tmpfs. */
uint64_t sandbox_files(pid_t first)
{
	_cleanup_free_ char *shm = xasprintf("/proc/%d/root/dev/shm", (int)first);
	struct statfs fs;

	if (statfs(shm, &fs) < 0)
		return 0;
	return (uint64_t)(fs.f_blocks - fs.f_bfree) * (uint64_t)fs.f_bsize + (uint64_t)(fs.f_files - fs.f_ffree) * MANIFEST_ENTRY;
}

int sandbox_status(int said, int status)
{
	struct report r;
	size_t none = 0;

	return socket_receive(said, &r, sizeof r, NULL, &none, MSG_DONTWAIT) == sizeof r ? r.value : status;
}
