/* SPDX-License-Identifier: MIT */
#include "wire/default_socket.h"

#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum place { IN_RUNTIME_DIR, IN_RUN_USER, IN_TMP, IN_ACCOUNT, IN_HOME, N_PLACES };

#define TMP "/tmp"
#define ROOM 4096
#define SOCKET_SIZE (sizeof((struct sockaddr_un *)NULL)->sun_path)

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

/* It is there, or the kernel lets this user make it. */
static bool can_be_made(const char *path)
{
	char up[ROOM];

	if (!set(up, sizeof up, path, ""))
		return false;
	while (!is_there(up)) {
		char *slash = strrchr(up, '/');

		if (!slash || slash == up)
			return false;
		*slash = '\0';
	}
	return access(up, W_OK) == 0;
}

/* Whatever HOME says, which is another one for each of the user's programs. */
static bool account_home(char *out, size_t size)
{
	char buf[ROOM];
	struct passwd p, *found;

	return getpwuid_r(geteuid(), &p, buf, sizeof buf, &found) == 0 && found && *found->pw_dir == '/' &&
	       set(out, size, found->pw_dir, "");
}

static bool in_tmp(char *out, size_t size)
{
	char directory[64];

	snprintf(directory, sizeof directory, TMP "/fixd-%u", (unsigned)geteuid());
	return (is_there(directory) ? is_own(directory) : can_be_made(directory)) && set(out, size, directory, "");
}

/* The directory that the user's own socket would be in; false: there is none. */
static bool own_directory(enum place k, char *out, size_t size)
{
	const char *base = secure_getenv(k == IN_HOME ? "HOME" : "XDG_RUNTIME_DIR");
	char run[64], home[ROOM];

	switch (k) {
	case IN_RUNTIME_DIR:
		return base && *base == '/' && is_own(base) && set(out, size, base, "/fixd");
	case IN_RUN_USER:
		snprintf(run, sizeof run, "/run/user/%u", (unsigned)geteuid());
		return is_own(run) && set(out, size, run, "/fixd");
	case IN_TMP:
		return in_tmp(out, size);
	case IN_ACCOUNT:
		/* Asking for it may take long. */
		return !in_tmp(out, size) && account_home(home, sizeof home) && is_own(home) && set(out, size, home, "/.cache/fixd");
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
	return set(out + n, size - n, "/socket", "") && strlen(out) < SOCKET_SIZE;
}

static bool can_listen_in(enum place k, char *out, size_t size)
{
	char directory[ROOM];

	return own_directory(k, directory, sizeof directory) && can_be_made(directory) && socket_in(k, out, size);
}

static bool find_place(enum place first, char *out, size_t size)
{
	for (enum place k = first; k < N_PLACES; k++) {
		if (can_listen_in(k, out, size))
			return true;
	}
	return false;
}

bool default_socket_to_listen(char *out, size_t size)
{
	if (can_listen_in(IN_RUNTIME_DIR, out, size))
		return true;
	/* Root's is the machine's; so is that of a user who was given its directory. */
	if (geteuid() == 0 ? can_be_made(SYSTEM_DIR) : access(SYSTEM_DIR, W_OK) == 0)
		return set(out, size, SYSTEM_SOCKET, "");
	return find_place(IN_RUN_USER, out, size);
}

bool default_socket_alias(const char *listening, char *out, size_t size)
{
	return socket_in(IN_RUNTIME_DIR, out, size) && !strcmp(out, listening) && find_place(IN_RUN_USER, out, size) &&
	       strcmp(out, listening) != 0;
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
