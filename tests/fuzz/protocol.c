/* SPDX-License-Identifier: MIT */
/* Clients of several users say anything to one daemon, in any order: it answers or drops them, and nothing of them is left. */
#include <stdlib.h>
#include <unistd.h>

#include "inside.h"

#define EXECUTIONS_OF_A_DAEMON 256
#define NOBODY 65534 /* who is allowed, and limited */
#define STRANGER 12345

static unsigned executions;

void fuzz_end(void)
{
	inside_remove();
}

static void operate(struct input *in)
{
	uint8_t what = input_u8(in), conn = what / 16 % INSIDE_CONNS;

	switch (what % 16) {
	case 0:
		inside_connect(conn, what < 128 ? geteuid() : what < 240 ? NOBODY : STRANGER);
		break;
	case 1:
		inside_disconnect(conn);
		break;
	case 2:
		inside_turns(1);
		break;
	case 3:
		inside_bytes(conn, in);
		break;
	default:
		inside_request(conn, in);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size }, hello = { NULL, 0 };

	if (inside.stopped || ++executions % EXECUTIONS_OF_A_DAEMON == 0)
		inside_end();
	if (!inside.daemon)
		inside_start();
	inside_connect(0, geteuid());
	inside_request(0, &hello);
	inside_connect(1, NOBODY);
	inside_request(1, &hello);
	while (in.size)
		operate(&in);
	inside_turns(2);
	inside_calm();
	return 0;
}
