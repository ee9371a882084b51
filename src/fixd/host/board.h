/* SPDX-License-Identifier: MIT */
/*
 * The board: a memfd of 64-bit words that every client maps read-only, one word per instance. While the word of an instance
 * equals the value a view was attached with, the view is current. A value is never used twice, also not when a slot gets a
 * new owner. Clients get it for reading only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct board;

int board_new(struct board **out);
struct board *board_free(struct board *b); /* leaves nothing current */
int board_fd(const struct board *b);

/* What of it passes to the next daemon, and there: board_take_slot() for those in use, then board_clear_free(). */
struct board_state {
	int fd;
	uint64_t last_value;
	uint32_t n_used;
};
struct board_state board_state(const struct board *b);
/* Takes the descriptor. -errno: it is no board. */
int board_restore(int *fd, uint64_t last_value, uint32_t n_used, struct board **out);
/* False: there is no such slot, or it is another instance's. */
bool board_take_slot(struct board *b, uint32_t slot);
/* When all have taken theirs: the rest is free, and shows nothing. */
void board_clear_free(struct board *b);

/* UINT32_MAX when all are taken: views of that instance are then never current, which is safe. */
uint32_t board_take(struct board *b);
void board_give_back(struct board *b, uint32_t slot);

/* Shows a new value in `slot` and returns it. */
uint64_t board_publish(struct board *b, uint32_t slot);
/* The value is current again (0: nothing is). */
void board_show(struct board *b, uint32_t slot, uint64_t value);
