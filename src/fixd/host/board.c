/* SPDX-License-Identifier: MIT */
#include "fixd/host/board.h"

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

/*
 * Not F_SEAL_FUTURE_WRITE: the next daemon goes on writing. Nobody else can: clients get a descriptor that is only for reading,
 * and the mode keeps them from opening it anew.
 */
#define SEALS (F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL)

#define NO_SLOT UINT32_MAX

struct board {
	int fd;	     /* for writing */
	int read_fd; /* what clients get */
	uint64_t *words;
	uint64_t last_value;
	uint32_t n_used; /* slots that were ever taken */
	uint32_t *free_slots;
	uint32_t n_free;
	bool *owned; /* of each slot, while a saved state is loaded; or NULL */
};

static int map_board(int *fd, struct board **out)
{
	_cleanup_free_ char *path = xasprintf("/proc/self/fd/%d", *fd);
	_cleanup_fd_ int read_fd = open(path, O_RDONLY | O_CLOEXEC);
	struct board *b;
	void *p;

	if (read_fd < 0)
		return -errno;
	p = mmap(NULL, BOARD_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	b = xcalloc(1, sizeof *b);
	b->fd = fd_steal(fd);
	b->read_fd = fd_steal(&read_fd);
	b->words = p;
	b->free_slots = xcalloc(WIRE_BOARD_SLOTS, sizeof *b->free_slots);
	*out = b;
	return 0;
}

int board_new(struct board **out)
{
	_cleanup_fd_ int fd = memfd_new("fixd:board");

	if (fd < 0)
		return fd;
	if (ftruncate(fd, BOARD_SIZE) < 0)
		return -errno;
	if (fchmod(fd, 0444) < 0 || fcntl(fd, F_ADD_SEALS, SEALS) < 0)
		return -errno;
	return map_board(&fd, out);
}

int board_restore(int *fd, uint64_t last_value, uint32_t n_used, struct board **out)
{
	struct stat st;
	int seals = fcntl(*fd, F_GET_SEALS), r;

	if (fstat(*fd, &st) < 0 || st.st_size != BOARD_SIZE || seals < 0 || (seals & SEALS) != SEALS)
		return -EBADF;
	r = n_used > WIRE_BOARD_SLOTS ? -EINVAL : map_board(fd, out);
	if (r < 0)
		return r;
	(*out)->last_value = last_value;
	(*out)->n_used = n_used;
	(*out)->owned = xcalloc(WIRE_BOARD_SLOTS, sizeof *(*out)->owned);
	return 0;
}

bool board_take_slot(struct board *b, uint32_t slot)
{
	if (slot == NO_SLOT)
		return true;
	if (slot >= b->n_used || b->owned[slot])
		return false;
	b->owned[slot] = true;
	return true;
}

void board_clear_free(struct board *b)
{
	for (uint32_t i = b->n_used; i-- > 0;) {
		if (b->owned[i])
			continue;
		board_show(b, i, 0);
		b->free_slots[b->n_free++] = i;
	}
	free(b->owned);
	b->owned = NULL;
}

struct board_state board_state(const struct board *b)
{
	return (struct board_state){ .fd = b->fd, .last_value = b->last_value, .n_used = b->n_used };
}

struct board *board_free(struct board *b)
{
	if (!b)
		return NULL;
	for (uint32_t i = 0; i < b->n_used; i++)
		board_show(b, i, 0);
	munmap(b->words, BOARD_SIZE);
	fd_close(b->fd);
	fd_close(b->read_fd);
	free(b->free_slots);
	free(b->owned);
	free(b);
	return NULL;
}

int board_fd(const struct board *b)
{
	return b->read_fd;
}

uint32_t board_take(struct board *b)
{
	if (b->n_free)
		return b->free_slots[--b->n_free];
	return b->n_used < WIRE_BOARD_SLOTS ? b->n_used++ : NO_SLOT;
}

void board_give_back(struct board *b, uint32_t slot)
{
	if (slot == NO_SLOT)
		return;
	board_show(b, slot, 0);
	if (b->owned)
		b->owned[slot] = false;
	else
		b->free_slots[b->n_free++] = slot;
}

void board_show(struct board *b, uint32_t slot, uint64_t value)
{
	if (slot != NO_SLOT)
		__atomic_store_n(&b->words[slot], value, __ATOMIC_RELEASE);
}

uint64_t board_publish(struct board *b, uint32_t slot)
{
	board_show(b, slot, ++b->last_value);
	return b->last_value;
}
