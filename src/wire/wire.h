/* SPDX-License-Identifier: MIT */
/*
 * The protocol of fixd's socket; the prose is fixd-protocol(7).
 *
 * SOCK_SEQPACKET, one message a packet, at most WIRE_MESSAGE_MAX bytes: a header, the fixed part of its type, then the
 * strings whose lengths the fixed part gives, one after the other, without NUL. All numbers are little-endian. A reply has
 * its request's id and type | WIRE_REPLY, or is WIRE_ERROR. Clients send no descriptors here: what a client has built goes over
 * the channel that came with its offer (offer.h).
 *
 * How it grows: a client says which versions it speaks, and the daemon takes the highest that both do. A request that the daemon does
 * not know is answered with -EOPNOTSUPP. The fixed part of a request may become longer at its end; it says how long it is in
 * wire_header::n_fds. What is missing in it is zero, and what is behind the part that is known must be (otherwise -E2BIG): zero is the
 * default of what is added. So may a reply that has nothing behind its fixed part, of which the part that is known is read. Anything
 * else raises WIRE_VERSION; a retired type is never used again.
 */
#pragma once

#include "wire/messages.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the structs are sent as they lie in memory: a big-endian machine needs conversions"
#endif

#define WIRE_REPLY 0x8000
#define WIRE_ERROR 0xffff
#define WIRE_VERSION_USED 7  /* has wire_used */
#define WIRE_VERSION_CHILD 8 /* wire_used and wire_changed have the test: a forked child says it for its parent */

/* The daemon checks size and state of a message against its row of WIRE_REQUESTS before the handler sees it. */
enum wire_request_flags {
	WIRE_BEFORE_HELLO = 1 << 0, /* and only then */
	WIRE_OWNER_ONLY = 1 << 1,   /* the daemon's own user, or root */
	WIRE_NOTE = 1 << 2,	    /* it has no answer */
};

#define WIRE_TYPE_ENUM(name, type, body, tail, flags) WIRE_TYPE_##name = type,
enum wire_type { WIRE_REQUESTS(WIRE_TYPE_ENUM) };
