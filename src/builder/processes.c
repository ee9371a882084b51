/* SPDX-License-Identifier: MIT */
#include "builder/processes.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/process.h"
#include "base/text.h"
#include "wire/job.h"

#define ENVIRON_MAX ((size_t)4 << 20)
#define CHILDREN_MAX ((size_t)4 << 20)
#define END_TRIES 1000

pid_t processes_start(const char *command, int out)
{
	pid_t parent = getpid(), pid;
	sigset_t none, term, before;
	int err;

	/* We ignore it. Blocked it is kept, for a child that is asked to end before it can be. */
	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	sigprocmask(SIG_BLOCK, &term, &before);
	pid = fork();
	err = errno;
	if (pid != 0)
		sigprocmask(SIG_SETMASK, &before, NULL);
	if (pid < 0)
		return -err;
	if (pid > 0) {
		/* Both do it: the group is there whoever comes first. */
		setpgid(pid, pid);
		return pid;
	}
	setpgid(0, 0);
	signal(SIGTERM, SIG_DFL);
	signal(SIGPIPE, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		_exit(127);
	if (fd_dup_to(out < 0 ? 2 : out, 1) < 0) {
		perror("fixd-builder: standard output of the command");
		_exit(127);
	}
	execl("/bin/sh", "sh", "-c", command, NULL);
	perror("fixd-builder: /bin/sh");
	_exit(127);
}

/* The second field may have anything in it; what counts comes behind it: state, parent, group. */
static int read_stat(pid_t pid, pid_t *parent, pid_t *group)
{
	_cleanup_free_ char *path = xasprintf("/proc/%d/stat", (int)pid), *stat = NULL;
	const char *behind;
	char state;
	size_t n;

	if (file_read_all(path, 4096, &stat, &n) < 0 || !(behind = strrchr(stat, ')')))
		return -ESRCH;
	/* One that has ended only waits for its parent. */
	return sscanf(behind, ") %c %d %d", &state, parent, group) == 3 && !strchr("ZX", state) ? 0 : -ESRCH;
}

static bool is_marked(pid_t pid, const char *mark)
{
	_cleanup_free_ char *path = xasprintf("/proc/%d/environ", (int)pid), *environ_ = NULL;
	size_t n, length = strlen(mark);

	if (file_read_all(path, ENVIRON_MAX, &environ_, &n) < 0)
		return false;
	for (const char *p = environ_; p < environ_ + n; p += strlen(p) + 1) {
		if (!strncmp(p, mark, length) && !p[length])
			return true;
	}
	return false;
}

/* Known before a signal handler asks. */
static char own_children[64];

void processes_adopt(void)
{
	snprintf(own_children, sizeof own_children, "/proc/self/task/%d/children", (int)getpid());
	prctl(PR_SET_CHILD_SUBREAPER, 1);
}

/* A part of them, which are killed. How many there were. */
static size_t kill_some_children(void)
{
	int fd = open(own_children, O_RDONLY | O_CLOEXEC);
	char list[4096];
	ssize_t n = fd < 0 ? 0 : read(fd, list, sizeof list);
	size_t killed = 0;
	pid_t pid = 0;

	/* Each number has a space behind it: one that was cut has none. */
	for (ssize_t i = 0; i < n; i++) {
		if (list[i] >= '0' && list[i] <= '9') {
			pid = pid * 10 + (list[i] - '0');
			continue;
		}
		killed += pid > 1 && kill(pid, SIGKILL) == 0;
		pid = 0;
	}
	if (fd >= 0)
		close(fd);
	return killed;
}

void processes_end_all(void)
{
	const struct timespec pause = { .tv_nsec = NSEC_PER_MSEC };

	for (int tries = 0; *own_children && tries < END_TRIES; tries++) {
		size_t killed = kill_some_children();

		/* The children of those that are gone are ours then. */
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		if (!killed)
			break;
		nanosleep(&pause, NULL);
	}
	*own_children = '\0'; /* who is begun from here on is to go on */
}

void processes_die(void)
{
	processes_end_all();
	kill(0, SIGKILL);
	/* Where that is refused: our children are killed as we end. */
	_exit(EXIT_FAILURE);
}

bool processes_each(bool (*fn)(pid_t pid, void *arg), void *arg)
{
	DIR *dir = opendir("/proc");
	struct dirent *e;
	bool any = false;

	while (dir && (e = readdir(dir))) {
		if (isdigit((unsigned char)*e->d_name))
			any |= fn((pid_t)atol(e->d_name), arg);
	}
	if (dir)
		closedir(dir);
	return any;
}

/* The children of one thread, as the kernel lists them. False: it does not. */
static bool each_child_of_thread(pid_t pid, const char *thread, bool (*fn)(pid_t pid, void *arg), void *arg, bool *any)
{
	_cleanup_free_ char *path = xasprintf("/proc/%d/task/%s/children", (int)pid, thread), *list = NULL;
	char *rest;
	size_t n;

	if (file_read_all(path, CHILDREN_MAX, &list, &n) < 0)
		return false;
	for (char *word = strtok_r(list, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
		*any |= fn((pid_t)atol(word), arg);
	return true;
}

/* False: the kernel does not tell (CONFIG_PROC_CHILDREN), or the process is gone. */
static bool each_child(pid_t pid, bool (*fn)(pid_t pid, void *arg), void *arg, bool *any)
{
	_cleanup_free_ char *path = xasprintf("/proc/%d/task", (int)pid);
	_cleanup_free_ char *first = xasprintf("%d", (int)pid);
	DIR *dir = opendir(path);
	struct dirent *e;
	bool told = false;
	int r = -EIO;

	while (dir && (e = dir_next(dir, &r)))
		told |= each_child_of_thread(pid, e->d_name, fn, arg, any);
	if (dir)
		closedir(dir);
	/* Most have no thread but their first. */
	return told || r == 0 ? told : each_child_of_thread(pid, first, fn, arg, any);
}

static bool each_child_here(bool (*fn)(pid_t pid, void *arg), void *arg)
{
	bool any = false;

	return each_child(getpid(), fn, arg, &any) ? any : processes_each(fn, arg);
}

struct child_signal {
	pid_t group; /* that has got it */
	int signal;
};

static bool signal_child(pid_t pid, void *arg)
{
	const struct child_signal *c = arg;
	pid_t parent, group;

	return read_stat(pid, &parent, &group) == 0 && parent == getpid() && (c->group <= 0 || group != c->group) &&
	       process_kill(pid, c->signal) == 0;
}

/* When nobody of ours is in it any more, its number may be that of another one. */
static bool has_child_in(pid_t group)
{
	siginfo_t si;

	return group > 0 && waitid(P_PGID, (id_t)group, &si, WEXITED | WNOHANG | WNOWAIT) == 0;
}

void processes_signal_children(pid_t group, int signal)
{
	struct child_signal c = { group, signal };

	if (!has_child_in(group) || process_kill(-group, signal) < 0)
		c.group = 0;
	each_child_here(signal_child, &c);
}

struct relative {
	pid_t pid, parent, group;
	bool ours;
};

struct relatives {
	struct relative *all;
	size_t n;
};

static bool note_relative(pid_t pid, void *arg)
{
	struct relatives *r = arg;
	struct relative one = { .pid = pid };

	if (read_stat(pid, &one.parent, &one.group) < 0)
		return false;
	r->all = xrealloc(r->all, (r->n + 1) * sizeof one);
	r->all[r->n++] = one;
	return false;
}

static bool is_ours(const struct relatives *r, const struct relative *one, pid_t group)
{
	if (one->pid == getpid())
		return false;
	if (one->parent == getpid() || (group > 0 && one->group == group))
		return true;
	for (size_t k = 0; k < r->n; k++) {
		if (r->all[k].ours && r->all[k].pid == one->parent)
			return true;
	}
	return false;
}

struct descendants {
	pid_t *all;
	size_t n;
};

static bool note_descendant(pid_t pid, void *arg)
{
	struct descendants *d = arg;

	d->all = xrealloc(d->all, (d->n + 1) * sizeof *d->all);
	d->all[d->n++] = pid;
	return false;
}

/* False: the kernel does not tell. */
static bool walk_descendants(bool (*fn)(pid_t pid, void *arg), void *arg, bool *any)
{
	struct descendants d = { 0 };
	bool told = each_child(getpid(), note_descendant, &d, any);

	/* While it grows. */
	for (size_t k = 0; k < d.n; k++) {
		*any |= fn(d.all[k], arg);
		each_child(d.all[k], note_descendant, &d, any);
	}
	free(d.all);
	return told;
}

bool processes_each_descendant(pid_t group, bool (*fn)(pid_t pid, void *arg), void *arg)
{
	struct relatives r = { 0 };
	bool any = false, more = true;

	if (group == 0 && walk_descendants(fn, arg, &any))
		return any;
	processes_each(note_relative, &r);
	while (more) {
		more = false;
		for (size_t k = 0; k < r.n; k++) {
			if (r.all[k].ours || !is_ours(&r, &r.all[k], group))
				continue;
			r.all[k].ours = more = true;
			any |= fn(r.all[k].pid, arg);
		}
	}
	free(r.all);
	return any;
}

struct insider {
	const char *dir;
	pid_t pid;
};

static bool leads_into(int at, const char *link, const char *dir)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(at, link, target, sizeof target - 1);

	if (n <= 0)
		return false;
	target[n] = '\0';
	return path_below(target, dir);
}

static bool is_inside(pid_t pid, void *arg)
{
	struct insider *in = arg;
	_cleanup_free_ char *cwd = xasprintf("/proc/%d/cwd", (int)pid), *fds = xasprintf("/proc/%d/fd", (int)pid);
	bool found = leads_into(AT_FDCWD, cwd, in->dir);
	DIR *dir = found ? NULL : opendir(fds);
	struct dirent *e;

	while (dir && !found && (e = readdir(dir)))
		found = leads_into(dirfd(dir), e->d_name, in->dir);
	if (dir)
		closedir(dir);
	if (found)
		in->pid = pid;
	return found;
}

pid_t processes_inside(const char *dir)
{
	_cleanup_free_ char *real = realpath(dir, NULL);
	struct insider in = { .dir = real };

	if (real)
		processes_each_descendant(0, is_inside, &in);
	return in.pid;
}

struct search {
	char *mark;
	pid_t group; /* that is known to be theirs, or 0 */
	pid_t wanted;
	int signal;
	size_t n;
	int pidfd; /* of one of them */
};

static bool find_group(pid_t pid, void *arg)
{
	struct search *s = arg;
	pid_t parent, group;

	if (read_stat(pid, &parent, &group) < 0 || group != s->wanted || !is_marked(pid, s->mark))
		return false;
	s->group = group;
	return true;
}

static bool signal_marked(pid_t pid, void *arg)
{
	struct search *s = arg;
	pid_t parent, group;

	if (pid == getpid() || read_stat(pid, &parent, &group) < 0 || !((s->group && group == s->group) || is_marked(pid, s->mark)))
		return false;
	if (s->signal)
		process_kill(pid, s->signal);
	if (s->pidfd < 0)
		s->pidfd = process_open(pid);
	s->n++;
	return true;
}

size_t processes_signal_marked(const char *token, pid_t group, int signal, int wait_ms)
{
	struct search s = { .mark = xasprintf(JOB_TOKEN "=%s", token), .wanted = group, .signal = signal, .pidfd = -1 };
	struct pollfd p = { .events = POLLIN };

	if (group > 0)
		processes_each(find_group, &s);
	processes_each(signal_marked, &s);
	p.fd = s.pidfd;
	if (s.pidfd >= 0 && wait_ms > 0)
		poll(&p, 1, wait_ms);
	fd_close(s.pidfd);
	free(s.mark);
	return s.n;
}

/* In clock ticks since the machine's start. */
static unsigned long long started_at(pid_t pid)
{
	_cleanup_free_ char *path = xasprintf("/proc/%d/stat", (int)pid), *stat = NULL;
	unsigned long long ticks = 0;
	const char *p;
	size_t n;

	if (file_read_all(path, 4096, &stat, &n) < 0 || !(p = strrchr(stat, ')')))
		return 0;
	/* The 22nd field; behind the second one. */
	for (int field = 2; p && field < 22; field++)
		p = strchr(p + 1, ' ');
	return p && sscanf(p, "%llu", &ticks) == 1 ? ticks : 0;
}

#define LISTENS 0x0a /* TCP_LISTEN */

/* The inode of a socket that listens there, or 0. */
static unsigned long find_listener(const char *table, unsigned port)
{
	FILE *f = fopen(table, "re");
	unsigned long inode = 0;
	char line[512];

	while (f && !inode && fgets(line, sizeof line, f)) {
		unsigned local, state;
		unsigned long found;

		if (sscanf(line, " %*d: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x %*s %*s %*s %*u %*u %lu", &local, &state, &found) == 3 &&
		    local == port && state == LISTENS)
			inode = found;
	}
	if (f)
		fclose(f);
	return inode;
}

struct owner {
	char *link; /* of its descriptors, as /proc shows the one that is searched */
	pid_t pid;
};

static bool has_descriptor(pid_t pid, void *arg)
{
	struct owner *o = arg;
	_cleanup_free_ char *path = xasprintf("/proc/%d/fd", (int)pid);
	DIR *dir = opendir(path);
	struct dirent *e;
	bool found = false;

	while (dir && !found && (e = readdir(dir))) {
		char target[64];
		ssize_t n = readlinkat(dirfd(dir), e->d_name, target, sizeof target - 1);

		if (n <= 0)
			continue;
		target[n] = '\0';
		found = !strcmp(target, o->link);
	}
	if (dir)
		closedir(dir);
	if (found)
		o->pid = pid;
	return found;
}

pid_t processes_older_listener(unsigned port, pid_t newcomer)
{
	static const char *const tables[] = { "/proc/net/tcp", "/proc/net/tcp6" };

	for (size_t i = 0; i < ELEMENTSOF(tables); i++) {
		unsigned long inode = find_listener(tables[i], port);
		struct owner o = { 0 };

		if (!inode)
			continue;
		o.link = xasprintf("socket:[%lu]", inode);
		processes_each(has_descriptor, &o);
		free(o.link);
		if (o.pid && started_at(o.pid) < started_at(newcomer))
			return o.pid;
	}
	return 0;
}
