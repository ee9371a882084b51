/* SPDX-License-Identifier: MIT */
/*
 * A saved state with any wrong value: it is refused with a sentence, or a daemon goes on with it, serves and ends. The input edits the
 * state of a daemon that has had images, a service, clients, a run and a build under way; or is the records itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fd.h"
#include "fixd/daemon.h"
#include "fixd/keep/check.h"
#include "fixd/keep/state.h"
#include "image/memfd.h"
#include "inside.h"
#include "wire/record.h"
#include "wire/state.h"

#define EDITS_MAX 6
#define KEPT_FROM 600 /* our copies of its descriptors */
#define FDS_MAX 100

#define LOG_HEAD 4096 /* of the log of events: what its length and numbers are */

enum fd_kind { FD_SAME, FD_CHANNEL, FD_PROCESS, FD_TREES, FD_LOG, FD_NONE };

static struct {
	struct text records;
	int numbers[FDS_MAX];
	enum fd_kind kinds[FDS_MAX];
	size_t n;
	char *trees;
	uint32_t n_records;
	char log_head[LOG_HEAD];
} saved;

struct edit {
	uint16_t at;
	uint8_t what;
	struct input value;
};

static void ask(unsigned conn, const char *bytes, size_t size)
{
	inside_request(conn, &(struct input){ (const uint8_t *)bytes, size });
	inside_turns(3); /* a build begins in a turn of its own */
}

#define ASK(conn, bytes) ask(conn, bytes, sizeof bytes - 1)

static void publish(unsigned helper, uint8_t file)
{
	/* grant of UINT32_MAX's kind is refused; of 65536 it is not */
	inside_helper_says(helper, &(struct input){ (const uint8_t[]){ 0, 14 }, 2 });
	inside_turns(1);
	inside_helper_says(helper, &(struct input){ (const uint8_t[]){ 253, file, 1, 1, 1, 0, 0, 3, file }, 9 });
	inside_turns(1);
	inside_helper_ends(helper);
	inside_turns(2);
}

static enum fd_kind kind_of(int fd)
{
	char link[64], name[256] = { 0 };
	int listening = 0;
	socklen_t size = sizeof listening;

	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	if (readlink(link, name, sizeof name - 1) < 0)
		return FD_NONE;
	if (!strncmp(name, "socket:", 7))
		return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) == 0 && listening ? FD_SAME : FD_CHANNEL;
	if (saved.trees && !strcmp(name, saved.trees))
		return FD_TREES;
	if (strstr(name, "fixd:events"))
		return FD_LOG;
	return strstr(name, "eventfd") ? FD_PROCESS : FD_SAME;
}

static void keep_descriptors(const struct state *s)
{
	for (size_t k = 0; k < s->n_fds && saved.n < FDS_MAX; k++) {
		saved.numbers[saved.n] = s->fds[k];
		saved.kinds[saved.n] = kind_of(s->fds[k]);
		if (saved.kinds[saved.n] == FD_LOG && pread(s->fds[k], saved.log_head, LOG_HEAD, 0) != LOG_HEAD)
			abort();
		if (dup3(s->fds[k], KEPT_FROM + (int)saved.n, O_CLOEXEC) >= 0)
			saved.n++;
	}
}

static uint32_t count(struct record_reader in)
{
	struct record r;
	bool bad = false;
	uint32_t n = 0;

	while (record_next(&in, &r, &bad))
		n += 1 + (r.kind == RECORD_OBJECT || r.kind == RECORD_LIST ? count(record_inside(&r)) : 0);
	return n;
}

static void make_state(bool with_service)
{
	struct state s;

	/* A daemon that goes on closes what it has inherited and does not need: not what is the fuzzer's. */
	if (syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
		abort();
	inside_start();
	for (unsigned conn = 0; conn < 3; conn++) {
		inside_connect(conn, conn == 2 ? 65534 : geteuid());
		ASK(conn, "\0");
		ASK(conn, "\1\0\0\x10\x13"); /* join "/tmp" "run" */
		ASK(conn, "\2\0\x9\1\6");    /* define "x" */
	}
	ASK(0, "\3\0\0\2\1"); /* attach "a" */
	publish(0, 2);
	ASK(1, "\3\0\0\2\2"); /* "b[1]", of "a" */
	publish(0, 1);
	if (with_service) {
		ASK(1, "\3\0\0\2\6"); /* "e", a service, which stays */
		inside_helper_says(0, &(struct input){ (const uint8_t[]){ 0, 14 }, 2 });
		inside_turns(1);
		inside_helper_says(0, &(struct input){ (const uint8_t[]){ 253, 1, 1, 1, 1, 0, 0, 3, 204, 1 }, 10 });
		inside_turns(1);
	}
	ASK(0, "\3\0\2\2\x9"); /* "x", which a client builds */
	inside_builder_says(0, &(struct input){ (const uint8_t[]){ 4, 2, 1, 2 }, 4 });
	inside_turns(1);
	ASK(2, "\3\0\2\2\x9"); /* and another one is building */
	ASK(1, "\3\0\0\2\7");  /* "f" waits */
	state_save(&inside.daemon->keep, STATE_FOR_EXEC, &s);
	saved.records = s.records;
	s.records = (struct text){ 0 };
	saved.trees = inside.daemon->work.trees ? xstrdup(inside.daemon->work.trees) : NULL;
	keep_descriptors(&s);
	saved.n_records = count((struct record_reader){ saved.records.data, saved.records.size });
	state_deinit(&s);
	inside_end();
}

void fuzz_end(void)
{
	for (size_t k = 0; k < saved.n; k++)
		close(KEPT_FROM + (int)k);
	text_deinit(&saved.records);
	if (saved.trees)
		rmdir(saved.trees);
	free(saved.trees);
	inside_remove();
	memset(&saved, 0, sizeof saved);
}

/* What its descriptors lead to is as it was, at the numbers that the records name. */
static void restore_descriptors(int *peers)
{
	for (size_t k = 0; k < saved.n; k++) {
		int pair[2] = { KEPT_FROM + (int)k, -1 };

		if (saved.kinds[k] == FD_CHANNEL && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
			abort();
		if (saved.kinds[k] == FD_PROCESS)
			pair[0] = pair[1] = eventfd(0, EFD_CLOEXEC);
		/* Its own lock: the one of before is on a directory that has gone. */
		if (saved.kinds[k] == FD_TREES &&
		    ((pair[0] = open(saved.trees, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0 || flock(pair[0], LOCK_EX | LOCK_NB) < 0))
			abort();
		/* All daemons share the file, and each is to begin with as many events. */
		if (saved.kinds[k] == FD_LOG && pwrite(pair[0], saved.log_head, LOG_HEAD, 0) != LOG_HEAD)
			abort();
		if (fcntl(saved.numbers[k], F_GETFD) >= 0 || dup2(pair[0], saved.numbers[k]) < 0)
			abort();
		if (saved.kinds[k] == FD_CHANNEL || saved.kinds[k] == FD_TREES)
			close(pair[0]);
		peers[k] = pair[1];
	}
}

static const char *some_string(struct input *in, size_t *size)
{
	static const char *const words[] = { "", "a", "b[1]", "e", "x", "/", "/tmp", "..", "run", "/dev/shm/../..", "\xff", "*" };
	uint8_t k = input_u8(in);

	if (k < 200) {
		*size = strlen(words[k % ELEMENTSOF(words)]);
		return words[k % ELEMENTSOF(words)];
	}
	*size = k - 200U < in->size ? k - 200U : in->size;
	return (const char *)in->at;
}

static void edited(struct text *out, struct record *r, struct edit *e)
{
	uint8_t what = e ? e->what % 8 : 0;
	size_t size = r->size;
	const char *s = r->data;

	if (what == 3)
		r->field = (uint16_t)input_number(&e->value);
	if (what == 4)
		r->number++;
	else if (what > 4)
		r->number = input_number(&e->value);
	if (r->kind == RECORD_STRING && what > 4)
		s = some_string(&e->value, &size);
	switch (r->kind) {
	case RECORD_U64:
		record_u64(out, r->field, r->number);
		break;
	case RECORD_TIME:
		record_time(out, r->field, (int64_t)r->number);
		break;
	case RECORD_BOOL:
		record_bool(out, r->field, r->number);
		break;
	case RECORD_STRING:
		record_bytes(out, r->field, s, size);
		break;
	default:
		record_null(out, r->field);
	}
}

static void copy(struct text *out, struct record_reader in, struct edit *edits, size_t n, uint32_t *at)
{
	struct record r;
	bool bad = false;

	while (record_next(&in, &r, &bad)) {
		struct edit *e = NULL;
		uint32_t here = (*at)++;
		int times = 1;

		for (size_t k = 0; k < n; k++)
			e = edits[k].at % saved.n_records == here ? &edits[k] : e;
		if (e && e->what % 8 < 3)
			times = e->what % 8 ? 2 : 0;
		if (!times && (r.kind == RECORD_OBJECT || r.kind == RECORD_LIST))
			*at += count(record_inside(&r));
		for (; times > 0; times--) {
			uint32_t inside_at = *at;

			if (r.kind == RECORD_OBJECT || r.kind == RECORD_LIST) {
				size_t mark = record_begin(out, r.field, r.kind);

				copy(out, record_inside(&r), edits, n, times > 1 ? &inside_at : at);
				record_end(out, mark);
			} else {
				edited(out, &r, e);
			}
		}
	}
}

/* The next that passes to another daemon: keepers that have no image were prepared for builds, which do not. */
static bool next_kept(struct record_reader *in, struct record *out, bool *bad, bool top)
{
	bool more;

	do
		more = record_next(in, out, bad);
	while (more && top && out->field == STATE_KEEPER);
	return more;
}

/* Both have the same fields with the same values, in the same order; `path` is for whoever reads that they have not. */
static void compare(struct record_reader one, struct record_reader other, const char *path)
{
	struct record a, b;
	bool bad = false, more, more_b;

	while (more = next_kept(&one, &a, &bad, !*path), more_b = next_kept(&other, &b, &bad, !*path), more && more_b) {
		_cleanup_free_ char *here = xasprintf("%s/%u", path, a.field);

		/* The last number that was given away grows; a time-out is one in milliseconds for who asks again. */
		if (!strcmp(here, "/1001/2") || (a.field == STATE_DEADLINE && llabs((long long)(a.number - b.number)) < NSEC_PER_SEC))
			continue;
		if (a.field == b.field && a.kind == b.kind && (a.kind == RECORD_OBJECT || a.kind == RECORD_LIST)) {
			compare(record_inside(&a), record_inside(&b), here);
		} else if (a.field != b.field || a.kind != b.kind || a.number != b.number || a.size != b.size ||
			   (a.kind == RECORD_STRING && memcmp(a.data, b.data, a.size) != 0)) {
			fprintf(stderr, "load(save(x)) is not x: %s was %llu \"%.*s\", and is field %u: %llu \"%.*s\"\n", here,
				(unsigned long long)a.number, a.kind == RECORD_STRING ? (int)a.size : 0, a.data, b.field,
				(unsigned long long)b.number, b.kind == RECORD_STRING ? (int)b.size : 0, b.data);
			abort();
		}
	}
	if (more || more_b) {
		fprintf(stderr, "load(save(x)) is not x: %s has %s\n", path, more ? "less" : "more");
		abort();
	}
}

static void save_again(const struct text *records)
{
	struct state s;

	state_save(&inside.daemon->keep, STATE_FOR_EXEC, &s);
	compare((struct record_reader){ records->data, records->size }, (struct record_reader){ s.records.data, s.records.size }, "");
	state_deinit(&s);
}

/* A daemon that begins with it. `whole`: with all that there was. */
static void go_on(const struct text *records, bool whole)
{
	int peers[FDS_MAX], fd;
	char number[16];

	if (saved.trees)
		mkdir(saved.trees, 0711);
	restore_descriptors(peers);
	fd = memfd_from_bytes("state", records->data, records->size);
	snprintf(number, sizeof number, "%d", fd);
	setenv("FIXD_RESUME", number, 1);
	inside_start();
	if (whole)
		save_again(records);
	inside_turns(1);
	for (size_t k = 0; k < saved.n; k++) {
		if (saved.kinds[k] == FD_PROCESS)
			eventfd_write(peers[k], 1);
		fd_close(peers[k]);
	}
	inside_turns(3);
	inside_end();
	if (saved.trees)
		rmdir(saved.trees);
	for (size_t k = 0; k < saved.n; k++) {
		if (fcntl(saved.numbers[k], F_GETFD) >= 0) {
			fprintf(stderr, "descriptor %d was not closed\n", saved.numbers[k]);
			abort();
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	_cleanup_text_ struct text records = { 0 };
	_cleanup_free_ char *wrong = NULL;
	struct edit edits[EDITS_MAX];
	uint8_t first = input_u8(&in);
	size_t n = first % (EDITS_MAX + 1);
	uint32_t at = 0;

	if (!saved.n_records) {
		/* The keeper of a service is no process here, and so has died for the next daemon. */
		make_state(false);
		go_on(&saved.records, true);
		fuzz_end();
		make_state(true);
	}
	if (first >= 224) {
		text_add(&records, in.at, in.size);
	} else {
		for (size_t k = 0; k < n; k++) {
			edits[k] = (struct edit){ .at = input_u16(&in), .what = input_u8(&in) };
			edits[k].value = (struct input){ in.at, in.size < 10 ? in.size : 10 };
			input_take(&in, (char[10]){ 0 }, edits[k].what % 8 > 4 ? 10 : 0);
		}
		copy(&records, (struct record_reader){ saved.records.data, saved.records.size }, edits, n, &at);
	}
	wrong = state_check(records.data, records.size);
	if (getenv("FUZZ_LOG") && wrong)
		fprintf(stderr, "refused: %s\n", wrong);
	if (wrong && !*wrong)
		abort();
	if (!wrong)
		go_on(&records, false);
	return 0;
}
