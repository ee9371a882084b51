/* SPDX-License-Identifier: MIT */
/*
 * Clients' connections of a daemon inside the fuzzer, without sockets: what they say is handed to the loop's sources, and what they are
 * answered is taken out of them, so that an execution costs few system calls. Everything else of the loop is epoll's.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct loop;
struct packet;
struct peer;

/* The loop's backend from now on. */
void peers_begin(struct loop *l);
/* To be connected at `fd`, a descriptor of the daemon's side, before the daemon hears of it. */
struct peer *peer_new(int fd);
/* False: the daemon has not taken it, or has dropped it; it is to be freed. */
bool peer_is_there(const struct peer *p);
void peer_say(struct peer *p, const void *data, size_t size);
/* Hands all that it was answered to `fn`. */
void peer_read(struct peer *p, void (*fn)(void *arg, const struct packet *packet), void *arg);
/* It hangs up: the daemon hears it behind what was said. Returns NULL. */
struct peer *peer_leave(struct peer *p);
