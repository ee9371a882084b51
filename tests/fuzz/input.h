/* SPDX-License-Identifier: MIT */
/* The bytes of one execution, taken from the front. At their end everything is zero. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct input {
	const uint8_t *at;
	size_t size;
};

static inline void input_take(struct input *in, void *out, size_t n)
{
	size_t have = n < in->size ? n : in->size;

	memset(out, 0, n);
	if (!have)
		return;
	memcpy(out, in->at, have);
	in->at += have;
	in->size -= have;
}

static inline uint8_t input_u8(struct input *in)
{
	uint8_t v;

	input_take(in, &v, sizeof v);
	return v;
}

static inline uint16_t input_u16(struct input *in)
{
	uint16_t v;

	input_take(in, &v, sizeof v);
	return v;
}

/* One that is likely to be a limit, or any. */
static inline uint64_t input_number(struct input *in)
{
	static const uint64_t limits[] = { 0,	      1,     2,		8,	    4095,      4096,
					   4097,      65536, INT32_MAX, UINT32_MAX, INT64_MAX, (uint64_t)INT64_MAX + 1,
					   UINT64_MAX };
	uint8_t kind = input_u8(in);
	uint64_t v;

	if (kind < 2 * sizeof limits / sizeof *limits)
		return limits[kind / 2];
	if (kind < 128)
		return input_u8(in);
	input_take(in, &v, sizeof v);
	return v;
}

/* What libFuzzer calls, or replay.c. Always 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* After the last one: what the target has kept from one execution to the next is freed. */
void fuzz_end(void) __attribute__((destructor));
