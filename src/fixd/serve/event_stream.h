/* SPDX-License-Identifier: MIT */
/* The stream of events: a client reads what it may see of the log, and waits for more without being answered for each. */
#pragma once

#include <stdint.h>

struct conn;
struct server;
struct wire_header;

/* Some have been added: for model::event_added. */
void event_stream_added(void *server);
/* Answers some of those who wait: for server::gathering and server::telling. */
void event_stream_tell(void *server);
/*
 * Answers with the events (wire_report) from the number `from` on, at once if there are any, otherwise when there are or after
 * `wait_ms`.
 */
void event_stream_ask(struct conn *c, const struct wire_header *h, uint64_t from, uint32_t wait_ms);
/* Nobody is to wait any longer. */
void event_stream_end(struct server *server);
