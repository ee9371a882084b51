/* SPDX-License-Identifier: MIT */
/* The lines before objects that are carried. */
#include "wire/carry.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define ADDRESS_MAX (UINT64_C(1) << 47)
#define PAGE 4096

void carry_write(const struct carried *c, char out[CARRY_SIZE])
{
	size_t at;

	memset(out, 0, CARRY_SIZE);
	at = (size_t)snprintf(out, CARRY_SIZE, "fixd-objects 1 %" PRIx64 " %" PRIx64 " %" PRIx64 " %zx\n", c->address, c->size, c->root,
			      c->n);
	for (size_t i = 0; i < c->n; i++) {
		char digest[DIGEST_HEX_SIZE];

		at += (size_t)snprintf(out + at, CARRY_SIZE - at, "%" PRIx64 " %" PRIx64 " %s\n", c->images[i].address, c->images[i].size,
				       digest_format(c->images[i].digest, digest));
	}
}

static bool is_range(uint64_t address, uint64_t size)
{
	return address % PAGE == 0 && address < ADDRESS_MAX && size < ADDRESS_MAX;
}

static bool take_image(const char **in, struct carried_image *im)
{
	int n = -1;

	if (sscanf(*in, "%12" SCNx64 " %12" SCNx64 " %16" SCNx64 "%16" SCNx64 "%n", &im->address, &im->size, &im->digest.high,
		   &im->digest.low, &n) != 4 ||
	    n < 0 || (*in)[n] != '\n' || !is_range(im->address, im->size))
		return false;
	*in += n + 1;
	return true;
}

int carry_read(const char in[CARRY_SIZE], struct carried *c)
{
	const char *end = memchr(in, 0, CARRY_SIZE);
	int n = -1;

	*c = (struct carried){ 0 };
	if (!end ||
	    sscanf(in, "fixd-objects 1 %12" SCNx64 " %12" SCNx64 " %12" SCNx64 " %2zx%n", &c->address, &c->size, &c->root, &c->n, &n) !=
		    4 ||
	    n < 0 || in[n++] != '\n' || c->n > WIRE_FDS_MAX || !is_range(c->address, c->size) || (c->root && c->root >= c->size))
		return -EBADMSG;
	in += n;
	for (size_t i = 0; i < c->n; i++) {
		if (!take_image(&in, &c->images[i]))
			return -EBADMSG;
	}
	return in == end ? 0 : -EBADMSG;
}
