/* SPDX-License-Identifier: MIT */
#include "wire/default_socket.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum place { IN_RUNTIME_DIR, IN_RUN_USER, IN_TMP, IN_HOME, N_PLACES };

static bool is_own(const char *directory)
{
	struct stat st;

	return lstat(directory, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == geteuid() && !(st.st_mode & 022);
}

static bool is_there(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

static bool set(char *out, size_t size, const char *base, const char *behind)
{
	return (size_t)snprintf(out, size, "%s%s", base, behind) < size;
}

/* The directory that the user's own socket would be in; false: there is none. */
static bool own_directory(enum place k, char *out, size_t size)
{
	const char *base = secure_getenv(k == IN_HOME ? "HOME" : "XDG_RUNTIME_DIR");
	char run[64];

	switch (k) {
	case IN_RUNTIME_DIR:
		return base && *base == '/' && is_own(base) && set(out, size, base, "/fixd");
	case IN_RUN_USER:
		snprintf(run, sizeof run, "/run/user/%u", (unsigned)geteuid());
		return is_own(run) && set(out, size, run, "/fixd");
	case IN_TMP:
		snprintf(run, sizeof run, "/tmp/fixd-%u", (unsigned)geteuid());
		return (!is_there(run) || is_own(run)) && set(out, size, run, "");
	default:
		return base && *base == '/' && is_own(base) && set(out, size, base, "/.cache/fixd");
	}
}

static bool socket_in(enum place k, char *out, size_t size)
{
	size_t n;

	if (!own_directory(k, out, size))
		return false;
	n = strlen(out);
	return set(out + n, size - n, "/socket", "");
}

bool default_socket_to_listen(char *out, size_t size)
{
	if (socket_in(IN_RUNTIME_DIR, out, size))
		return true;
	/* Root's is the machine's; so is that of a user who was given its directory. */
	if (geteuid() == 0 || access("/run/fixd", W_OK) == 0)
		return set(out, size, SYSTEM_SOCKET, "");
	for (enum place k = IN_RUN_USER; k < N_PLACES; k++) {
		if (socket_in(k, out, size))
			return true;
	}
	return false;
}

bool default_socket_behind(const char *dead, char *out, size_t size)
{
	bool passed = false;

	for (enum place k = 0; k < N_PLACES; k++) {
		if (!socket_in(k, out, size) || !is_there(out))
			continue;
		if (passed)
			return true;
		passed = !strcmp(out, dead);
	}
	return passed && access(SYSTEM_SOCKET, W_OK) == 0 && set(out, size, SYSTEM_SOCKET, "");
}

void default_socket_to_connect(char *out, size_t size)
{
	for (enum place k = 0; k < N_PLACES; k++) {
		if (socket_in(k, out, size) && is_there(out))
			return;
	}
	if (access(SYSTEM_SOCKET, W_OK) == 0 || !default_socket_to_listen(out, size))
		set(out, size, SYSTEM_SOCKET, "");
}
