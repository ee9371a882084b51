/* SPDX-License-Identifier: MIT */
#include "builder/keep.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/process.h"
#include "base/tree.h"
#include "base/units.h"
#include "builder/leavings.h"
#include "builder/notify.h"
#include "builder/processes.h"
#include "builder/sandbox.h"
#include "builder/sysv.h"
#include "builder/touch.h"
#include "builder/usage.h"
#include "builder/work.h"
#include "image/memfd.h"
#include "wire/socket.h"

/* Those who need what we keep have their own time for tearing down; longer than this nobody waits for them. */
#define HOLD_MS (10 * 60 * 1000)
#define KILL_MS 10000

static int64_t deadline_in(int64_t ms)
{
	return clock_now() + ms * NSEC_PER_MSEC;
}

static int ms_until(int64_t deadline)
{
	int64_t ns = deadline - clock_now();

	return ns > 0 ? (int)((ns + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC) : 0;
}

/*
 * Standard error is a pipe that the daemon reads. With a reader here, too, a service that says something as it ends is not killed for
 * it when the daemon was.
 */
static int open_log(int mode)
{
	struct stat st;

	return fstat(2, &st) == 0 && S_ISFIFO(st.st_mode) ? open("/proc/self/fd/2", mode | O_NONBLOCK | O_CLOEXEC) : -1;
}

/*
 * Where a seccomp filter refuses that, nothing could be ended, or would ever be seen to end. We are no child of ours: that is what a kernel
 * answers.
 */
static int may_keep(struct work *w)
{
	const char *call = "waitid(2)";
	siginfo_t si;
	int r = process_kill(getpid(), 0);

	if (r < 0)
		return work_fail(w, r, "kill(2) is refused: %s; expected a seccomp filter that allows it, or pidfd_send_signal(2)",
				 strerror(-r));
	r = waitid(P_PID, (id_t)getpid(), &si, WEXITED | WNOHANG);

	if (r < 0 && (errno == ECHILD || errno == EINTR)) {
		call = "wait4(2)";
		r = waitpid(getpid(), NULL, WNOHANG);
	}
	if (r < 0 && errno != ECHILD && errno != EINTR)
		return work_fail(w, -errno, "%s is refused: %s; expected a seccomp filter that allows it", call, strerror(errno));
	return 0;
}

/* A plugin may ignore the end of children, which would never be seen then; and an alarm that it has left must not end us. */
static void forget_plugin(void)
{
	const struct itimerval none = { 0 };

	signal(SIGCHLD, SIG_DFL);
	setitimer(ITIMER_REAL, &none, NULL);
	setitimer(ITIMER_VIRTUAL, &none, NULL);
	setitimer(ITIMER_PROF, &none, NULL);
}

int keep_begin(struct keep *k, struct work *w)
{
	sigset_t set;
	/* A plugin may have closed them: what is opened here must not get their numbers, which mend_log() takes. */
	int r = fd_open_standard();

	if (r < 0)
		return work_fail(w, r, "the helper cannot be set up: %s", strerror(-r));
	forget_plugin();
	k->work = w;
	k->note = w->note;
	k->since = clock_real();
	k->before = w->job.kind == JOB_SERVICE ? sysv_list() : NULL;
	k->daemon = getppid();
	k->log = open_log(O_RDONLY);
	k->say = open_log(O_WRONLY);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0 || (k->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK)) < 0 ||
	    prctl(PR_SET_CHILD_SUBREAPER, 1) < 0 || pipe2(k->hold, O_CLOEXEC) < 0)
		return work_fail(w, -errno, "the helper cannot be set up: %s", strerror(errno));
	/* The end of the channel says the same, and later. */
	prctl(PR_SET_PDEATHSIG, 0);
	signal(SIGTERM, SIG_IGN);
	signal(SIGPIPE, SIG_IGN); /* of a daemon that does not read our log any more */
	setenv(JOB_TOKEN, w->job.token, 1);
	r = may_keep(w);
	if (r < 0)
		return r;
	return flock(k->note, LOCK_EX) < 0 ? work_fail(w, -errno, "the note cannot be locked: %s", strerror(errno)) : 0;
}

/* As a string, if it is short and one. */
static char *bytes_of(int fd)
{
	char *data = xcalloc(1, JOB_NOTE_BYTES_MAX + 1);
	ssize_t n = fd < 0 ? -1 : fd_pread_all(fd, data, JOB_NOTE_BYTES_MAX + 1, 0);

	if (n >= 0 && n <= JOB_NOTE_BYTES_MAX && !memchr(data, 0, (size_t)n)) {
		data[n] = '\0';
		return data;
	}
	free(data);
	return NULL;
}

static uint64_t stop_signal(const struct job *j)
{
	return j->stop_signal ? j->stop_signal : SIGTERM;
}

/* While there is somebody who has it, or a child that has `ended` and keeps its number (0: none). */
static void note_leavings(struct keep *k, pid_t ended)
{
	struct job *j = &k->work->job;

	if (j->kind == JOB_SERVICE && k->sandbox < 0)
		j->leavings = leavings_note(j->leavings, k->before, (pid_t)j->group, ended, k->since);
}

int keep_note(struct keep *k)
{
	struct work *w = k->work;
	_cleanup_text_ struct text t = { 0 };
	int r;

	free(w->job.bytes);
	w->job.bytes = w->job.built ? bytes_of(w->image) : NULL;
	for (size_t i = 0; i < w->job.n_dependencies; i++) {
		struct job_dependency *d = &w->job.dependencies[i];

		if (d->direct && !d->path && !d->bytes)
			d->bytes = bytes_of(w->dep_fds[i]);
	}
	note_leavings(k, 0);
	job_encode(&w->job, &t);
	r = lseek(k->note, 0, SEEK_SET) < 0 ? -errno : fd_write_all(k->note, t.data, t.size);
	if (r == 0 && ftruncate(k->note, (off_t)t.size) < 0)
		r = -errno;
	return r < 0 ? work_fail(w, r, "what is to be torn down cannot be noted: %s", strerror(-r)) : 0;
}

/* One that can be waited for, and is left so; 0: there is none. */
static pid_t ended_child(void)
{
	siginfo_t si = { 0 };

	return waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) == 0 ? si.si_pid : 0;
}

static void reap(struct keep *k)
{
	struct signalfd_siginfo info;
	int status;
	pid_t pid;

	while (read(k->signals, &info, sizeof info) > 0)
		;
	while ((pid = ended_child()) > 0) {
		note_leavings(k, pid);
		if (waitpid(pid, &status, WNOHANG) != pid)
			break;
		if (pid == k->main) {
			k->main = 0;
			k->main_status = k->sandbox < 0 ? status : sandbox_status(k->sandbox, status);
		} else if (pid == k->command) {
			k->command = 0;
			k->command_status = status;
		}
	}
}

static bool is_orphan(const struct keep *k)
{
	struct pollfd p = { .fd = k->next_daemon, .events = POLLIN };

	return k->next_daemon >= 0 ? poll(&p, 1, 0) != 0 : getppid() != k->daemon;
}

/* A service manager may hold the other end for the next daemon. */
static bool has_channel(const struct keep *k)
{
	struct pollfd p = { .fd = k->work->channel, .events = POLLRDHUP };

	return poll(&p, 1, 0) == 0;
}

/* Another daemon has us: it reads our log. */
static void hear_daemon(struct keep *k, pid_t pid)
{
	fd_close(k->next_daemon);
	k->next_daemon = process_open(pid);
}

#define DAEMON_MS 100 /* until it is asked again whether it lives */

/* To the daemon, as fast as it reads; to nobody when it is gone for good. */
static void say_all(struct keep *k, const char *data, size_t size)
{
	while (size > 0 && (!is_orphan(k) || has_channel(k))) {
		struct pollfd p = { .fd = k->say, .events = POLLOUT };
		ssize_t n = write(k->say < 0 ? 2 : k->say, data, size);

		if (n > 0) {
			data += n;
			size -= (size_t)n;
		} else if (errno == EAGAIN) {
			poll(&p, 1, DAEMON_MS);
		} else if (errno != EINTR) {
			return;
		}
	}
}

static void pass_on(struct keep *k)
{
	char buf[4096];
	ssize_t n = read(k->output, buf, sizeof buf);

	if (n <= 0)
		k->output = fd_close(k->output);
	else
		say_all(k, buf, (size_t)n);
}

bool keep_has_children(void)
{
	siginfo_t si;

	return waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) == 0;
}

bool keep_wait(struct keep *k, int fd, int ms)
{
	struct pollfd p[] = {
		{ .fd = k->signals, .events = POLLIN }, { .fd = k->work->channel, .events = POLLIN }, { .fd = k->output, .events = POLLIN },
		{ .fd = fd, .events = POLLIN },		{ .fd = k->touch, .events = POLLIN },
	};
	struct job_daemon daemon;
	ssize_t n;

	if (poll(p, ELEMENTSOF(p), ms) < 0)
		return errno == EINTR;
	if (p[0].revents)
		reap(k);
	if (p[2].revents)
		pass_on(k);
	if (p[4].revents)
		touch_read(&k->touch);
	if (!p[1].revents)
		return true;
	n = recv(k->work->channel, &daemon, sizeof daemon, MSG_DONTWAIT);
	if (n == sizeof daemon)
		hear_daemon(k, daemon.pid);
	return n > 0 || (n < 0 && (errno == EINTR || errno == EAGAIN));
}

/* What the daemon would have read: it must not fill the pipe. */
static void drop_log(struct keep *k)
{
	char buf[4096];
	ssize_t n = read(k->log, buf, sizeof buf);

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		k->log = fd_close(k->log);
}

/* The same without a channel, which has ended. */
static void wait_for_children(struct keep *k, int64_t deadline)
{
	/* As long as the daemon lives its log is none of ours; when it dies our channel ends before that is to be seen. */
	bool orphan = is_orphan(k);
	struct pollfd p[] = { { .fd = k->signals, .events = POLLIN },
			      { .fd = k->output, .events = POLLIN },
			      { .fd = orphan ? k->log : -1, .events = POLLIN } };
	int ms = ms_until(deadline);

	if (poll(p, ELEMENTSOF(p), orphan || ms < DAEMON_MS ? ms : DAEMON_MS) < 0)
		return;
	if (p[0].revents)
		reap(k);
	if (p[1].revents)
		pass_on(k);
	if (p[2].revents)
		drop_log(k);
}

static void say(struct keep *k, enum job_message message, int error, const char *sentence)
{
	char packet[sizeof(struct job_result) + JOB_SENTENCE_MAX];
	struct job_result r = { .message = (uint32_t)message, .error = error };

	r.sentence = sentence ? (uint32_t)strnlen(sentence, JOB_SENTENCE_MAX) : 0;
	memcpy(packet, &r, sizeof r);
	if (r.sentence)
		memcpy(packet + sizeof r, sentence, r.sentence);
	/* If nobody listens it is in the note. */
	socket_send(k->work->channel, packet, sizeof r + r.sentence, NULL, 0, 0);
}

/* The daemon reads our log; without one, writing there must neither kill us nor wait. */
static void mend_log(const struct keep *k)
{
	struct pollfd p = { .fd = 2 };
	bool lost = is_orphan(k) || (poll(&p, 1, 0) == 1 && (p.revents & POLLERR));
	int null = lost ? open("/dev/null", O_WRONLY | O_CLOEXEC) : -1;

	if (null < 0)
		return;
	for (int fd = 1; fd <= 2; fd++) {
		if (fd_dup_to(null, fd) < 0)
			close(fd); /* writing fails then, and kills nobody either */
	}
	close(null);
}

/* A process group of its own, which is ended at the time limit. NULL, or what went wrong. */
static char *run_teardown(struct keep *k)
{
	struct work *w = k->work;
	int64_t deadline = deadline_in((int64_t)w->job.teardown_ms);
	pid_t pid = processes_start(w->job.teardown, -1);
	_cleanup_free_ char *how = NULL;
	char limit[32];

	if (pid < 0)
		return xasprintf("its teardown cannot be started: %s", strerror(-pid));
	k->command = pid;
	while (k->command && clock_now() < deadline)
		wait_for_children(k, deadline);
	if (k->command) {
		process_kill(-pid, SIGKILL);
		deadline = deadline_in(KILL_MS);
		while (k->command && clock_now() < deadline)
			wait_for_children(k, deadline);
		format_duration(limit, sizeof limit, (int64_t)w->job.teardown_ms * NSEC_PER_MSEC);
		return xasprintf("its teardown was ended after %s", limit);
	}
	if (!k->command_status)
		return NULL;
	how = work_describe_end(k->command_status);
	return xasprintf("its teardown %s", how);
}

/* First they are asked; then there is no choice. */
static char *end_processes(struct keep *k)
{
	int64_t deadline = deadline_in((int64_t)k->work->job.teardown_ms);
	char limit[32];

	if (!keep_has_children())
		return NULL;
	note_leavings(k, 0);
	processes_signal_children((pid_t)k->work->job.group, (int)stop_signal(&k->work->job));
	while (keep_has_children() && clock_now() < deadline)
		wait_for_children(k, deadline);
	if (!keep_has_children())
		return NULL;
	for (deadline = deadline_in(KILL_MS); keep_has_children() && clock_now() < deadline;) {
		processes_signal_children((pid_t)k->work->job.group, SIGKILL);
		wait_for_children(k, deadline_in(10));
	}
	format_duration(limit, sizeof limit, (int64_t)k->work->job.teardown_ms * NSEC_PER_MSEC);
	return keep_has_children() ? xasprintf("its processes cannot be killed")
				   : xasprintf("its processes did not end within %s of SIG%s and were killed", limit,
					       sigabbrev_np((int)stop_signal(&k->work->job)));
}

/* Whoever needs what we keep is torn down before. When the daemon is there it sees to that, and this is over at once. */
static void wait_for_holders(struct keep *k)
{
	struct pollfd p = { .fd = k->hold[0], .events = POLLIN };
	int64_t deadline = deadline_in(HOLD_MS);

	k->hold[1] = fd_close(k->hold[1]);
	while (k->hold[0] >= 0 && poll(&p, 1, ms_until(deadline)) < 0 && errno == EINTR)
		;
}

/* The daemon removes the directory itself: it may lie where we may not. */
static char *clear_directory(const char *dir)
{
	int r = dir ? tree_remove(dir) : 0;

	return r < 0 && access(dir, F_OK) == 0 && r != -EACCES && r != -EPERM ? xasprintf("%s cannot be removed: %s", dir, strerror(-r))
									      : NULL;
}

/* Of two complaints the first explains the second. */
static void complain(char **first, char *wrong)
{
	if (wrong && !*first)
		*first = wrong;
	else
		free(wrong);
}

static char *tear_down(struct keep *k)
{
	char *wrong = NULL;

	mend_log(k);
	if (k->work->job.built && k->work->job.teardown)
		wrong = run_teardown(k);
	complain(&wrong, end_processes(k));
	leavings_remove(k->work->job.leavings);
	complain(&wrong, clear_directory(k->work->job.dir));
	complain(&wrong, clear_directory(k->work->job.view));
	if (ftruncate(k->note, 0) < 0)
		complain(&wrong, xasprintf("the note cannot be cleared: %s", strerror(errno)));
	return wrong;
}

static const char *noun(const struct keep *k)
{
	return k->work->job.ready_by == JOB_READY_CHECKPOINT ? "process" : "service";
}

static bool is_over(const struct keep *k)
{
	const struct job *j = &k->work->job;

	if (j->kind != JOB_SERVICE || k->main)
		return false;
	/* A service that has gone into the background lives on in its descendants; those of a template are none. */
	return k->main_status || j->ready_by == JOB_READY_CHECKPOINT || !keep_has_children();
}

/* How often it is looked what a service in a sandbox takes: soon after its start, and then less and less often. */
#define SAMPLE_MIN 250
#define SAMPLE_MAX 32000

struct sampling {
	int ms;
	int64_t next; /* clock_now() */
	uint64_t told;
};

bool keep_is_measured(const struct keep *k)
{
	return k->work->job.sandboxed || k->work->job.ready_by == JOB_READY_CHECKPOINT;
}

uint64_t keep_usage(const struct keep *k)
{
	const struct job *j = &k->work->job;
	/* The forks of a template are their callers'. */
	bool alone = j->ready_by == JOB_READY_CHECKPOINT;
	uint64_t bytes = (alone ? usage_of_template(k->main) : usage_of_descendants()) + usage_of_tree(j->dir);

	if (k->sandbox >= 0)
		return bytes + sandbox_files(k->main);
	return j->view ? bytes + usage_of_tree(j->view) : bytes;
}

/* What it takes now is told when it has changed much. True: that is more than it may. */
static bool takes_too_much(struct keep *k, struct sampling *s)
{
	const struct work *w = k->work;
	struct job_result r = { .message = JOB_USED };

	if (!keep_is_measured(k) || !k->main || clock_now() < s->next)
		return false;
	s->ms = s->ms < SAMPLE_MAX ? s->ms * 2 : SAMPLE_MAX;
	s->next = deadline_in(s->ms);
	r.size = w->space.used + keep_usage(k);
	if (r.size > s->told + s->told / 8 || r.size < s->told - s->told / 8) {
		s->told = r.size;
		socket_send(w->channel, &r, sizeof r, NULL, 0, 0);
	}
	return r.size > w->job.limit;
}

/* A template that is stale goes on for those who have forks of it. NULL: it is not. */
static char *stopping(const struct keep *k)
{
	_cleanup_text_ struct text status = { 0 };

	if (!(notify_read(k->notify, &status) & NOTIFY_STOPPING))
		return NULL;
	return status.size ? xstrndup(status.data, status.size - 1) : xasprintf("its %s is stopping", noun(k));
}

_Noreturn void keep_on(struct keep *k)
{
	_cleanup_free_ char *how = NULL, *died = NULL, *wrong = NULL;
	struct sampling s = { .ms = SAMPLE_MIN, .next = deadline_in(SAMPLE_MIN), .told = k->work->other_bytes };
	bool open = true, watched = k->main != 0;
	char limit[32];

	k->hold[1] = fd_close(k->hold[1]);
	if (k->unclean)
		say(k, JOB_UNCLEAN, 0, k->unclean);
	while (open && !is_over(k) && !died) {
		open = keep_wait(k, k->notify, keep_is_measured(k) ? ms_until(s.next) : -1);
		died = k->notify >= 0 ? stopping(k) : NULL;
		if (takes_too_much(k, &s)) {
			format_size(limit, sizeof limit, k->work->job.limit);
			died = xasprintf("its %s takes more memory than memory-max allows (%s), with the files that it has written",
					 noun(k), limit);
			processes_signal_children((pid_t)k->work->job.group, SIGKILL);
		}
		if (watched && !k->main && !is_over(k)) {
			say(k, JOB_AWAY, 0, NULL);
			watched = false;
		}
	}
	if (open) {
		how = work_describe_end(k->main_status);
		died = died ? died : xasprintf("its %s %s", noun(k), how);
		say(k, JOB_DIED, 0, died);
		/* What depends on it is torn down first: then the daemon closes the channel. */
		while (keep_wait(k, -1, -1))
			;
	}
	if (k->touch >= 0)
		touch_read(&k->touch);
	if (k->touch >= 0)
		say(k, JOB_UNTOUCHED, 0, NULL);
	k->touch = fd_close(k->touch);
	wait_for_holders(k);
	wrong = tear_down(k);
	say(k, JOB_ENDED, wrong ? -EIO : 0, wrong);
	_exit(EXIT_SUCCESS);
}

/* --keep NOTE HOLD [OTHERS' HOLDS...]: descriptors that go on to the new program. */
_Noreturn void keep_anew(struct keep *k)
{
	const struct work *w = k->work;
	size_t n = 0;
	char **argv = xcalloc(5 + w->job.holds, sizeof *argv);
	int fd;

	argv[n++] = xstrdup("fixd-builder");
	argv[n++] = xstrdup("--keep");
	for (size_t i = 0; i < 2 + w->job.holds; i++) {
		fd = i == 0 ? k->note : i == 1 ? k->hold[0] : w->holds[i - 2];
		fd_set_cloexec(fd, false);
		argv[n++] = xasprintf("%d", fd);
	}
	fd_set_cloexec(w->channel, false);
	/* So that a teardown is run as any other command is. What is ignored would stay so. */
	for (int number = 1; number < SIGRTMIN; number++) {
		if (number != SIGTERM && number != SIGPIPE)
			signal(number, SIG_DFL);
	}
	umask(w->umask);
	if (chdir(w->job.root) < 0)
		fprintf(stderr, "fixd-builder: %s cannot be entered: %s\n", w->job.root, strerror(errno));
	execv("/proc/self/exe", argv);
	fprintf(stderr, "fixd-builder cannot be started anew: %s\n", strerror(errno));
	keep_on(k);
}

static int read_note(int fd, struct job *j)
{
	struct stat st;
	char *data;
	ssize_t n;
	int r;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size == 0 || st.st_size > JOB_NOTE_MAX)
		return st.st_size ? -EFBIG : -ENODATA;
	data = xcalloc(1, (size_t)st.st_size);
	n = fd_pread_all(fd, data, (size_t)st.st_size, 0);
	r = n < 0 ? (int)n : job_decode(data, (size_t)n, j);
	free(data);
	return r;
}

_Noreturn void keep_resume(char **argv)
{
	struct work w = { .channel = JOB_CHANNEL_FD, .image = -1 };
	struct keep k = KEEP_EMPTY;
	int fds[2] = { -1, -1 };
	uint64_t fd;

	for (size_t i = 0; argv[2 + i]; i++) {
		if (parse_u64(argv[2 + i], 10, INT32_MAX, &fd) < 0 || fd_set_cloexec((int)fd, true) < 0)
			_exit(2);
		if (i < ELEMENTSOF(fds))
			fds[i] = (int)fd;
	}
	fd_set_cloexec(w.channel, true);
	prctl(PR_SET_NAME, "fixd-builder");
	w.note = fds[0];
	if (read_note(w.note, &w.job) < 0 || keep_begin(&k, &w) < 0)
		_exit(2);
	close(k.hold[0]);
	k.hold[0] = fds[1];
	keep_on(&k);
}

void keep_abandon(struct keep *k)
{
	_cleanup_free_ char *wrong = NULL;

	k->work->job.built = false;
	wrong = tear_down(k);
	if (wrong)
		fprintf(stderr, "%s\n", wrong);
}

/* Their environment says whose they are, and which process group is theirs. */
static char *end_leftovers(const struct job *j)
{
	const int signals[] = { (int)stop_signal(j), SIGKILL };

	for (size_t i = 0; i < ELEMENTSOF(signals); i++) {
		int64_t deadline = deadline_in(i == 0 ? (int64_t)j->teardown_ms : KILL_MS);

		for (size_t n = 1; n && clock_now() < deadline;)
			n = processes_signal_marked(j->token, (pid_t)j->group, signals[i], ms_until(deadline));
	}
	return processes_signal_marked(j->token, (pid_t)j->group, 0, 0) ? xasprintf("its processes cannot be killed") : NULL;
}

/* The dependencies as far as they were noted. */
static void export_noted(struct work *w)
{
	w->dep_fds = xcalloc(w->job.n_dependencies, sizeof *w->dep_fds);
	for (size_t i = 0; i < w->job.n_dependencies; i++) {
		const struct job_dependency *d = &w->job.dependencies[i];

		w->dep_fds[i] = d->bytes ? memfd_from_bytes("fixd:note", d->bytes, strlen(d->bytes)) : -1;
		if (d->direct && (d->path || w->dep_fds[i] >= 0))
			work_export(d->name, "FIXD_DEP_", d->path, w->dep_fds[i]);
	}
	w->image = w->job.bytes ? memfd_from_bytes("fixd:note", w->job.bytes, strlen(w->job.bytes)) : -1;
	if (w->job.tree || w->image >= 0)
		work_export("", "FIXD_VALUE", w->job.tree, w->image);
}

int keep_reap(struct work *w)
{
	struct keep k = KEEP_EMPTY;
	_cleanup_free_ char *wrong = NULL;
	int r;

	/* Its helper may still be at it. */
	if (flock(w->note, LOCK_EX) < 0)
		return work_fail(w, -errno, "the note cannot be locked: %s", strerror(errno));
	job_deinit(&w->job);
	r = read_note(w->note, &w->job);
	if (r == -ENODATA)
		return 0;
	if (r < 0)
		return work_fail(w, r, "the note cannot be read: %s", strerror(-r));
	r = keep_begin(&k, w);
	if (r < 0)
		return r;
	work_set_environment(&w->job);
	export_noted(w);
	if (w->job.built && w->job.teardown)
		wrong = chdir(w->job.root) < 0 ? xasprintf("%s cannot be entered: %s", w->job.root, strerror(errno)) : run_teardown(&k);
	complain(&wrong, end_leftovers(&w->job));
	leavings_remove(w->job.leavings);
	complain(&wrong, clear_directory(w->job.dir));
	complain(&wrong, clear_directory(w->job.view));
	if (ftruncate(k.note, 0) < 0)
		complain(&wrong, xasprintf("the note cannot be cleared: %s", strerror(errno)));
	return wrong ? work_fail(w, -EIO, "%s", wrong) : 0;
}
