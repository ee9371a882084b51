/* SPDX-License-Identifier: MIT */
#include "fixd/host/activation.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "base/text.h"
#include "base/units.h"

#define FIRST_FD 3 /* SD_LISTEN_FDS_START */

struct passed {
	char *name;
	int fd; /* -1: taken */
};

static struct passed *passed;
static size_t n_passed;

static void look_at_passed(void)
{
	const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS"), *names = getenv("LISTEN_FDNAMES");
	uint64_t n, v;

	if (passed || !pid || !count || parse_u64(pid, 10, INT32_MAX, &v) < 0 || (pid_t)v != getpid() ||
	    parse_u64(count, 10, 65536, &n) < 0)
		return;
	passed = xcalloc(n, sizeof *passed);
	for (n_passed = 0; n_passed < n; n_passed++) {
		size_t length = names ? strcspn(names, ":") : 0;

		passed[n_passed].fd = FIRST_FD + (int)n_passed;
		passed[n_passed].name = names ? xstrndup(names, length) : xstrdup("unknown");
		fd_set_cloexec(passed[n_passed].fd, true);
		if (names)
			names += length + (names[length] == ':');
	}
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
}

static bool is_stored(const char *name)
{
	return !strcmp(name, STORED_STATE) || !strncmp(name, STORED_FD, strlen(STORED_FD));
}

static int activation_take_at(struct passed *p)
{
	int fd = p->fd;

	p->fd = -1;
	return fd;
}

int activation_take(const char *name)
{
	look_at_passed();
	for (size_t i = 0; i < n_passed; i++) {
		if (passed[i].fd >= 0 && !strcmp(passed[i].name, name))
			return activation_take_at(&passed[i]);
	}
	return -1;
}

int activation_take_socket(void)
{
	look_at_passed();
	for (size_t i = 0; i < n_passed; i++) {
		if (passed[i].fd >= 0 && !is_stored(passed[i].name))
			return activation_take_at(&passed[i]);
	}
	return -1;
}

void activation_forget(const char *prefix, void (*fn)(const char *name))
{
	for (size_t i = 0; i < n_passed; i++) {
		if (strncmp(passed[i].name, prefix, strlen(prefix)) != 0)
			continue;
		fn(passed[i].name);
		passed[i].fd = fd_close(passed[i].fd);
	}
}
