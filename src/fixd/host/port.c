/* SPDX-License-Identifier: MIT */
#include "fixd/host/port.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"

#define FIRST 20000
#define LAST 32767 /* before the usual start of the kernel's own range */
#define COUNT (LAST - FIRST + 1)

static bool taken[COUNT];

/* Of the kernel: ports that outgoing connections get. */
static int last_port(void)
{
	FILE *f = fopen("/proc/sys/net/ipv4/ip_local_port_range", "re");
	int low = LAST + 1;

	if (f && fscanf(f, "%d", &low) != 1)
		low = LAST + 1;
	if (f)
		fclose(f);
	return low > FIRST + 100 && low <= LAST ? low - 1 : LAST;
}

bool port_is_free(uint16_t port)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = { htonl(INADDR_ANY) } };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_ANY_INIT };
	_cleanup_fd_ int a = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), b = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int on = 1;

	/* As servers do: connections that have ended a moment ago are in nobody's way. */
	if (a < 0 || setsockopt(a, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 || bind(a, (struct sockaddr *)&v4, sizeof v4) < 0 ||
	    listen(a, 1) < 0)
		return false;
	if (b < 0 || setsockopt(b, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) < 0 ||
	    setsockopt(b, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0)
		return true; /* a machine without IPv6 */
	return bind(b, (struct sockaddr *)&v6, sizeof v6) == 0 && listen(b, 1) == 0;
}

uint16_t port_take(void)
{
	/* Daemons beside each other do not begin with the same one; and one that was just given back rests. */
	static int next = -1;
	int n = last_port() - FIRST + 1;

	if (next < 0)
		next = (int)((unsigned)getpid() * 37u % (unsigned)n);
	for (int tries = 0; tries < n; tries++) {
		int k = next;

		next = (next + 1) % n;
		if (taken[k] || !port_is_free((uint16_t)(FIRST + k)))
			continue;
		taken[k] = true;
		return (uint16_t)(FIRST + k);
	}
	return 0;
}

void port_keep(uint16_t port)
{
	if (port >= FIRST)
		taken[port - FIRST] = true;
}

void port_give_back(uint16_t port)
{
	if (port >= FIRST)
		taken[port - FIRST] = false;
}
