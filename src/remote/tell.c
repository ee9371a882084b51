/* SPDX-License-Identifier: MIT */
#include "remote/tell.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"

#define EVERY (100 * NSEC_PER_MSEC)

static void tell(const struct tell *t, const char *what)
{
	if (t->fd >= 0)
		send(t->fd, what, strlen(what), MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void tell_now(struct tell *t, uint64_t done)
{
	char packet[64];

	snprintf(packet, sizeof packet, "%llu %llu", (unsigned long long)done, (unsigned long long)t->total);
	tell(t, packet);
	t->last = clock_now();
}

void tell_begin(struct tell *t, uint64_t total)
{
	t->total = total;
	tell_now(t, 0);
}

void tell_progress(struct tell *t, uint64_t done)
{
	if (clock_now() - t->last >= EVERY)
		tell_now(t, done);
}

void tell_end(struct tell *t, const char *wrong)
{
	tell(t, wrong ? wrong : "ok");
}
