/* SPDX-License-Identifier: MIT */
#include "fixd/keep/fdstore.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/text.h"
#include "base/units.h"
#include "fixd/host/activation.h"
#include "fixd/host/notify.h"
#include "fixd/keep/keep.h"
#include "fixd/keep/state.h"
#include "fixd/loop/loop.h"
#include "fixd/model/image.h"
#include "fixd/model/model.h"
#include "fixd/serve/conn.h"
#include "image/digest.h"
#include "image/memfd.h"
#include "wire/record.h"
#include "wire/state.h"

#define STATE_SIZE_MAX (UINT64_C(1) << 30)
#define QUIESCE (2 * NSEC_PER_SEC)
/* What takes less is written in every turn in which something has changed; of the time what takes more has a part, at most. */
#define SAVING_QUICK NSEC_PER_MSEC
#define SAVING_SHARE 50

/* At the start of the state's file: where the valid one lies. Written last, and in one piece. */
struct head {
	uint64_t offset, size;
	struct digest digest;
	uint64_t number;
};

/* Behind it: who has begun or ceased to hold something of the state `number` since that was written. */
struct hold {
	uint64_t number, serial;
	uint32_t pid, holds;
};

#define HOLDS_START 256
#define DATA_START 4096
#define HOLDS_MAX ((DATA_START - HOLDS_START) / sizeof(struct hold))

/* What the manager has of ours. */
struct stored {
	int fd;
	dev_t dev;
	ino_t ino;
};

struct fdstore {
	struct keep *keep;
	int file;
	struct head head;
	struct stored *all; /* by their numbers */
	size_t n, n_holds;
	int64_t next; /* clock_now(): all of it is not written before */
	struct timer later;
};

static bool fdstore_is_wanted(void)
{
	const char *max = getenv("FDSTORE");
	uint64_t n;

	return max && parse_u64(max, 10, INT32_MAX, &n) == 0 && n > 0 && getenv("NOTIFY_SOCKET");
}

static int fdstore_resolve(void *arg, int number)
{
	_cleanup_free_ char *name = xasprintf(STORED_FD "%d", number);

	(void)arg;
	return activation_take(name);
}

static void remove_from_store(const char *name)
{
	notify_send("FDSTOREREMOVE=1\nFDNAME=%s", name);
}

/* As if they were part of the state. */
static void read_holds(int fd, uint64_t number, struct text *out)
{
	struct hold all[HOLDS_MAX];
	size_t mark;

	if (!number || fd_pread_all(fd, all, sizeof all, HOLDS_START) != (ssize_t)sizeof all)
		return;
	for (size_t k = 0; k < HOLDS_MAX && all[k].number == number; k++) {
		mark = record_begin(out, all[k].holds ? STATE_HOLDER : STATE_LET_GO, RECORD_OBJECT);
		record_u64(out, STATE_SERIAL, all[k].serial);
		record_u64(out, STATE_PID, all[k].pid);
		record_end(out, mark);
	}
}

static int read_state(int fd, struct text *out)
{
	struct head h;
	struct stat st;

	if (fstat(fd, &st) < 0 || fd_pread_all(fd, &h, sizeof h, 0) != (ssize_t)sizeof h)
		return -EBADMSG;
	if (h.size > STATE_SIZE_MAX || h.offset < DATA_START || h.offset > (uint64_t)st.st_size || h.size > (uint64_t)st.st_size - h.offset)
		return -EBADMSG;
	out->data = xcalloc(1, h.size + 1);
	out->size = h.size;
	out->room = h.size + 1;
	if (fd_pread_all(fd, out->data, h.size, (off_t)h.offset) != (ssize_t)h.size ||
	    !digest_equal(digest_bytes(out->data, h.size), h.digest))
		return -EBADMSG;
	read_holds(fd, h.number, out);
	return 0;
}

int fdstore_resume(struct keep *keep)
{
	_cleanup_fd_ int fd = activation_take(STORED_STATE);
	_cleanup_text_ struct text records = { 0 };
	int r;

	if (fd < 0) {
		activation_forget(STORED_FD, remove_from_store);
		return 0;
	}
	/* Not twice: what cannot be gone on with must not be the end of every daemon to come. */
	notify_send("FDSTOREREMOVE=1\nFDNAME=" STORED_STATE);
	r = read_state(fd, &records);
	if (r == 0)
		r = state_load(keep, records.data, records.size, fdstore_resolve, NULL);
	if (r < 0)
		log_error(r, "what the service manager has kept is of no use: starting afresh");
	activation_forget(STORED_FD, remove_from_store);
	/* Locks go with the last copy. */
	if (r < 0)
		notify_barrier();
	return r;
}

static int write_state(struct fdstore *s, const struct text *records, uint64_t number)
{
	struct head h = { .size = records->size, .digest = digest_bytes(records->data, records->size), .number = number };
	ssize_t n;

	/* Not over the one that is valid until the head is written. */
	h.offset = s->head.offset >= DATA_START + h.size ? DATA_START : s->head.offset + s->head.size;
	if (h.offset < DATA_START)
		h.offset = DATA_START;
	for (size_t done = 0; done < h.size; done += (size_t)n) {
		n = pwrite(s->file, records->data + done, h.size - done, (off_t)(h.offset + done));
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
	}
	if (pwrite(s->file, &h, sizeof h, 0) != (ssize_t)sizeof h)
		return -errno;
	s->head = h;
	s->n_holds = 0;
	return 0;
}

static struct stored identity(int fd)
{
	struct stored s = { .fd = fd };
	struct stat st;

	if (fstat(fd, &st) == 0) {
		s.dev = st.st_dev;
		s.ino = st.st_ino;
	}
	return s;
}

static int stored_by_fd(const void *a, const void *b)
{
	const struct stored *x = a, *y = b;

	return x->fd < y->fd ? -1 : x->fd > y->fd;
}

/* The one with that number, or NULL. */
static const struct stored *find_number(const struct stored *all, size_t n, const struct stored *one)
{
	return n ? bsearch(one, all, n, sizeof *all, stored_by_fd) : NULL;
}

static bool has(const struct stored *all, size_t n, const struct stored *one)
{
	const struct stored *found = find_number(all, n, one);

	return found && found->dev == one->dev && found->ino == one->ino;
}

/* Of what is gone: those whose number is another file's now, or the others. */
static void remove_gone(const struct fdstore *s, const struct stored *now, size_t n, bool taken_again)
{
	for (size_t i = 0; i < s->n; i++) {
		if (!has(now, n, &s->all[i]) && (find_number(now, n, &s->all[i]) != NULL) == taken_again)
			notify_send("FDSTOREREMOVE=1\nFDNAME=" STORED_FD "%d", s->all[i].fd);
	}
}

/* What others do meanwhile is not ours. */
static int64_t cpu_now(void)
{
	struct timespec t;

	return clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) < 0 ? 0 : t.tv_sec * NSEC_PER_SEC + t.tv_nsec;
}

/* What a state names is there before it, and goes after it. */
static int save(struct fdstore *s, bool clients)
{
	int64_t began = cpu_now(), took;
	struct stored *now;
	struct state state;
	uint64_t number;
	size_t n;
	int r;

	deferred_cancel(&s->keep->model->changed);
	timer_stop(&s->later);
	number = state_save(s->keep, clients ? STATE_FOR_FAREWELL : STATE_FOR_STORE, &state);
	n = state.n_fds;
	now = xcalloc(n, sizeof *now);
	for (size_t i = 0; i < n; i++)
		now[i] = identity(state.fds[i]);
	if (n)
		qsort(now, n, sizeof *now, stored_by_fd);
	remove_gone(s, now, n, true);
	for (size_t i = 0; i < n; i++) {
		if (!has(s->all, s->n, &now[i]))
			notify_send_fd(now[i].fd, "FDSTORE=1\nFDPOLL=0\nFDNAME=" STORED_FD "%d", now[i].fd);
	}
	r = write_state(s, &state.records, number);
	remove_gone(s, now, n, false);
	free(s->all);
	s->all = now;
	s->n = n;
	state_deinit(&state);
	if (r < 0)
		log_error(r, "the state for the service manager cannot be written");
	took = cpu_now() - began;
	s->next = took < SAVING_QUICK ? 0 : clock_now() + SAVING_SHARE * took;
	return r;
}

void fdstore_save(void *arg)
{
	struct keep *keep = arg;
	struct fdstore *s = keep->fdstore;

	if (s && clock_now() < s->next)
		timer_start(keep->model->loop, &s->later, s->next);
	else if (s)
		save(s, false);
}

void fdstore_hold(void *arg, const struct image *im, pid_t pid, bool holds)
{
	struct keep *keep = arg;
	struct fdstore *s = keep->fdstore;
	struct hold h;

	if (!s)
		return;
	h = (struct hold){ s->head.number, im->serial, (uint32_t)pid, holds };
	if (im->saved == h.number && s->n_holds < HOLDS_MAX &&
	    pwrite(s->file, &h, sizeof h, HOLDS_START + (off_t)(s->n_holds * sizeof h)) == (ssize_t)sizeof h)
		s->n_holds++;
	else if (holds)
		save(s, false);
	else
		model_changed(keep->model);
}

void fdstore_end(struct keep *keep)
{
	if (keep->fdstore)
		save(keep->fdstore, false);
}

int fdstore_leave(struct keep *keep)
{
	int r = loop_quiesce(keep->model->loop, QUIESCE);

	if (r < 0)
		goto fail;
	link_for_each_safe(l, &keep->server->conns) {
		struct conn *c = link_entry(l, struct conn, link);

		if (source_unsent(c->source))
			conn_drop(c, "it does not read its answers, and the daemon ends");
	}
	r = save(keep->fdstore, true);
	if (r == 0)
		return 0;
fail:
	loop_resume(keep->model->loop);
	return r;
}

struct fdstore *fdstore_new(struct keep *keep)
{
	struct fdstore *s;
	int fd;

	if (!fdstore_is_wanted())
		return NULL;
	fd = memfd_new(STORED_STATE);
	if (fd < 0) {
		log_error(fd, "no state for the service manager");
		return NULL;
	}
	s = xcalloc(1, sizeof *s);
	s->keep = keep;
	s->file = fd;
	timer_init(&s->later, fdstore_save, keep);
	if (fchmod(fd, 0600) < 0)
		log_warn(-errno, "the state for the service manager is open to others");
	save(s, false);
	/* In the place of that of the daemon before this one, which has become this one in place. */
	notify_send("FDSTOREREMOVE=1\nFDNAME=" STORED_STATE);
	notify_send_fd(fd, "FDSTORE=1\nFDPOLL=0\nFDNAME=" STORED_STATE);
	return s;
}

struct fdstore *fdstore_free(struct fdstore *s)
{
	if (!s)
		return NULL;
	timer_stop(&s->later);
	fd_close(s->file);
	free(s->all);
	free(s);
	return NULL;
}
