/* SPDX-License-Identifier: MIT */
/*
 * Preloaded into a daemon: completions of its ring fail. FIXD_FAULT=N:ERRNO fails the N-th that has succeeded, N+:ERRNO all from there
 * on; FIXD_FAULT_COUNT=FILE gets how many there were.
 *
 * An operation that goes on (multishot) ends with its failure, as the kernel has it: it is cancelled, and that it was is not told twice.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <liburing.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SWALLOWED_MAX 4096

static unsigned long seen, from;
static bool for_ever;
static int error;
static __u64 swallowed[SWALLOWED_MAX];
static size_t n_swallowed;
static unsigned looked_at; /* the tail up to which completions were looked at */

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

__attribute__((destructor)) static void finish(void)
{
	const char *path = getenv("FIXD_FAULT_COUNT");
	FILE *f = path ? fopen(path, "we") : NULL;

	if (!f)
		return;
	fprintf(f, "%lu\n", seen);
	fclose(f);
}

static bool was_cancelled_by_us(const struct io_uring_cqe *c)
{
	for (size_t k = 0; c->res == -ECANCELED && k < n_swallowed; k++) {
		if (swallowed[k] == c->user_data) {
			swallowed[k] = swallowed[--n_swallowed];
			return true;
		}
	}
	return false;
}

static void fail(struct io_uring *ring, struct io_uring_cqe *c)
{
	struct io_uring_sqe *sqe;

	if ((c->flags & IORING_CQE_F_MORE) && n_swallowed < SWALLOWED_MAX && (sqe = io_uring_get_sqe(ring))) {
		io_uring_prep_cancel(sqe, (void *)(uintptr_t)c->user_data, 0);
		io_uring_sqe_set_data(sqe, NULL);
		swallowed[n_swallowed++] = c->user_data;
	}
	c->res = -error;
	c->flags = 0; /* its buffer is lost: there are enough */
}

static void look(struct io_uring *ring)
{
	unsigned tail = __atomic_load_n(ring->cq.ktail, __ATOMIC_ACQUIRE);

	for (; looked_at != tail; looked_at++) {
		struct io_uring_cqe *c = &ring->cq.cqes[looked_at & *ring->cq.kring_mask];

		if (was_cancelled_by_us(c))
			c->user_data = 0;
		else if (c->user_data && c->res >= 0 && ++seen >= from && from && (for_ever || seen == from))
			fail(ring, c);
	}
}

int io_uring_submit_and_wait(struct io_uring *ring, unsigned n)
{
	static int (*next)(struct io_uring *ring, unsigned n);
	int r;

	if (!next)
		next = (int (*)(struct io_uring *, unsigned))dlsym(RTLD_NEXT, "io_uring_submit_and_wait");
	r = next(ring, n);
	look(ring);
	return r;
}

int io_uring_submit_and_wait_timeout(struct io_uring *ring, struct io_uring_cqe **cqe, unsigned n, struct __kernel_timespec *ts, sigset_t *mask)
{
	static int (*next)(struct io_uring *ring, struct io_uring_cqe **cqe, unsigned n, struct __kernel_timespec *ts, sigset_t *mask);
	int r;

	if (!next)
		next = (int (*)(struct io_uring *, struct io_uring_cqe **, unsigned, struct __kernel_timespec *, sigset_t *))
			dlsym(RTLD_NEXT, "io_uring_submit_and_wait_timeout");
	r = next(ring, cqe, n, ts, mask);
	look(ring);
	return r;
}

int io_uring_submit_and_get_events(struct io_uring *ring)
{
	static int (*next)(struct io_uring *ring);
	int r;

	if (!next)
		next = (int (*)(struct io_uring *))dlsym(RTLD_NEXT, "io_uring_submit_and_get_events");
	r = next(ring);
	look(ring);
	return r;
}
