/* SPDX-License-Identifier: MIT */
/*
 * Helpers and clients that build publish anything: not sealed, of another size, at a place that is none, twice, too late, without
 * room. What is wrong is refused, and in the end no grant, no range, no descriptor is left.
 */
#include <stdlib.h>
#include <unistd.h>

#include "base/alloc.h"
#include "inside.h"

#define EXECUTIONS_OF_A_DAEMON 256
#define NOBODY 65534

static unsigned executions;

void fuzz_end(void)
{
	inside_remove();
}

/* Requests as the bytes that inside_request() is made of. */
static void ask(unsigned conn, const char *bytes, size_t size)
{
	inside_request(conn, &(struct input){ (const uint8_t *)bytes, size });
}

#define ASK(conn, bytes) ask(conn, bytes, sizeof bytes - 1)

static void operate(struct input *in)
{
	uint8_t what = input_u8(in);
	unsigned which = what / 16;

	switch (what % 16) {
	case 0:
	case 1:
	case 2:
		inside_request(which % 2, in);
		break;
	case 3:
		inside_turns(1);
		break;
	case 4:
		inside_helper_ends(which % INSIDE_HELPERS);
		break;
	case 5:
	case 6:
	case 7:
	case 8:
		inside_builder_says(which % 2, in);
		break;
	case 9: /* attach "a" to "g", and what clients build */
		ask(which % 2, (char[]){ 3, 0, 0, 2, (char)(1 + input_u8(in) % 8) }, 5);
		inside_turns(1);
		break;
	case 10:
		ASK(which % 2, "\3\0\2\2\x9");
		inside_turns(1);
		break;
	default:
		inside_helper_says(which % INSIDE_HELPERS, in);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };

	if (inside.stopped || ++executions % EXECUTIONS_OF_A_DAEMON == 0)
		inside_end();
	if (!inside.daemon)
		inside_start();
	for (unsigned conn = 0; conn < 2; conn++) {
		inside_connect(conn, conn ? NOBODY : geteuid());
		ASK(conn, "\0");
		ASK(conn, "\1\0\0\x10\x13"); /* join "/tmp" "run" */
		ASK(conn, "\2\0\x9\1\6");    /* define "x" */
	}
	inside_turns(1);
	while (in.size)
		operate(&in);
	inside_turns(2);
	inside_calm();
	return 0;
}
