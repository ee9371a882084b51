/* SPDX-License-Identifier: MIT */
#include "client/board.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "client/connection.h"

#define BOARD_SLOTS_MAX (1 << 24)

void board_map_unref(struct board_map *b)
{
	if (!b || __atomic_sub_fetch(&b->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	munmap((void *)b->words, b->slots * sizeof *b->words);
	free(b);
}

/* Readers of the page see zeros. */
void board_map_clear(struct board_map *b)
{
	if (b &&
	    mmap((void *)b->words, b->slots * sizeof *b->words, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		connection_log("views of a daemon that is gone may still be taken for current: %s", strerror(errno));
}

int board_map_new(int fd, uint32_t slots, struct board_map **out)
{
	size_t size = slots * sizeof(uint64_t);
	struct board_map *b;
	struct stat st;
	void *p;

	int seals = fcntl(fd, F_GET_SEALS);

	/* One that could become shorter would be a crash one day. */
	if (fstat(fd, &st) < 0 || (uint64_t)st.st_size < size || slots == 0 || slots > BOARD_SLOTS_MAX || seals < 0 ||
	    !(seals & F_SEAL_SHRINK))
		return -EPROTO;
	p = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	b = malloc(sizeof *b);
	if (!b) {
		munmap(p, size);
		return -ENOMEM;
	}
	*b = (struct board_map){ .refs = 1, .words = p, .slots = slots };
	*out = b;
	return 0;
}
