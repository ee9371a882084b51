/* SPDX-License-Identifier: MIT */
#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include "base/fd.h"

static const int64_t no_shift;
static const int64_t *clock_shift = &no_shift;

int clock_init(void)
{
	const char *path = secure_getenv("FIXD_TEST_CLOCK");
	_cleanup_fd_ int fd = -1;
	void *p;

	if (!path)
		return 0;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	p = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	clock_shift = p;
	return 0;
}

static int64_t read_clock(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return t.tv_sec * NSEC_PER_SEC + t.tv_nsec + __atomic_load_n(clock_shift, __ATOMIC_RELAXED);
}

int64_t clock_now(void)
{
	return read_clock(CLOCK_BOOTTIME);
}

int64_t clock_real(void)
{
	return read_clock(CLOCK_REALTIME);
}
