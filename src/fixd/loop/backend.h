/* SPDX-License-Identifier: MIT */
/* What loop.c and its two backends share. */
#pragma once

#include "fixd/loop/loop.h"

enum source_kind_of { SOURCE_WATCH, SOURCE_ACCEPT, SOURCE_MESSAGES };

struct source {
	struct link link; /* loop::sources, or loop::closed */
	struct loop *loop;
	enum source_kind_of kind;
	int fd;
	bool closed;
	bool armed;	   /* the kernel will tell us */
	bool sending;	   /* the first packet is on its way */
	unsigned inflight; /* operations whose completion is still to come */
	struct link packets;
	size_t n_packets;
	union {
		void (*ready)(void *arg);
		void (*accepted)(void *arg, int fd);
		const struct message_handler *handler;
	};
	void *arg;
	void *backend; /* the ring's message header of the packet on its way */
};

struct loop_backend {
	const char *name;
	int (*init)(struct loop *l, char **reason);
	void (*deinit)(struct loop *l);
	/* Starts to listen for events of `s`. */
	int (*arm)(struct loop *l, struct source *s);
	/* Starts to send the first packet. */
	void (*send)(struct loop *l, struct source *s);
	/* `s` was closed: stops what is on its way. */
	void (*disarm)(struct loop *l, struct source *s);
	/* Stops only listening. */
	void (*pause)(struct loop *l, struct source *s);
	/* Waits at most `timeout` ns (negative: for ever) and calls back. */
	int (*wait)(struct loop *l, int64_t timeout);
};

struct loop {
	const struct loop_backend *backend;
	void *state;
	bool stopping;
	bool quiet; /* nothing is armed again */
	uint64_t epoch;
	struct link sources;
	struct link closed;
	struct timers timers;
};

extern const struct loop_backend loop_uring, loop_epoll;

/* The first packet has left, or failed. */
void source_packet_done(struct source *s, int err);

/* The msghdr for a packet; `space` holds the control data. */
#define PACKET_CONTROL_SIZE 1088
struct msghdr;
struct iovec;
void packet_to_msghdr(const struct packet *p, struct msghdr *msg, struct iovec *iov, void *control);
