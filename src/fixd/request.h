/* SPDX-License-Identifier: MIT */
/* The requests of clients: one row of a table each, one handler each. */
#pragma once

#include <stddef.h>

struct conn;

/* One message of a client. `c` may be gone afterwards. */
void request_dispatch(struct conn *c, const void *data, size_t size);

/* The connection ends: its unanswered requests are forgotten. */
void request_forget_all(struct conn *c);
