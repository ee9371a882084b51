/* SPDX-License-Identifier: MIT */
/*
 * An image as the daemon holds it: a sealed memfd and what is known about it. References are held by the instance whose
 * current image it is, by leases, by images whose objects point into it, and by replies and builds on their way; with the
 * last one its memory, its address range and its tree go.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/link.h"
#include "image/digest.h"
#include "wire/wire.h"

struct daemon;
struct instance;

struct image {
	struct daemon *daemon;
	unsigned refs;
	struct instance *instance; /* NULL once the instance is gone */
	struct link leases;	   /* lease::in_image */
	size_t n_leases;
	size_t n_pins; /* by instances that are built with it */
	uint64_t serial;
	int fd;
	enum wire_image_kind kind;
	uint64_t address, size, root;
	uint64_t bytes; /* counted against memory-max */
	char *tree;	/* directory, or NULL */
	struct digest digest;
	struct digest inputs; /* of the watched files, with watch-by = content */
	struct digest section;
	uint32_t generation;
	uint32_t board_slot;
	uint64_t board_value;
	size_t n_depends;	/* as in the definition it was built by */
	struct digest *saw;	/* the digests of its dependencies */
	struct image **depends; /* they themselves (references), when its objects may point into them; or NULL */
	int64_t created, created_real; /* built, or last rebuilt with the same digest */
	int64_t used, used_real;       /* last attach or detach */
	int64_t checked;	       /* its check command last said yes */
	int64_t build_ns;
	uint64_t attaches;
};

struct image *image_ref(struct image *im);
struct image *image_unref(struct image *im);

/* `im` and everything its objects may point into, each once, `im` first. Returns the number, at most `max`, or -E2BIG. */
int image_closure(struct image *im, struct image **out, size_t max);

/* A connection's hold on an image. */
struct lease {
	struct link in_conn;  /* conn::leases */
	struct link in_image; /* image::leases */
	struct image *image;
	pid_t pid;
};

struct lease *lease_new(struct image *im, struct link *conn_leases, pid_t pid);
void lease_free(struct lease *l);
