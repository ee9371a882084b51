/* SPDX-License-Identifier: MIT */
#include "fixd/board.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "image/memfd.h"
#include "wire/wire.h"

#define BOARD_SIZE (WIRE_BOARD_SLOTS * sizeof(uint64_t))

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

struct board {
	int fd;
	uint64_t *words;
	uint64_t last_value;
	uint32_t n_used; /* slots that were ever taken */
	uint32_t *free_slots;
	uint32_t n_free;
};

int board_new(struct board **out)
{
	_cleanup_fd_ int fd = memfd_new("fixd:board");
	struct board *b;
	void *p;

	if (fd < 0)
		return fd;
	if (ftruncate(fd, BOARD_SIZE) < 0)
		return -errno;
	p = mmap(NULL, BOARD_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	if (fchmod(fd, 0444) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) < 0) {
		int r = -errno;

		munmap(p, BOARD_SIZE);
		return r;
	}
	b = xcalloc(1, sizeof *b);
	b->fd = fd_steal(&fd);
	b->words = p;
	b->free_slots = xcalloc(WIRE_BOARD_SLOTS, sizeof *b->free_slots);
	*out = b;
	return 0;
}

struct board *board_free(struct board *b)
{
	if (!b)
		return NULL;
	for (uint32_t i = 0; i < b->n_used; i++)
		board_show(b, i, 0);
	munmap(b->words, BOARD_SIZE);
	fd_close(b->fd);
	free(b->free_slots);
	free(b);
	return NULL;
}

int board_fd(const struct board *b)
{
	return b->fd;
}

uint32_t board_take(struct board *b)
{
	if (b->n_free)
		return b->free_slots[--b->n_free];
	return b->n_used < WIRE_BOARD_SLOTS ? b->n_used++ : BOARD_NO_SLOT;
}

void board_give_back(struct board *b, uint32_t slot)
{
	if (slot == BOARD_NO_SLOT)
		return;
	board_show(b, slot, 0);
	b->free_slots[b->n_free++] = slot;
}

void board_show(struct board *b, uint32_t slot, uint64_t value)
{
	if (slot != BOARD_NO_SLOT)
		__atomic_store_n(&b->words[slot], value, __ATOMIC_RELEASE);
}

uint64_t board_publish(struct board *b, uint32_t slot)
{
	board_show(b, slot, ++b->last_value);
	return b->last_value;
}
