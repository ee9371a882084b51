/* SPDX-License-Identifier: MIT */
/*
 * What the daemon and a client that builds say to each other, over the channel that came with the offer (a SOCK_SEQPACKET
 * pair of its own, so that the daemon takes descriptors from nowhere else):
 *
 *	client -> daemon	OFFER_COMMIT, with the sealed image and, if it has one, its note
 *	client -> daemon	OFFER_ABORT + a sentence: the build failed
 *	daemon -> client	offer_answer, and when it was published the image that is current now, and its descriptor
 *
 * A channel that is closed before means that the builder is gone: the next client that waits becomes the builder.
 */
#pragma once

#include <stdint.h>

#include "image/digest.h"
#include "wire/wire.h"

#define OFFER_SENTENCE_MAX 3500
#define OFFER_NOTE_MAX (UINT64_C(1) << 20)

enum offer_message { OFFER_COMMIT = 1, OFFER_ABORT = 2 };

enum offer_commit_flags {
	OFFER_COMMIT_NOTE = 1 << 0,	/* the second descriptor is the note, for whoever tears the image down */
	OFFER_COMMIT_KEEPER = 1 << 1,	/* this member of its run tears it down itself, if it lives that long */
	OFFER_COMMIT_TEARDOWN = 1 << 2, /* somebody must be told that it was the last */
};

struct offer_commit {
	uint32_t message;
	uint32_t flags;
	uint64_t size;
	struct digest digest; /* of the bytes */
};

struct offer_abort {
	uint32_t message;
	uint32_t sentence; /* length of the text that follows */
};

/* + a sentence. */
struct offer_answer {
	int32_t error; /* -EAGAIN: an input changed while it was built, build it again */
	uint32_t sentence;
	struct wire_image image; /* of which the client has a lease now */
};
