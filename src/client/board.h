/* SPDX-License-Identifier: MIT */
/* The board of one daemon as it is mapped here: a view looks at its word of it. Views keep it when its connection has gone. */
#pragma once

#include <stdint.h>

struct board_map {
	unsigned refs;
	const uint64_t *words;
	uint32_t slots;
};

/* Of so many slots; `fd` stays the caller's. 0, or -errno. */
int board_map_new(int fd, uint32_t slots, struct board_map **out);
/* The daemon is gone: nothing of it is current any more. NULL is ignored. */
void board_map_clear(struct board_map *b);
void board_map_unref(struct board_map *b);
