/* SPDX-License-Identifier: MIT */
#include "fixd/host/ring.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "base/log.h"
#include "image/memfd.h"

static int map_ring(struct ring *r)
{
	void *p = mmap(NULL, r->head_size, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, 0);

	if (p == MAP_FAILED)
		return -errno;
	r->head = p;
	p = mmap(NULL, 2 * r->size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return -errno;
	r->bytes = p;
	for (size_t k = 0; k < 2; k++) {
		if (mmap(r->bytes + k * r->size, r->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, r->fd, (off_t)r->head_size) ==
		    MAP_FAILED)
			return -errno;
	}
	return 0;
}

static bool is_ring(int fd, size_t size)
{
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && st.st_size == (off_t)size;
}

struct ring *ring_new(int fd, size_t head_size, size_t size)
{
	struct ring *r = xcalloc(1, sizeof *r);
	int err = 0;

	r->head_size = head_size;
	r->size = size;
	r->resumed = is_ring(fd, head_size + size);
	r->fd = r->resumed ? fd : memfd_new("fixd:events");
	if (!r->resumed)
		fd_close(fd);
	if (r->fd < 0)
		err = r->fd;
	else if (!r->resumed && ftruncate(r->fd, (off_t)(head_size + size)) < 0)
		err = -errno;
	if (err == 0)
		err = map_ring(r);
	if (err == 0)
		return r;
	log_error(err, "no memory for the log of events");
	return ring_free(r);
}

struct ring *ring_free(struct ring *r)
{
	if (!r)
		return NULL;
	if (r->bytes)
		munmap(r->bytes, 2 * r->size);
	if (r->head)
		munmap(r->head, r->head_size);
	fd_close(r->fd);
	free(r);
	return NULL;
}
