/* SPDX-License-Identifier: MIT */
#include "client/hazards.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <semaphore.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "wire/default_socket.h"
#include "wire/fork.h"

static const char *const kind_names[] = HAZARD_NAMES, *const rule_names[] = HAZARD_RULE_NAMES;

struct hazards {
	enum hazard_rule rules[HAZARD_COUNT];
	const int *keep_fds;
	size_t n_keep_fds;
	unsigned errors;
};

/* Whoever writes a file anew goes on where the others have got to: that is right for a log, and for little else. */
static const enum hazard_rule defaults[HAZARD_COUNT] = { [HAZARD_FILE] = HAZARD_WARN };

static bool is_word(const char *text, size_t n, const char *word)
{
	return strlen(word) == n && !memcmp(text, word, n);
}

/* One entry of the rules, which the daemon has checked. */
static void take_rule(struct hazards *h, const char *entry, size_t n)
{
	const char *colon = memchr(entry, ':', n);
	size_t kind = colon ? (size_t)(colon - entry) : 0, from = colon ? kind + 1 : 0;

	for (int rule = 0; rule < HAZARD_RULES; rule++) {
		if (!is_word(entry + from, n - from, rule_names[rule]))
			continue;
		for (int k = 0; k < HAZARD_COUNT; k++) {
			if (!colon || is_word(entry, kind, kind_names[k]))
				h->rules[k] = (enum hazard_rule)rule;
		}
	}
}

static void take_rules(struct hazards *h, const char *rules)
{
	while (rules && *rules) {
		size_t n = strcspn(rules, ",");

		take_rule(h, rules, n);
		rules += n + (rules[n] == ',');
	}
}

/* One sentence a line, and in one piece. */
__attribute__((format(printf, 3, 4))) static void tell(struct hazards *h, enum fork_hazard kind, const char *fmt, ...)
{
	char sentence[1024];
	va_list ap;

	if (h->rules[kind] == HAZARD_ALLOW)
		return;
	h->errors += h->rules[kind] == HAZARD_ERROR;
	va_start(ap, fmt);
	vsnprintf(sentence, sizeof sentence, fmt, ap);
	va_end(ap);
	dprintf(2, "fixd: checkpoint: %s%s (%s)\n", h->rules[kind] == HAZARD_WARN ? "warning: " : "", sentence, kind_names[kind]);
}

/* Calls `fn` with each number that is a name in the directory. */
static void each_number(const char *path, void (*fn)(struct hazards *h, int number), struct hazards *h)
{
	DIR *dir = opendir(path);
	struct dirent *e;

	while (dir && (e = readdir(dir))) {
		char *end;
		long n = strtol(e->d_name, &end, 10);

		if (end != e->d_name && !*end && n != dirfd(dir))
			fn(h, (int)n);
	}
	if (dir)
		closedir(dir);
}

/* A short file, as a string without its last newline. */
static bool read_line(const char *path, char *buf, size_t size)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : fd_pread_all(fd, buf, size - 1, 0);

	if (n < 0)
		return false;
	buf[n] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
	return true;
}

/*
 * What another thread is in. It is asked by a signal that nobody else uses, whose handler is put back; one that does not answer in time has
 * blocked it.
 */
#define ASK_SIGNAL (SIGRTMAX - 3)
#define ASK_MS 200
#define FRAMES_MAX 12
#define FRAMES_OF_HANDLER 2
#define FRAMES_SHOWN 3

static void *frames[FRAMES_MAX];
static int n_frames;
static sem_t answered;

static void on_asked(int signal)
{
	int err = errno;

	(void)signal;
	n_frames = backtrace(frames, FRAMES_MAX);
	sem_post(&answered);
	errno = err;
}

static bool ask_thread(int tid)
{
	struct timespec until;
	int r;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += ASK_MS * 1000000L;
	until.tv_sec += until.tv_nsec / 1000000000L;
	until.tv_nsec %= 1000000000L;
	if (syscall(SYS_tgkill, getpid(), tid, ASK_SIGNAL) < 0)
		return false;
	while ((r = sem_timedwait(&answered, &until)) < 0 && errno == EINTR)
		;
	return r == 0;
}

/* What the C library calls within itself has no name: whatever it was called for has. */
static int first_frame(void)
{
	Dl_info at;

	for (int i = FRAMES_OF_HANDLER; i < n_frames; i++) {
		if (dladdr(frames[i], &at) && at.dli_sname)
			return i;
	}
	return FRAMES_OF_HANDLER;
}

static void describe_frames(char *buf, size_t size)
{
	int first = first_frame();
	size_t used = 0;

	*buf = '\0';
	for (int i = first; i < n_frames && i < first + FRAMES_SHOWN && used < size; i++) {
		Dl_info at;
		const char *file;
		int n;

		if (!dladdr(frames[i], &at) || !at.dli_fname)
			continue;
		file = strrchr(at.dli_fname, '/');
		n = snprintf(buf + used, size - used, "%s%s%s%s", used ? ", called by " : " in ", at.dli_sname ? at.dli_sname : "",
			     at.dli_sname ? "() of " : "", file ? file + 1 : at.dli_fname);
		used += n > 0 ? (size_t)n : 0;
	}
}

static void tell_thread(struct hazards *h, int tid)
{
	char path[64], name[64], where[512] = "";

	if (tid == getpid())
		return;
	snprintf(path, sizeof path, "/proc/self/task/%d/comm", tid);
	if (!read_line(path, name, sizeof name))
		return; /* it has ended */
	if (ask_thread(tid))
		describe_frames(where, sizeof where);
	tell(h, HAZARD_THREAD, "a fork would not have the thread '%s' (%d), which is%s%s", name, tid, *where ? "" : " somewhere", where);
}

static void tell_threads(struct hazards *h)
{
	struct sigaction ask = { .sa_handler = on_asked, .sa_flags = SA_RESTART }, before;
	void *first[1];

	if (h->rules[HAZARD_THREAD] == HAZARD_ALLOW)
		return;
	backtrace(first, 1); /* loads what it needs, which a handler must not */
	if (sem_init(&answered, 0, 0) < 0 || sigaction(ASK_SIGNAL, &ask, &before) < 0)
		return;
	each_number("/proc/self/task", tell_thread, h);
	sigaction(ASK_SIGNAL, &before, NULL);
	sem_destroy(&answered);
}

static void tell_children_of(struct hazards *h, int tid)
{
	char path[64], all[4096], name[64], *rest, *word;

	snprintf(path, sizeof path, "/proc/self/task/%d/children", tid);
	if (!read_line(path, all, sizeof all))
		return;
	for (word = strtok_r(all, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
		snprintf(path, sizeof path, "/proc/%.10s/comm", word);
		if (!read_line(path, name, sizeof name))
			snprintf(name, sizeof name, "?");
		tell(h, HAZARD_CHILD, "the child process '%s' (%s) would be none of a fork's", name, word);
	}
}

static void describe_address(const struct sockaddr_storage *a, socklen_t size, char *buf, size_t room)
{
	char host[INET6_ADDRSTRLEN];
	const struct sockaddr_un *un = (const void *)a;
	const struct sockaddr_in *v4 = (const void *)a;
	const struct sockaddr_in6 *v6 = (const void *)a;
	size_t path = size > offsetof(struct sockaddr_un, sun_path) ? size - offsetof(struct sockaddr_un, sun_path) : 0;

	if (a->ss_family == AF_INET && inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host))
		snprintf(buf, room, "%s:%u", host, ntohs(v4->sin_port));
	else if (a->ss_family == AF_INET6 && inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host))
		snprintf(buf, room, "[%s]:%u", host, ntohs(v6->sin6_port));
	else if (a->ss_family == AF_UNIX && path && un->sun_path[0])
		snprintf(buf, room, "%.*s", (int)strnlen(un->sun_path, path), un->sun_path);
	else if (a->ss_family == AF_UNIX && path)
		snprintf(buf, room, "@%.*s", (int)path - 1, un->sun_path + 1);
	else
		*buf = '\0';
}

static bool peer_of(int fd, char *buf, size_t room)
{
	struct sockaddr_storage a = { 0 };
	socklen_t n = sizeof a;

	if (getpeername(fd, (struct sockaddr *)&a, &n) < 0)
		return false;
	describe_address(&a, n, buf, room);
	return true;
}

/* A connection of this library: a fork opens another one when it needs it. */
static bool hazards_socket_is_of_daemon(int fd)
{
	const char *env = getenv("FIXD_SOCKET");
	char path[PATH_MAX], peer[PATH_MAX];

	if (env && *env)
		snprintf(path, sizeof path, "%s", env);
	else
		default_socket_to_connect(path, sizeof path);
	return peer_of(fd, peer, sizeof peer) && !strcmp(peer, path);
}

static void tell_socket(struct hazards *h, int fd)
{
	struct sockaddr_storage a = { 0 };
	socklen_t n = sizeof a, m = sizeof(int);
	char own[256] = "", peer[256] = "";
	int listens = 0;
	bool connected;

	if (hazards_socket_is_of_daemon(fd))
		return;
	if (getsockname(fd, (struct sockaddr *)&a, &n) == 0)
		describe_address(&a, n, own, sizeof own);
	getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &m);
	connected = peer_of(fd, peer, sizeof peer);
	tell(h, HAZARD_SOCKET, "all forks would share descriptor %d, a socket%s%s%s%s", fd,
	     listens ? " that listens at "
	     : *own  ? " of "
		     : "",
	     own, connected ? " that is connected to " : "",
	     !connected ? ""
	     : *peer	? peer
			: "a socket without a name");
}

static void tell_locks(struct hazards *h, int fd, const char *target)
{
	char path[64], line[256];
	FILE *f;

	snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof line, f)) {
		if (strncmp(line, "lock:", 5) != 0)
			continue;
		if (strstr(line, "POSIX"))
			tell(h, HAZARD_LOCK, "a fork would not have the lock of descriptor %d, %s", fd, target);
		else
			tell(h, HAZARD_LOCK, "all forks would share the lock of descriptor %d, %s", fd, target);
	}
	if (f)
		fclose(f);
}

static const struct {
	const char *prefix;
	enum fork_hazard kind;
	const char *what;
} descriptors[] = {
	{ "pipe:", HAZARD_PIPE, "a pipe" },
	{ "anon_inode:[eventfd]", HAZARD_EVENTFD, "an eventfd" },
	{ "anon_inode:[eventpoll]", HAZARD_EPOLL, "an epoll instance" },
	{ "anon_inode:inotify", HAZARD_INOTIFY, "an inotify instance" },
	{ "anon_inode:[timerfd]", HAZARD_TIMERFD, "a timer" },
	{ "anon_inode:[signalfd]", HAZARD_SIGNALFD, "a descriptor of signals" },
	{ "anon_inode:[io_uring]", HAZARD_URING, "a ring" },
};

static bool is_kept(const struct hazards *h, int fd)
{
	for (size_t i = 0; i < h->n_keep_fds; i++) {
		if (h->keep_fds[i] == fd)
			return true;
	}
	return fd <= 2;
}

static void tell_descriptor(struct hazards *h, int fd)
{
	char path[FD_PATH_SIZE], target[PATH_MAX];
	ssize_t n = readlink(fd_path(fd, path), target, sizeof target - 1);
	struct stat st;
	int flags;

	if (n < 0 || is_kept(h, fd) || fstat(fd, &st) < 0)
		return;
	target[n] = '\0';
	if (S_ISSOCK(st.st_mode)) {
		tell_socket(h, fd);
		return;
	}
	for (size_t i = 0; i < sizeof descriptors / sizeof *descriptors; i++) {
		if (!strncmp(target, descriptors[i].prefix, strlen(descriptors[i].prefix)))
			tell(h, descriptors[i].kind, "all forks would share descriptor %d, %s", fd, descriptors[i].what);
	}
	if (!S_ISREG(st.st_mode))
		return;
	flags = fcntl(fd, F_GETFL);
	if (flags >= 0 && (flags & O_ACCMODE) != O_RDONLY && !(flags & O_APPEND))
		tell(h, HAZARD_FILE, "all forks would write at the same place of descriptor %d, %s", fd, target);
	tell_locks(h, fd, target);
}

/* start-end perms offset dev inode path */
static void tell_mappings(struct hazards *h)
{
	char line[PATH_MAX + 128], perms[8], path[PATH_MAX];
	FILE *f = fopen("/proc/self/maps", "re");
	unsigned long long start, end;

	while (f && fgets(line, sizeof line, f)) {
		*path = '\0';
		if (sscanf(line, "%llx-%llx %7s %*s %*s %*s %4095[^\n]", &start, &end, perms, path) < 3 || perms[1] != 'w' ||
		    perms[3] != 's')
			continue;
		tell(h, HAZARD_MAPPING, "all forks would share %llu bytes of writable memory at 0x%llx, %s", end - start, start, path);
	}
	if (f)
		fclose(f);
}

static void tell_timers(struct hazards *h)
{
	static const char *const names[] = { [ITIMER_REAL] = "real", [ITIMER_VIRTUAL] = "virtual", [ITIMER_PROF] = "profiling" };
	char line[128];
	FILE *f = fopen("/proc/self/timers", "re");

	while (f && fgets(line, sizeof line, f)) {
		if (!strncmp(line, "ID:", 3))
			tell(h, HAZARD_TIMER, "a fork would not have the timer %d of timer_create(2)", atoi(line + 3));
	}
	if (f)
		fclose(f);
	for (int which = ITIMER_REAL; which <= ITIMER_PROF; which++) {
		struct itimerval v;

		if (getitimer((__itimer_which_t)which, &v) == 0 && (v.it_value.tv_sec || v.it_value.tv_usec))
			tell(h, HAZARD_TIMER, "a fork would not have the %s timer of setitimer(2) or alarm(2)", names[which]);
	}
}

unsigned hazards_tell(const char *rules, const int *keep_fds, size_t n_keep_fds)
{
	struct hazards h = { .keep_fds = keep_fds, .n_keep_fds = n_keep_fds };

	memcpy(h.rules, defaults, sizeof defaults);
	take_rules(&h, rules);
	tell_threads(&h);
	each_number("/proc/self/task", tell_children_of, &h);
	each_number("/proc/self/fd", tell_descriptor, &h);
	tell_mappings(&h);
	tell_timers(&h);
	return h.errors;
}

static void drop_if_daemon(struct hazards *h, int fd)
{
	_cleanup_fd_ int null = -1;

	(void)h;
	if (fd <= 2 || !hazards_socket_is_of_daemon(fd))
		return;
	/* Its number stays taken: the library closes it when it comes to that. */
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null >= 0 && dup3(null, fd, O_CLOEXEC) < 0)
		close(fd);
}

void hazards_drop_daemon(void)
{
	each_number("/proc/self/fd", drop_if_daemon, NULL);
}
