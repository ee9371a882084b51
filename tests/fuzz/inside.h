/* SPDX-License-Identifier: MIT */
/*
 * A daemon inside the fuzzer, in its thread: the real loop on epoll, all its code; but its helpers are the fuzzer (no process is started
 * or signalled), its clients have no sockets (peers.h), and whose a connection is the fuzzer says.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "input.h"

#define INSIDE_CONNS 4
#define INSIDE_HELPERS 8
#define INSIDE_SERIALS 8

struct daemon;
struct peer;

struct inside {
	struct daemon *daemon;
	struct peer *conns[INSIDE_CONNS]; /* clients; NULL: none */
	int channels[INSIDE_CONNS];	  /* of what they build; -1: nothing */
	struct inside_helper {
		int channel, errors, end; /* our ends; -1: there is none */
	} helpers[INSIDE_HELPERS];
	uint64_t serials[INSIDE_SERIALS]; /* of images, as they were told of */
	unsigned n_serials;
	uint64_t last_id;
	unsigned n_connections; /* that this daemon has had */
	bool stopped;
};

extern struct inside inside;

/* With the fixtures of inside.c. What cannot be set up ends the program. */
void inside_start(void);
/* Everything ends; its directory stays for the next one. */
void inside_end(void);
/* The same for good: nothing may be left. */
void inside_remove(void);
/* Turns of the loop; what the clients are answered is read. */
void inside_turns(int n);
/* Everybody leaves, every helper ends; the daemon goes on. */
void inside_calm(void);

void inside_connect(unsigned conn, uid_t uid);
void inside_disconnect(unsigned conn);
/* A message of that type: well-formed but for what the input says. */
void inside_request(unsigned conn, struct input *in);
/* Any bytes. */
void inside_bytes(unsigned conn, struct input *in);
/* What a helper, or a client that builds, says. */
void inside_helper_says(unsigned helper, struct input *in);
void inside_helper_ends(unsigned helper);
void inside_builder_says(unsigned conn, struct input *in);
