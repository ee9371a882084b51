/* SPDX-License-Identifier: MIT */
/* Made by contrib/protocol of src/wire/messages.table. */
/* clang-format off */
#pragma once

#include <stdint.h>

#define WIRE_VERSION 8
#define WIRE_VERSION_MIN 5
#define WIRE_MESSAGE_MAX 8192 /* of one message */
#define WIRE_FDS_MAX 64 /* descriptors in one reply */
#define WIRE_NAME_MAX 255 /* name[param] */
#define WIRE_KEY_MAX 2048 /* scope key */
#define WIRE_ENV_MAX 4096 /* NAME=value, each with a NUL */
#define WIRE_DEPENDS_MAX 64 /* images that a client builds from */
#define WIRE_ROOT_MAX 4095 /* a directory */
#define WIRE_RUN_MAX 100 /* id of a run */
#define WIRE_TEST_MAX 500 /* name of a test */
#define WIRE_LINE_MAX 500 /* of source, with its function */
#define WIRE_SETTINGS_MAX 7168 /* key=value, each with a NUL */
#define WIRE_PATTERNS_MAX 4096 /* globs, separated by newlines */
#define WIRE_SENTENCE_MAX 4096 /* of an error */
#define WIRE_BOARD_SLOTS 16384

struct wire_header {
	uint16_t type; /* that of the request; of its reply: + 0x8000; of an error: 0xffff */
	uint16_t n_fds; /* of a reply: descriptors that come with it; of a request: bytes of its fixed part, 0: as written here */
	uint32_t size; /* of the whole message */
	uint64_t id; /* chosen by the client, not 0; the reply has it, too */
};
_Static_assert(sizeof(struct wire_header) == 16, "wire_header");

/*
 * The first message of a connection.
 * If the daemon speaks none of them it answers with the error EPROTONOSUPPORT, and another hello may follow.
 */
struct wire_hello {
	uint32_t version; /* the highest that the client speaks */
	uint32_t lowest; /* and the lowest; 0: only that one */
};
_Static_assert(sizeof(struct wire_hello) == 8, "wire_hello");

/*
 * One descriptor comes along, the board.
 */
struct wire_welcome {
	uint32_t version; /* that is spoken from now on */
	uint32_t message_max;
	uint32_t board_slots;
	uint32_t pid; /* of the daemon */
};
_Static_assert(sizeof(struct wire_welcome) == 16, "wire_welcome");

enum wire_join_flags {
	WIRE_JOIN_OBSERVER = 1 << 0, /* it uses nothing itself: it looks after what the others leave */
};

/*
 * The connection is in the session of its user and that directory from now on, and a member of that run, until it ends.
 */
struct wire_join {
	uint32_t flags;
	uint16_t root; /* a directory */
	uint16_t run; /* id of a run; may be empty */
};
_Static_assert(sizeof(struct wire_join) == 8, "wire_join");

struct wire_joined {
	uint32_t members; /* of the run, without observers, this one included */
	uint32_t orphans; /* images of the session that wait for their teardown */
	char session[16]; /* its id */
};
_Static_assert(sizeof(struct wire_joined) == 24, "wire_joined");

enum wire_attach_flags {
	WIRE_ATTACH_WARM = 1 << 0, /* build it, but give no image and no lease */
	WIRE_ATTACH_BUILD = 1 << 1, /* the client can build it: the answer may be an offer */
	WIRE_ATTACH_LOOK = 1 << 2, /* of what clients build: what is there, whatever variables and run it was built for */
};

/*
 * The environment need only have the variables that the fixture names.
 * When some are missing the answer is the error ENOKEY, whose sentence is their names, one a line, and the client asks again.
 */
struct wire_attach {
	uint32_t flags;
	uint32_t timeout_ms; /* how long to wait for a build */
	uint16_t name; /* name or name[param] */
	uint16_t key; /* scope key */
	uint16_t env; /* NAME=value, or NAME for a variable that is not set, each with a NUL */
	uint16_t depends; /* how many serials (u64) of images follow: held by this client, which would build from them */
};
_Static_assert(sizeof(struct wire_attach) == 16, "wire_attach");

enum wire_attached_flags {
	WIRE_ATTACHED_BUILT = 1 << 0, /* this request waited for a build */
	WIRE_ATTACHED_OFFER = 1 << 1, /* the client is the builder now: there are no images, an offer follows, and the channel comes along */
	WIRE_ATTACHED_OF_RUN = 1 << 2, /* a member of the same run has built it */
};

/*
 * The first image is the one asked for; its objects may point into the others.
 */
struct wire_attached {
	uint32_t flags;
	uint16_t n_images; /* that follow; as many descriptors come along, in the same order */
	uint16_t path; /* of a tree: length of its path, behind the images */
};
_Static_assert(sizeof(struct wire_attached) == 8, "wire_attached");

enum wire_image_kind {
	WIRE_IMAGE_BLOB = 1, /* bytes */
	WIRE_IMAGE_OBJECTS = 2,
	WIRE_IMAGE_TREE = 3, /* manifest of a tree */
};

enum wire_image_flags {
	WIRE_IMAGE_AT_HOME_ONLY = 1 << 0, /* its objects are wrong anywhere else */
};

struct wire_image {
	uint64_t serial; /* names it in DETACH; never used twice by one daemon */
	uint64_t address; /* where its objects expect to be mapped */
	uint64_t size;
	uint64_t root; /* offset of the root object */
	uint64_t digest_low; /* XXH3-128 */
	uint64_t digest_high;
	uint64_t board_value; /* what its slot holds while it is current */
	uint32_t board_slot; /* 0xffffffff: none */
	uint32_t generation;
	uint32_t kind;
	uint32_t flags;
};
_Static_assert(sizeof(struct wire_image) == 72, "wire_image");

/*
 * The client is the builder until it has answered on the channel or closes it.
 */
struct wire_offer {
	uint64_t limit; /* bytes of the image at most */
	uint32_t timeout_ms;
	uint32_t huge; /* pages: 0 auto, 1 yes, 2 no */
};
_Static_assert(sizeof(struct wire_offer) == 16, "wire_offer");

/*
 * Gives one lease back, and says what was done with its view besides what CHANGED has told.
 */
struct wire_detach {
	uint64_t serial;
	uint64_t pages; /* put back by resets */
	uint32_t resets;
	uint32_t dirty; /* of them, so many put anything back */
};
_Static_assert(sizeof(struct wire_detach) == 24, "wire_detach");

/*
 * Registers a fixture that clients build, in the session.
 * The reply is empty.
 */
struct wire_define {
	uint16_t name;
	uint16_t settings; /* key=value, each with a NUL */
	uint32_t reserved;
};
_Static_assert(sizeof(struct wire_define) == 8, "wire_define");

enum wire_release_flags {
	WIRE_RELEASE_WAIT = 1 << 0, /* answer when no other member could use it any more, or with the error ETIMEDOUT */
};

/*
 * The member of a run, which has a lease on the image, will not use it again.
 */
struct wire_release {
	uint64_t serial;
	uint32_t flags;
	uint32_t timeout_ms;
};
_Static_assert(sizeof(struct wire_release) == 16, "wire_release");

struct wire_released {
	uint32_t last; /* 1 for exactly one member, the last that could use it, who tears it down */
	uint32_t note; /* bytes of the image's note for whoever tears it down, which comes along as a memfd */
};
_Static_assert(sizeof(struct wire_released) == 8, "wire_released");

/*
 * This member of a run will attach nothing that it does not hold already.
 */
struct wire_closing {
	uint64_t reserved;
};
_Static_assert(sizeof(struct wire_closing) == 8, "wire_closing");

/*
 * Takes the newest image of the session that is gone, or of no use to this run any more, and that nobody was told to tear down.
 */
struct wire_adopt {
	uint32_t flags; /* 0 */
	uint16_t pattern; /* a name or glob of instances */
	uint16_t reserved;
};
_Static_assert(sizeof(struct wire_adopt) == 8, "wire_adopt");

struct wire_orphan {
	uint32_t note; /* bytes of its note, which comes along as a memfd */
	uint32_t title; /* of the instance; empty: there is none */
};
_Static_assert(sizeof(struct wire_orphan) == 8, "wire_orphan");

/*
 * The name of the test that this client runs from now on.
 */
struct wire_test {
	uint16_t test; /* empty: none */
	uint16_t reserved[3];
};
_Static_assert(sizeof(struct wire_test) == 8, "wire_test");

/*
 * A reset of the view of an image, on which the client has a lease, has put back what that test had changed.
 * A forked child says so on the connection of its parent, whose view it uses.
 */
struct wire_changed {
	uint64_t serial;
	uint64_t pages;
	uint16_t test; /* that did it; empty: the one that this client runs */
	uint16_t reserved[3];
};
_Static_assert(sizeof(struct wire_changed) == 24, "wire_changed");

/*
 * That test has used its view of an image, on which the client has a lease, and of which it is watched who changes it.
 */
struct wire_used {
	uint64_t serial;
	uint16_t line; /* of source, which has changed it first; empty: it was not changed */
	uint16_t test; /* that did it; empty: the one that this client runs */
	uint16_t reserved[2];
};
_Static_assert(sizeof(struct wire_used) == 16, "wire_used");

struct wire_query {
	uint32_t flags; /* 0 */
	uint16_t pattern; /* a name or glob; may be empty */
	uint16_t reserved;
};
_Static_assert(sizeof(struct wire_query) == 8, "wire_query");

struct wire_relocate {
	uint64_t serial; /* of an image that this client holds, or of one that it points into */
	uint16_t moves; /* that follow: of itself and of what it points into, where they lie in this client */
	uint16_t reserved[3];
};
_Static_assert(sizeof(struct wire_relocate) == 16, "wire_relocate");

/*
 * Answered with an empty reply and one descriptor: a sealed copy of the objects that is right there, the same one for all who ask so.
 * ENOSPC: there is no room for another one.
 */
struct wire_move {
	uint64_t address; /* of one of those images */
	uint64_t to;
};
_Static_assert(sizeof(struct wire_move) == 16, "wire_move");

/*
 * A sealed memfd comes along: records, or the text of a log.
 */
struct wire_report {
	uint64_t size;
};
_Static_assert(sizeof(struct wire_report) == 8, "wire_report");

/*
 * Answered with a report: that event and those after it, or the first that comes within the time, or none; and from where to go on.
 */
struct wire_events {
	uint64_t from; /* number of an event; 0: the oldest */
	uint32_t wait_ms;
	uint32_t reserved;
};
_Static_assert(sizeof(struct wire_events) == 16, "wire_events");

/*
 * A sealed memfd comes along: strings that each end with a NUL, =name and a value, #name and the SHA-256 of a file.
 */
struct wire_key {
	uint64_t serial; /* of the image */
	uint64_t size;
};
_Static_assert(sizeof(struct wire_key) == 16, "wire_key");

enum wire_cleanup_flags {
	WIRE_CLEANUP_STALE = 1 << 0,
	WIRE_CLEANUP_UNUSED = 1 << 1,
	WIRE_CLEANUP_FAILED = 1 << 2,
	WIRE_CLEANUP_FORCE = 1 << 3, /* also what is in use; its holders keep their bytes */
};

/*
 * Answered with a report, when what was given up has been torn down.
 */
struct wire_cleanup {
	uint32_t flags;
	uint16_t patterns; /* globs, separated by newlines */
	uint16_t reserved;
	int64_t older_than; /* ns; negative: any age */
};
_Static_assert(sizeof(struct wire_cleanup) == 16, "wire_cleanup");

/*
 * EIO: a build failed; ETIMEDOUT: it was not ready in time; ENOENT: there is no such fixture; EACCES: it is not allowed.
 */
struct wire_error {
	int32_t error; /* negative errno */
	uint32_t sentence;
};
_Static_assert(sizeof(struct wire_error) == 8, "wire_error");

/* X(name, type, struct, largest tail, flags): every request a client can send. */
#define WIRE_REQUESTS(X) \
	X(hello, 1, struct wire_hello, 0, WIRE_BEFORE_HELLO) \
	X(join, 2, struct wire_join, WIRE_ROOT_MAX + WIRE_RUN_MAX, 0) \
	X(attach, 16, struct wire_attach, WIRE_NAME_MAX + WIRE_KEY_MAX + WIRE_ENV_MAX + 8 * WIRE_DEPENDS_MAX, 0) \
	X(detach, 17, struct wire_detach, 0, WIRE_NOTE) \
	X(define, 18, struct wire_define, WIRE_NAME_MAX + WIRE_SETTINGS_MAX, 0) \
	X(release, 19, struct wire_release, 0, 0) \
	X(closing, 20, struct wire_closing, 0, WIRE_NOTE) \
	X(adopt, 21, struct wire_adopt, WIRE_NAME_MAX + WIRE_KEY_MAX, 0) \
	X(test, 22, struct wire_test, WIRE_TEST_MAX, WIRE_NOTE) \
	X(changed, 23, struct wire_changed, WIRE_TEST_MAX, WIRE_NOTE) \
	X(used, 24, struct wire_used, WIRE_LINE_MAX + WIRE_TEST_MAX, WIRE_NOTE) \
	X(relocate, 25, struct wire_relocate, 16 * WIRE_FDS_MAX, WIRE_OWNER_ONLY) \
	X(status, 32, struct wire_query, WIRE_NAME_MAX, 0) \
	X(list, 33, struct wire_query, WIRE_NAME_MAX, 0) \
	X(log, 34, struct wire_query, WIRE_NAME_MAX, 0) \
	X(events, 35, struct wire_events, 0, 0) \
	X(key, 36, struct wire_query, WIRE_NAME_MAX, WIRE_OWNER_ONLY) \
	X(cleanup, 48, struct wire_cleanup, WIRE_PATTERNS_MAX, 0) \
	X(reload, 49, struct wire_query, 0, WIRE_OWNER_ONLY) \
	X(stop, 50, struct wire_query, 0, WIRE_OWNER_ONLY) \
	X(restart, 51, struct wire_query, 0, WIRE_OWNER_ONLY)

/* X(type, struct, known): of each request with flags the bits that there are. */
#define WIRE_FLAGS(X) \
	X(2, struct wire_join, 1) \
	X(16, struct wire_attach, 7) \
	X(19, struct wire_release, 1) \
	X(21, struct wire_adopt, 0) \
	X(32, struct wire_query, 0) \
	X(33, struct wire_query, 0) \
	X(34, struct wire_query, 0) \
	X(36, struct wire_query, 0) \
	X(48, struct wire_cleanup, 15) \
	X(49, struct wire_query, 0) \
	X(50, struct wire_query, 0) \
	X(51, struct wire_query, 0)
