/* SPDX-License-Identifier: MIT */
/*
 * What stands before the bytes of objects when they are carried to another machine: where they lay, and what they point into, so that they can be
 * relocated there.
 *
 *	fixd-objects 1 ADDRESS SIZE ROOT N
 *	ADDRESS SIZE DIGEST			N times: an image that they point into
 *
 * Numbers are hexadecimal, the rest of the CARRY_SIZE bytes is NUL.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "image/digest.h"
#include "wire/messages.h"

#define CARRY_SIZE 8192

struct carried_image {
	uint64_t address, size;
	struct digest digest; /* of the audit: the same at any address */
};

struct carried {
	uint64_t address, size, root;
	size_t n;
	struct carried_image images[WIRE_FDS_MAX];
};

void carry_write(const struct carried *c, char out[CARRY_SIZE]);
/* 0, or -EBADMSG: it is not that, or has a value that no image has. */
int carry_read(const char in[CARRY_SIZE], struct carried *c);
