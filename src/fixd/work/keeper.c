/* SPDX-License-Identifier: MIT */
#include "fixd/work/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/process.h"
#include "base/text.h"
#include "config/config.h"
#include "config/identity.h"
#include "fixd/host/port.h"
#include "fixd/host/spawn.h"
#include "fixd/model/image.h"
#include "fixd/model/instance.h"
#include "fixd/model/session.h"
#include "fixd/work/recovery.h"
#include "fixd/work/trees.h"
#include "fixd/work/work.h"
#include "image/memfd.h"
#include "wire/job.h"
#include "wire/socket.h"

/* Beyond its own limits, for what it does besides. */
#define GRACE (20 * NSEC_PER_SEC)
#define SAID_MAX ((size_t)4096)
#define LEFTOVER_TIME (600 * NSEC_PER_SEC)

bool keeper_is_needed(const struct fixture *f)
{
	return source_keeps_running(f->source) || f->teardown;
}

static void on_keeper_limit(void *arg);
static void keeper_tell(void *arg);
static void not_explained(void *arg);

static struct keeper *keeper_new(struct work *w, const char *title)
{
	struct keeper *k = xcalloc(1, sizeof *k);

	k->work = w;
	k->title = xstrdup(title);
	k->service = k->hold = -1;
	timer_init(&k->limit, on_keeper_limit, k);
	deferred_init(&k->telling, keeper_tell, k);
	timer_init(&k->explaining, not_explained, k);
	link_insert(&w->keepers, &k->link);
	account_add_keeper(w->model);
	return k;
}

static void close_sources(struct keeper *k)
{
	k->process = source_close(k->process);
	k->channel = source_close(k->channel);
	k->errors = source_close(k->errors);
	timer_stop(&k->limit);
}

static void keeper_free(struct keeper *k)
{
	struct work *w = k->work;
	struct recovery *from = k->from;

	close_sources(k);
	deferred_cancel(&k->telling);
	timer_stop(&k->explaining);
	link_remove(&k->link);
	account_remove_keeper(w->model);
	port_give_back(k->port);
	fd_close(k->service);
	fd_close(k->hold);
	free(k->title);
	free(k->user);
	free(k->note);
	free(k->token);
	free(k->dir);
	free(k->view);
	free(k->died);
	free(k->wrong);
	text_deinit(&k->said);
	model_changed(w->model);
	free(k);
	if (from)
		recovery_continue(from);
	loop_defer(w->model->loop, &w->ended);
}

/* Nothing is left to tear down: the note, the directory and the port go. */
static void keeper_clear(struct keeper *k)
{
	int r = k->note ? fd_unlink(k->note) : 0;

	if (k->dir)
		trees_discard(k->work, k->dir);
	if (k->view)
		trees_discard(k->work, k->view);
	if (r < 0 && r != -ENOENT)
		log_warn(r, "%s: cannot remove %s", k->title, k->note);
}

static char *make_token(void)
{
	uint64_t random[2] = { (uint64_t)clock_real(), (uint64_t)getpid() };

	if (getrandom(random, sizeof random, 0) < 0)
		log_debug("no random numbers: %s", strerror(errno));
	return xasprintf("%016llx%016llx", (unsigned long long)random[0], (unsigned long long)random[1]);
}

struct keeper *keeper_prepare(struct instance *i, char **wrong)
{
	const struct fixture *f = i->fixture;
	struct work *w = i->session->model->work;
	struct keeper *k = keeper_new(w, i->title);
	int r = trees_note(w, f->name, f->user, &k->note);

	k->user = f->user ? xstrdup(f->user) : NULL;
	k->token = make_token();
	k->time = f->policy.teardown_timeout;
	if (r == 0 && source_keeps_running(f->source))
		r = trees_make(w, f->name, f->user, &k->dir);
	if (r == 0 && f->data)
		r = trees_make(w, f->name, f->user, &k->view);
	if (r < 0)
		*wrong = xasprintf("no directory for what it needs on a tmpfs: %s", strerror(-r));
	else if (f->source == SOURCE_SERVICE && !(k->port = port_take()))
		*wrong = xstrdup("no TCP port is free for it");
	else
		return k;
	keeper_clear(k);
	keeper_free(k);
	return NULL;
}

int keeper_open_note(const struct keeper *k)
{
	int fd = open(k->note, O_RDWR | O_CLOEXEC | O_NOFOLLOW);

	return fd < 0 ? -errno : fd;
}

/* What another one would have to do. */
static bool has_note(const struct keeper *k)
{
	struct stat st;

	return k->note && stat(k->note, &st) == 0 && st.st_size > 0;
}

static void keeper_finish(struct keeper *k)
{
	struct image *im = k->image;
	struct instance *i = im ? im->instance : NULL;

	if (k->wrong) {
		log_warn(0, "%s: %s", k->title, k->wrong);
		k->work->model->teardown_failures++;
	} else {
		log_write(i ? instance_log_level(i) : LOG_LEVEL_INFO, 0, "%s: torn down", k->title);
	}
	if (i)
		instance_torn_down(i, k->wrong);
	if (im)
		im->teardown_error = k->wrong ? xstrdup(k->wrong) : NULL;
	if (k->on_end)
		k->on_end(k->on_end_arg, k->title, k->wrong);
	k->on_end = NULL;
	k->image = NULL;
	if (im) {
		im->kept_by = NULL;
		im->died = NULL;
	}
	keeper_clear(k);
	keeper_free(k);
	image_unref(im);
}

/* Another one takes its place, if something is left to do. */
static void reap_or_finish(struct keeper *k);

/* Somebody may write without end: after so much others have their turn. A pipe holds 16 pages. */
#define READS_PER_TURN 16

static void take_log(void *arg)
{
	struct keeper *k = arg;
	char buf[4096];
	ssize_t n = 1;

	for (int i = 0; i < READS_PER_TURN && (n = read(source_fd(k->errors), buf, sizeof buf)) > 0; i++) {
		if (k->image && k->image->instance)
			instance_log(k->image->instance, buf, (size_t)n);
		if (k->ending)
			text_add_and_forget(&k->said, buf, (size_t)n, SAID_MAX);
	}
	if (n == 0)
		k->errors = source_close(k->errors);
	else if (n > 0)
		source_again(k->errors);
}

/* Not from inside of what is going on: whoever asks is in the middle of something. */
static void keeper_tell(void *arg)
{
	struct keeper *k = arg;

	if (k->image && k->image->instance)
		instance_service_died(k->image->instance, k->image, k->died);
}

static void keeper_mark_died(struct keeper *k, char *sentence)
{
	if (k->died || k->ending) {
		free(sentence);
		return;
	}
	k->died = sentence;
	if (k->image)
		k->image->died = sentence;
	loop_defer(k->work->model->loop, &k->telling);
}

/* With the last of what it said, which has come by now: it was written before. Takes `sentence`. */
static void keeper_fail(struct keeper *k, char *sentence)
{
	struct text t = { 0 };

	if (k->errors)
		take_log(k);
	text_add_with_last_lines(&t, sentence, &k->said);
	free(sentence);
	free(k->wrong);
	k->wrong = text_steal(&t);
}

/* The first process of the service has ended, and left the work to others. */
static void goes_on(struct keeper *k)
{
	k->service = fd_close(k->service);
	if (!timer_is_running(&k->explaining))
		return;
	timer_stop(&k->explaining);
	if (k->image && k->image->instance && k->image->instance->current == k->image)
		instance_compared(k->image->instance, true, NULL);
}

static void take_message(struct keeper *k, const char *message, size_t size)
{
	struct job_result r;
	size_t length = size - sizeof r;
	char *sentence;

	memcpy(&r, message, sizeof r);
	sentence = xstrndup(message + sizeof r, length < JOB_SENTENCE_MAX ? length : JOB_SENTENCE_MAX);
	if (r.message == JOB_DIED) {
		keeper_mark_died(k, sentence);
		return;
	}
	if (r.message == JOB_USED && k->image)
		image_recount(k->image, r.size < k->work->model->config->memory_max ? r.size : k->work->model->config->memory_max);
	if (r.message == JOB_UNCLEAN && k->image && k->image->instance)
		instance_data_unclean(k->image->instance, sentence);
	if (r.message == JOB_UNTOUCHED && k->image && k->image->instance)
		instance_data_untouched(k->image->instance, k->image);
	if (r.message == JOB_AWAY)
		goes_on(k);
	if ((r.message == JOB_ENDED || (r.message == JOB_RESULT && k->reaping)) && !k->reported) {
		k->reported = true;
		if (r.error) {
			keeper_fail(k, sentence);
			return;
		}
	}
	free(sentence);
}

/* False: nothing is left, or it is closed. */
static bool read_some(struct keeper *k)
{
	char message[sizeof(struct job_result) + JOB_SENTENCE_MAX];

	for (int i = 0; i < READS_PER_TURN; i++) {
		size_t none = 0;
		ssize_t n = socket_receive(source_fd(k->channel), message, sizeof message, NULL, &none, MSG_DONTWAIT);

		if (n == -EAGAIN)
			return false;
		if (n < 0 && is_passing((int)n))
			break;
		if (n <= 0) {
			k->channel = source_close(k->channel);
			return false;
		}
		if (n >= (ssize_t)sizeof(struct job_result))
			take_message(k, message, (size_t)n);
	}
	return k->channel != NULL;
}

static void keeper_read_channel(void *arg)
{
	struct keeper *k = arg;

	if (read_some(k))
		source_again(k->channel);
}

/* More than it can have said; somebody else may still have the other end. */
#define READS_AT_ITS_END 16

static void on_keeper_exit_of(void *arg)
{
	struct keeper *k = arg;
	siginfo_t status = { 0 };

	/* That of a daemon that was killed is not our child: its end is all there is to know. */
	spawn_reap(k->pid, &status);
	process_kill(-k->pid, SIGKILL);
	for (int i = 0; k->channel && i < READS_AT_ITS_END && read_some(k); i++)
		;
	if (k->errors)
		take_log(k);
	k->pid = 0;
	close_sources(k);
	/* Otherwise what is left is done when those who hold the image have let go, which may be at once. */
	if (k->ending)
		reap_or_finish(k);
	else
		keeper_mark_died(k, xstrdup("its keeper was killed"));
}

static void on_keeper_limit(void *arg)
{
	struct keeper *k = arg;

	free(k->wrong);
	k->wrong = xstrdup("its teardown took too long and was given up");
	if (k->pid > 0)
		process_kill(-k->pid, SIGKILL);
}

/* The time of the command, that of the processes, and some more. */
static void start_limit(struct keeper *k)
{
	timer_start_in(k->work->model->loop, &k->limit, 2 * k->time + GRACE);
}

void keeper_begin(struct keeper *k, const struct helper *h, struct image *im)
{
	k->pid = h->pid;
	k->process = source_redirect(h->process, on_keeper_exit_of, k);
	k->channel = source_redirect(h->channel, keeper_read_channel, k);
	k->errors = source_redirect(h->errors, take_log, k);
	k->hold = h->hold;
	k->service_pid = h->service;
	k->service = h->service > 0 ? process_open(h->service) : -1;
	model_changed(k->work->model);
	k->image = im;
	if (im)
		im->kept_by = k;
	else
		keeper_end(k);
}

void keeper_end(struct keeper *k)
{
	if (k->ending)
		return;
	k->ending = true;
	/* The manager's copy goes, too: its helper waits for that. */
	k->hold = fd_close(k->hold);
	model_changed(k->work->model);
	if (k->pid == 0) {
		reap_or_finish(k);
		return;
	}
	log_debug("%s: is being torn down", k->title);
	/* Where it cannot be half closed, what it says in the end is not heard; the note tells whether something is left. */
	if (k->channel && shutdown(source_fd(k->channel), SHUT_WR) < 0 && errno != ENOTCONN)
		k->channel = source_close(k->channel);
	start_limit(k);
}

/* How long a helper may take to say what the end of the service's first process means. */
#define EXPLAIN (NSEC_PER_SEC)

static void not_explained(void *arg)
{
	keeper_mark_died(arg, xstrdup("its service has ended"));
}

bool keeper_is_dying(struct keeper *k)
{
	struct pollfd service = { .fd = k->service, .events = POLLIN };

	if (k->died || k->ending || poll(&service, 1, 0) <= 0)
		return false;
	if (k->channel)
		keeper_read_channel(k);
	if (!k->channel)
		not_explained(k);
	/* It was only the first process. */
	if (k->service < 0)
		return false;
	if (!k->died && !timer_is_running(&k->explaining))
		timer_start_in(k->work->model->loop, &k->explaining, EXPLAIN);
	return !k->died;
}

/* A new helper with the note. 0 or -errno. */
static int start_reaper(struct keeper *k)
{
	struct work *w = k->work;
	_cleanup_free_ char *none = xstrdup(""), *title = xstrdup(k->title);
	struct job j = { .kind = JOB_REAP, .name = title, .source = none, .root = w->model->config->root, .kept = true };
	_cleanup_text_ struct text message = { 0 };
	struct spawned child;
	int fds[2], r;
	_cleanup_fd_ int job = -1, note = keeper_open_note(k);

	if (note < 0)
		return note;
	job_encode(&j, &message);
	job = memfd_from_bytes("fixd:job", message.data, message.size);
	r = job < 0 ? job : spawn_helper(k->user, 0, &child);
	if (r < 0)
		return r;
	k->pid = child.pid;
	k->process = loop_watch(w->model->loop, child.pidfd, on_keeper_exit_of, k);
	k->errors = loop_watch(w->model->loop, child.errors, take_log, k);
	k->channel = loop_watch(w->model->loop, child.channel, keeper_read_channel, k);
	k->reaping = k->ending = true;
	k->reported = false;
	start_limit(k);
	fds[0] = job;
	fds[1] = note;
	r = socket_send(child.channel, &message.size, sizeof message.size, fds, 2, MSG_DONTWAIT);
	if (r < 0)
		process_kill(-k->pid, SIGKILL);
	return 0;
}

static void reap_or_finish(struct keeper *k)
{
	int r = 0;

	if (!k->reaping && !k->reported && has_note(k) && (r = start_reaper(k)) == 0)
		return;
	if (r < 0 && !k->wrong)
		k->wrong = xasprintf("it cannot be torn down: %s", strerror(-r));
	if (k->reaping && !k->reported && !k->wrong)
		k->wrong = xstrdup("what tears it down was killed");
	keeper_finish(k);
}

void keeper_drop(struct keeper *k)
{
	if (has_note(k)) {
		reap_or_finish(k);
		return;
	}
	keeper_clear(k);
	keeper_free(k);
}

bool keeper_reap(struct work *w, const char *note, struct recovery *from)
{
	struct keeper *k;
	const struct identity *id = NULL;
	struct stat st;

	if (stat(note, &st) < 0 || st.st_size == 0)
		return false;
	/* What it says was written by its owner, and is done as its owner. */
	if (st.st_uid != geteuid() && !(id = identity_of_uid(st.st_uid))) {
		log_warn(0, "%s belongs to nobody who is known here: it is not torn down", note);
		return false;
	}
	k = keeper_new(w, strrchr(note, '/') + 1);
	k->user = id ? xstrdup(id->user) : NULL;
	k->note = xstrdup(note);
	k->from = from;
	/* How long it may really take is in the note. */
	k->time = LEFTOVER_TIME;
	log_warn(0, "a daemon that was killed has left something behind: tearing down %s", k->title);
	keeper_drop(k);
	return true;
}

void keeper_note_fds(struct keeper *k)
{
	k->channel_fd = k->channel ? source_fd(k->channel) : -1;
	k->errors_fd = k->errors ? source_fd(k->errors) : -1;
}

/* A keeper that cannot be watched must not live beside the one that takes its place. */
static int watch_or_kill(const struct keeper *k)
{
	int fd = k->pid > 0 ? process_open(k->pid) : -ESRCH;

	if (fd < 0 && k->pid > 0 && process_is_child(k->pid)) {
		log_warn(fd, "%s: its keeper cannot be watched, and is killed", k->title);
		process_kill(-k->pid, SIGKILL);
		waitpid(k->pid, NULL, 0);
	}
	return fd;
}

/* The store was full: nobody would read what it says, and it would wait for that. */
static int find_log(pid_t pid)
{
	_cleanup_free_ char *path = xasprintf("/proc/%d/fd/2", (int)pid);
	struct stat st;
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd >= 0 && (fstat(fd, &st) < 0 || !S_ISFIFO(st.st_mode)))
		fd = fd_close(fd);
	return fd;
}

/* It does not depend on that: what it says at its end may be lost. */
static void introduce(const struct keeper *k)
{
	struct job_daemon daemon = { .pid = getpid() };

	socket_send(k->channel_fd, &daemon, sizeof daemon, NULL, 0, MSG_DONTWAIT);
}

void keeper_resume(struct work *w, struct keeper *k)
{
	int pidfd = watch_or_kill(k);

	k->work = w;
	link_init(&k->link);
	link_insert(&w->keepers, &k->link);
	account_add_keeper(w->model);
	timer_init(&k->limit, on_keeper_limit, k);
	deferred_init(&k->telling, keeper_tell, k);
	timer_init(&k->explaining, not_explained, k);
	k->service = k->service_pid > 0 ? process_open(k->service_pid) : -1;
	k->channel = k->channel_fd >= 0 ? loop_watch(w->model->loop, k->channel_fd, keeper_read_channel, k) : NULL;
	if (k->channel && pidfd >= 0 && k->errors_fd < 0)
		k->errors_fd = find_log(k->pid);
	k->errors = k->errors_fd >= 0 ? loop_watch(w->model->loop, k->errors_fd, take_log, k) : NULL;
	if (k->channel && !k->ending)
		introduce(k);
	port_keep(k->port);
	if (pidfd >= 0)
		k->process = loop_watch(w->model->loop, pidfd, on_keeper_exit_of, k);
	else
		k->pid = 0;
	if (k->ending && k->pid > 0)
		start_limit(k);
	else if (k->ending)
		reap_or_finish(k);
	else if (!k->image)
		keeper_drop(k); /* of a build that has gone with its daemon */
	else if (k->died)
		loop_defer(w->model->loop, &k->telling);
	else if (k->pid == 0)
		keeper_mark_died(k, xstrdup("its keeper was killed"));
}

void keepers_abandon(struct work *w)
{
	link_for_each_safe(l, &w->keepers) {
		struct keeper *k = link_entry(l, struct keeper, link);

		if (k->pid > 0) {
			process_kill(-k->pid, SIGKILL);
			waitpid(k->pid, NULL, 0);
		}
		if (k->image) {
			k->image->kept_by = NULL;
			k->image->died = NULL;
		}
		/* Its end held it. */
		if (k->image && k->ending)
			image_unref(k->image);
		keeper_free(k);
	}
}
