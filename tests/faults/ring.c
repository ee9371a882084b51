/* SPDX-License-Identifier: MIT */
/*
 * Preloaded into a daemon: operations of its ring fail. FIXD_FAULT=N:ERRNO makes the N-th that is submitted one that does nothing but end
 * with that error (IORING_NOP_INJECT_RESULT, Linux 6.12); N+:ERRNO all from there on. FIXD_FAULT_COUNT=FILE gets how many there were.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <liburing.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INJECT_RESULT 1 /* in sqe->rw_flags; linux/io_uring.h */

static unsigned long seen, from;
static bool for_ever;
static int error;
static unsigned looked_at; /* entries up to here were looked at */

__attribute__((constructor)) static void begin(void)
{
	const char *s = getenv("FIXD_FAULT");
	char *end;

	if (!s)
		return;
	from = strtoul(s, &end, 10);
	for_ever = *end == '+';
	error = atoi(end + for_ever + 1);
}

/* The most of all programs that the process has become. */
static void note(void)
{
	const char *path = getenv("FIXD_FAULT_COUNT");
	FILE *f = path ? fopen(path, "r+e") : NULL;
	unsigned long most = 0;

	if (!f)
		return;
	if (fscanf(f, "%lu", &most) == 1 && most >= seen) {
		fclose(f);
		return;
	}
	rewind(f);
	fprintf(f, "%lu\n", seen);
	fclose(f);
}

static void look(struct io_uring *ring)
{
	for (; looked_at != ring->sq.sqe_tail; looked_at++) {
		struct io_uring_sqe *e = &ring->sq.sqes[looked_at & *ring->sq.kring_mask];

		/* What takes another one back is asked for its own sake. */
		if (e->opcode == IORING_OP_ASYNC_CANCEL || ++seen < from || !from || (!for_ever && seen != from))
			continue;
		*e = (struct io_uring_sqe){
			.opcode = IORING_OP_NOP, .rw_flags = INJECT_RESULT, .len = (unsigned)-error, .user_data = e->user_data
		};
	}
	note();
}

int io_uring_submit(struct io_uring *ring)
{
	static int (*next)(struct io_uring * ring);

	if (!next)
		next = (int (*)(struct io_uring *))dlsym(RTLD_NEXT, "io_uring_submit");
	look(ring);
	return next(ring);
}

int io_uring_submit_and_wait(struct io_uring *ring, unsigned n)
{
	static int (*next)(struct io_uring * ring, unsigned n);
	if (!next)
		next = (int (*)(struct io_uring *, unsigned))dlsym(RTLD_NEXT, "io_uring_submit_and_wait");
	look(ring);
	return next(ring, n);
}

int io_uring_submit_and_wait_timeout(struct io_uring *ring, struct io_uring_cqe **cqe, unsigned n, struct __kernel_timespec *ts,
				     sigset_t *mask)
{
	static int (*next)(struct io_uring * ring, struct io_uring_cqe * *cqe, unsigned n, struct __kernel_timespec *ts, sigset_t *mask);
	if (!next)
		next = (int (*)(struct io_uring *, struct io_uring_cqe **, unsigned, struct __kernel_timespec *, sigset_t *))dlsym(
			RTLD_NEXT, "io_uring_submit_and_wait_timeout");
	look(ring);
	return next(ring, cqe, n, ts, mask);
}

int io_uring_submit_and_get_events(struct io_uring *ring)
{
	static int (*next)(struct io_uring * ring);
	if (!next)
		next = (int (*)(struct io_uring *))dlsym(RTLD_NEXT, "io_uring_submit_and_get_events");
	look(ring);
	return next(ring);
}
