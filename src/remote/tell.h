/* SPDX-License-Identifier: MIT */
/*
 * Tells whoever has given a socket of packets how a transfer goes: "DONE TOTAL" in bytes, now and then, and at its end "ok" or a sentence.
 * Before the first of them it is not known whether there is anything to transfer.
 *
 * Promises: never waits.
 */
#pragma once

#include <stdint.h>

struct tell {
	int fd; /* -1: nobody wants to know */
	uint64_t total;
	int64_t last; /* when it was told; ns */
};

void tell_begin(struct tell *t, uint64_t total);
void tell_progress(struct tell *t, uint64_t done);
/* `wrong`: a sentence, or NULL. Also when it was not begun: who waits for an upload wants to know. */
void tell_end(struct tell *t, const char *wrong);
