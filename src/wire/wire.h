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

#include <stdint.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the structs below are sent as they lie in memory: a big-endian machine needs conversions"
#endif

#define WIRE_VERSION 6
#define WIRE_VERSION_MIN 5 /* which lacks only how it grows */
#define WIRE_MESSAGE_MAX 8192
#define WIRE_FDS_MAX 64	      /* descriptors in one reply */
#define WIRE_NAME_MAX 255     /* name[param] */
#define WIRE_KEY_MAX 2048     /* scope key */
#define WIRE_ENV_MAX 4096     /* NAME=value, separated by NUL */
#define WIRE_DEPENDS_MAX 64   /* images a client builds from */
#define WIRE_ROOT_MAX 4095
#define WIRE_RUN_MAX 100      /* id of a run */
#define WIRE_TEST_MAX 500     /* name of a test */
#define WIRE_SETTINGS_MAX 7168 /* key=value, separated by NUL */
#define WIRE_SENTENCE_MAX 4096
#define WIRE_BOARD_SLOTS 16384

#define WIRE_REPLY 0x8000
#define WIRE_ERROR 0xffff

struct wire_header {
	uint16_t type;
	uint16_t n_fds; /* of a reply: that follow with it; of a request: bytes of its fixed part, 0: as in the table */
	uint32_t size;	/* of the whole message */
	uint64_t id;	/* chosen by the client, not 0 */
};

/* First message of a connection. Answered with wire_welcome and the board. */
struct wire_hello {
	uint32_t version; /* the highest that the client speaks */
	uint32_t lowest;  /* and the lowest; 0: only that one */
};

struct wire_welcome {
	uint32_t version; /* that is spoken */
	uint32_t message_max;
	uint32_t board_slots;
	uint32_t pid;
};

enum wire_join_flags {
	WIRE_JOIN_OBSERVER = 1 << 0, /* uses nothing itself: looks after what the others leave */
};

/*
 * + root directory, id of the run. The connection's fixtures are those of the session of (its user, root) from now on, and it
 * is a member of the run until it ends. Answered with wire_joined.
 */
struct wire_join {
	uint32_t flags;
	uint16_t root;
	uint16_t run; /* may be empty: no run */
};

struct wire_joined {
	uint32_t members; /* of the run, without observers, this one included */
	uint32_t orphans; /* images of the session that wait for their teardown */
	char session[16];
};

/* + name, key=value each with a NUL. A fixture that clients build. Answered with an empty reply. */
struct wire_define {
	uint16_t name;
	uint16_t settings;
	uint32_t reserved;
};

/* This member of a run will attach nothing that it does not hold already. Not answered. */
struct wire_closing {
	uint64_t reserved;
};

enum wire_release_flags {
	WIRE_RELEASE_WAIT = 1 << 0, /* answer when no other member could use it any more, or at the time-out */
};

/*
 * This member will not use the image again; it has a lease on it. Answered with wire_released: exactly one member of the run
 * is told that it is the last, and then has to tear it down.
 */
struct wire_release {
	uint64_t serial;
	uint32_t flags;
	uint32_t timeout_ms;
};

struct wire_released {
	uint32_t last;
	uint32_t note; /* bytes of its note, whose memfd comes along when this is the last */
};

/*
 * + a name or glob of instances. Takes the newest orphan of the session that matches: an image that is gone, or that no member
 * of this run could use any more, and whose teardown nobody was told to do. Answered with wire_orphan.
 */
struct wire_adopt {
	uint32_t flags;
	uint16_t pattern;
	uint16_t reserved;
};

/* + the title of the instance; empty when there is none. Its note comes along as a memfd. */
struct wire_orphan {
	uint32_t note; /* bytes */
	uint32_t title;
};

enum wire_attach_flags {
	WIRE_ATTACH_WARM = 1 << 0,  /* build it, but give no image and no lease */
	WIRE_ATTACH_BUILD = 1 << 1, /* the client can build it: the answer may be an offer */
	WIRE_ATTACH_LOOK = 1 << 2,  /* of what clients build: what is there, whatever variables and run it is of */
};

/*
 * + name, scope key, env, the serials of the images (uint64_t each, held by this client) that it would build from. Answered
 * when the image is there, or with an offer.
 */
struct wire_attach {
	uint32_t flags;
	uint32_t timeout_ms; /* how long to wait for a build */
	uint16_t name;
	uint16_t key;
	uint16_t env;
	uint16_t depends; /* how many */
};

enum wire_image_kind { WIRE_IMAGE_BLOB = 1, WIRE_IMAGE_OBJECTS = 2, WIRE_IMAGE_TREE = 3 };

struct wire_image {
	uint64_t serial; /* names the image in DETACH; never used twice by one daemon */
	uint64_t address;
	uint64_t size;
	uint64_t root; /* offset */
	uint64_t digest_low, digest_high;
	uint64_t board_value; /* what the slot holds while the image is current */
	uint32_t board_slot;
	uint32_t generation;
	uint32_t kind;
	uint32_t reserved;
};

enum wire_attached_flags {
	WIRE_ATTACHED_BUILT = 1 << 0, /* this request waited for a build */
	WIRE_ATTACHED_OFFER = 1 << 1, /* the client is to build it: a wire_offer follows, and the channel */
	WIRE_ATTACHED_OF_RUN = 1 << 2, /* a member of the same run has built it */
};

/*
 * + n_images wire_image, then the path of a tree. The first image is the one asked for, the others are what its objects
 * point into; as many descriptors come along, in the same order.
 */
struct wire_attached {
	uint32_t flags;
	uint16_t n_images;
	uint16_t path;
};

/* The client is the builder now, until it has answered on the channel or closes it. */
struct wire_offer {
	uint64_t limit; /* bytes of the image */
	uint32_t timeout_ms;
	uint32_t huge; /* enum huge_pages */
};

/* + the name of the test that this client runs from now on; empty: none. Not answered. */
struct wire_test {
	uint16_t test;
	uint16_t reserved[3];
};

/* A reset of the view of an image on which it has a lease has put back what the test had changed. Not answered. */
struct wire_changed {
	uint64_t serial;
	uint64_t pages;
};

/* Gives a lease back, and says what was done with its view besides what wire_changed has told. Not answered. */
struct wire_detach {
	uint64_t serial;
	uint64_t pages;	 /* put back by resets */
	uint32_t resets;
	uint32_t dirty;	 /* of them, so many put anything back */
};

/* + a name or glob, may be empty. Answered with a wire_report. */
struct wire_query {
	uint32_t flags;
	uint16_t pattern;
	uint16_t reserved;
};

enum wire_cleanup_flags {
	WIRE_CLEANUP_STALE = 1 << 0,
	WIRE_CLEANUP_UNUSED = 1 << 1,
	WIRE_CLEANUP_FAILED = 1 << 2,
	WIRE_CLEANUP_FORCE = 1 << 3, /* also what is in use; its holders keep their bytes */
};

/* What has happened from that event on. Answered with a wire_report, which says from where to go on; if there is nothing, later. */
struct wire_events {
	uint64_t from; /* its number; 0: the oldest */
	uint32_t wait_ms;
	uint32_t reserved;
};

/* + globs, separated by newlines. Answered with a wire_report. */
struct wire_cleanup {
	uint32_t flags;
	uint16_t patterns;
	uint16_t reserved;
	int64_t older_than; /* ns; negative: any age */
};

/* One sealed memfd comes along: records (record.h, report.h), or the text of a log. */
struct wire_report {
	uint64_t size;
};

/* + a sentence. With -ENOKEY it is the names of the variables whose values the request must carry, by newlines. */
struct wire_error {
	int32_t error; /* negative errno */
	uint32_t sentence;
};

/*
 * X(name, type, struct, largest tail, flags): every request a client can send. The daemon checks size and state of a message
 * against its row before the handler sees it.
 */
#define WIRE_REQUESTS(X)                                                                                               \
	X(hello, 1, struct wire_hello, 0, WIRE_BEFORE_HELLO)                                                           \
	X(join, 2, struct wire_join, WIRE_ROOT_MAX + WIRE_RUN_MAX, 0)                                                  \
	X(attach, 16, struct wire_attach, WIRE_NAME_MAX + WIRE_KEY_MAX + WIRE_ENV_MAX + 8 * WIRE_DEPENDS_MAX, 0)       \
	X(detach, 17, struct wire_detach, 0, WIRE_NOTE)                                                                \
	X(define, 18, struct wire_define, WIRE_NAME_MAX + WIRE_SETTINGS_MAX, 0)                                        \
	X(release, 19, struct wire_release, 0, 0)                                                                      \
	X(closing, 20, struct wire_closing, 0, WIRE_NOTE)                                                              \
	X(adopt, 21, struct wire_adopt, WIRE_NAME_MAX + WIRE_KEY_MAX, 0)                                               \
	X(test, 22, struct wire_test, WIRE_TEST_MAX, WIRE_NOTE)                                                        \
	X(changed, 23, struct wire_changed, 0, WIRE_NOTE)                                                              \
	X(status, 32, struct wire_query, WIRE_NAME_MAX, 0)                                                             \
	X(list, 33, struct wire_query, WIRE_NAME_MAX, 0)                                                               \
	X(log, 34, struct wire_query, WIRE_NAME_MAX, 0)                                                                \
	X(events, 35, struct wire_events, 0, 0)                                                                        \
	X(cleanup, 48, struct wire_cleanup, 4096, 0)                                                                   \
	X(reload, 49, struct wire_query, 0, WIRE_OWNER_ONLY)                                                           \
	X(stop, 50, struct wire_query, 0, WIRE_OWNER_ONLY)                                                             \
	X(restart, 51, struct wire_query, 0, WIRE_OWNER_ONLY)

enum wire_request_flags {
	WIRE_BEFORE_HELLO = 1 << 0, /* and only then */
	WIRE_OWNER_ONLY = 1 << 1,   /* the daemon's own user, or root */
	WIRE_NOTE = 1 << 2,	    /* it has no answer */
};

#define WIRE_TYPE_ENUM(name, type, body, tail, flags) WIRE_TYPE_##name = type,
enum wire_type { WIRE_REQUESTS(WIRE_TYPE_ENUM) };

_Static_assert(sizeof(struct wire_header) == 16, "wire_header");
_Static_assert(sizeof(struct wire_hello) == 8, "wire_hello");
_Static_assert(sizeof(struct wire_welcome) == 16, "wire_welcome");
_Static_assert(sizeof(struct wire_join) == 8, "wire_join");
_Static_assert(sizeof(struct wire_joined) == 24, "wire_joined");
_Static_assert(sizeof(struct wire_define) == 8, "wire_define");
_Static_assert(sizeof(struct wire_closing) == 8, "wire_closing");
_Static_assert(sizeof(struct wire_release) == 16, "wire_release");
_Static_assert(sizeof(struct wire_released) == 8, "wire_released");
_Static_assert(sizeof(struct wire_adopt) == 8, "wire_adopt");
_Static_assert(sizeof(struct wire_orphan) == 8, "wire_orphan");
_Static_assert(sizeof(struct wire_offer) == 16, "wire_offer");
_Static_assert(sizeof(struct wire_attach) == 16, "wire_attach");
_Static_assert(sizeof(struct wire_image) == 72, "wire_image");
_Static_assert(sizeof(struct wire_attached) == 8, "wire_attached");
_Static_assert(sizeof(struct wire_test) == 8, "wire_test");
_Static_assert(sizeof(struct wire_changed) == 16, "wire_changed");
_Static_assert(sizeof(struct wire_detach) == 24, "wire_detach");
_Static_assert(sizeof(struct wire_events) == 16, "wire_events");
_Static_assert(sizeof(struct wire_query) == 8, "wire_query");
_Static_assert(sizeof(struct wire_cleanup) == 16, "wire_cleanup");
_Static_assert(sizeof(struct wire_report) == 8, "wire_report");
_Static_assert(sizeof(struct wire_error) == 8, "wire_error");
