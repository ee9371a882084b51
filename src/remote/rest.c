/* SPDX-License-Identifier: MIT */
#include "remote/rest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "remote/hash.h"

#define REST_SECONDS 60

static bool is_own(const char *dir)
{
	struct stat st;

	return (mkdir(dir, 0700) == 0 || errno == EEXIST) && lstat(dir, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == geteuid() &&
	       !(st.st_mode & 022);
}

/* In a directory that is this user's alone, who need not be the daemon's; NULL: there is none. */
static char *mark_of(const char *dir, const char *url)
{
	_cleanup_free_ char *other = xasprintf("/tmp/fixd-%u", (unsigned)geteuid());
	char hash[HASH_HEX_SIZE];

	if (!dir)
		return NULL;
	if (!is_own(dir))
		dir = is_own(other) ? other : NULL;
	hash_of(url, strlen(url), hash);
	return dir ? xasprintf("%s/remote-%.16s", dir, hash) : NULL;
}

long rest_lasts(const char *dir, const char *url)
{
	_cleanup_free_ char *mark = mark_of(dir, url);
	struct stat st;
	time_t now = time(NULL);

	if (!mark || lstat(mark, &st) < 0 || st.st_mtime > now || st.st_mtime <= now - REST_SECONDS)
		return 0;
	return (long)(st.st_mtime + REST_SECONDS - now);
}

void rest_end(const char *dir, const char *url)
{
	_cleanup_free_ char *mark = mark_of(dir, url);

	if (mark)
		unlink(mark);
}

void rest_begin(const char *dir, const char *url)
{
	_cleanup_free_ char *mark = mark_of(dir, url);
	_cleanup_fd_ int fd = mark ? open(mark, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600) : -1;

	if (fd >= 0)
		futimens(fd, NULL);
}
