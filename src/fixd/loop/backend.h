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
	bool armed;	     /* the kernel will tell us */
	bool paused;	     /* and is not to */
	bool nonblocking;    /* the descriptor was made so */
	bool lost;	     /* its packet was, with the ring */
	bool resend;	     /* the kernel would not take the first packet: it is on its way nowhere */
	struct link refused; /* loop::refused: the kernel would not, and is asked again */
	bool sending;	     /* the first packet is on its way */
	unsigned inflight;   /* operations whose completion is still to come */
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
	/* Starts to listen for events of `s`. 0 or -errno. */
	int (*arm)(struct loop *l, struct source *s);
	/* Starts to send the first packet. */
	void (*send)(struct loop *l, struct source *s);
	/* `s` was closed: stops what is on its way. */
	void (*disarm)(struct loop *l, struct source *s);
	/* Stops only listening. */
	void (*pause)(struct loop *l, struct source *s);
	/* Waits at most `timeout` ns (negative: for ever) and calls back; sets loop::turn_began when it wakes. -errno: it is lost. */
	int (*wait)(struct loop *l, int64_t timeout);
};

struct loop {
	const struct loop_backend *backend;
	void *state;
	bool stopping;
	bool quiet;   /* nothing is armed again */
	bool last;    /* nothing is behind what the backend hands out now, in this turn */
	bool more;    /* a turn was long enough: there is more to do at once */
	char *reason; /* why the ring is not used */
	uint64_t epoch;
	int64_t turn_began, turn_ended, longest_turn;
	bool warned; /* of what the kernel refused */
	struct link sources;
	struct link closed;
	struct link refused;
	struct link deferred;
	struct timers timers;
};

/* A backend goes on to the next turn when it has called back for so long. */
#define TURN (200 * INT64_C(1000))

extern const struct loop_backend loop_uring, loop_epoll;

/* Once for each source; asked again at every arming until the kernel has done it. 0 or -errno. */
int source_set_nonblock(struct source *s);
/* The first packet has left, or failed. */
void source_packet_done(struct source *s, int err);
/* The kernel would not watch it; or would not take its first packet. */
void source_refused(struct source *s, int err);
void source_send_refused(struct source *s, int err);
/* Takes what is there by plain calls: connections, packets, or calls ready(). */
void source_serve(struct source *s);
/* Nothing was received, which is the end: asked once more, since the kernel may say that before the last packet (socket_receive()). */
void source_at_end(struct source *s);
/* is_passing() of a packet: also when too many descriptors lie unread somewhere. */
bool is_passing_for_packet(int err);

/* The msghdr for a packet; `space` holds the control data. */
#define PACKET_CONTROL_SIZE 1088
struct msghdr;
struct iovec;
void packet_to_msghdr(const struct packet *p, struct msghdr *msg, struct iovec *iov, void *control);
