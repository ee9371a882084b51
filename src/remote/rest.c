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
#include "base/clock.h"
#include "base/fd.h"
#include "remote/hash.h"

#define REST_SECONDS 60

static bool is_own(const char *dir)
{
	struct stat st;

	return (mkdir(dir, 0700) == 0 || errno == EEXIST) && lstat(dir, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == geteuid() &&
	       !(st.st_mode & 022);
}

/* A file in a directory that is this user's alone, who need not be the daemon's; NULL: there is none. */
static char *mark_of(const char *dir, const char *url, const char *what)
{
	_cleanup_free_ char *other = xasprintf("/tmp/fixd-%u", (unsigned)geteuid());
	char hash[HASH_HEX_SIZE];

	if (!dir)
		return NULL;
	if (!is_own(dir))
		dir = is_own(other) ? other : NULL;
	hash_of(url, strlen(url), hash);
	return dir ? xasprintf("%s/remote-%.16s%s", dir, hash, what) : NULL;
}

static const char *const names[] = { [REST_ALL] = "", [REST_LOOKUPS] = "-look-ups", [REST_UPLOADS] = "-uploads" };
#define LOST "-lost"

static long lasts(const char *mark)
{
	struct stat st;
	time_t now = time(NULL);

	if (!mark || lstat(mark, &st) < 0 || st.st_mtime > now || st.st_mtime <= now - REST_SECONDS)
		return 0;
	return (long)(st.st_mtime + REST_SECONDS - now);
}

long rest_lasts(const char *dir, const char *url, enum rest what)
{
	_cleanup_free_ char *mark = mark_of(dir, url, names[what]);

	return lasts(mark);
}

static void forget(const char *dir, const char *url, const char *what)
{
	_cleanup_free_ char *mark = mark_of(dir, url, what);

	if (mark)
		unlink(mark);
}

void rest_end(const char *dir, const char *url)
{
	forget(dir, url, names[REST_ALL]);
	forget(dir, url, names[REST_LOOKUPS]);
	forget(dir, url, names[REST_UPLOADS]);
	forget(dir, url, LOST);
}

void rest_begin(const char *dir, const char *url, enum rest what)
{
	_cleanup_free_ char *mark = mark_of(dir, url, names[what]);
	_cleanup_fd_ int fd = mark ? open(mark, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600) : -1;

	if (fd >= 0)
		futimens(fd, NULL);
	forget(dir, url, LOST);
}

void rest_gained(const char *dir, const char *url)
{
	forget(dir, url, LOST);
}

/* The size of a file without content is the sum, in microseconds: it is short of what several processes add in the same moment. */
int64_t rest_lost(const char *dir, const char *url, int64_t time)
{
	_cleanup_free_ char *mark = mark_of(dir, url, LOST);
	bool first = lasts(mark) == 0;
	_cleanup_fd_ int fd = mark && (time || !first) ? open(mark, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600) : -1;
	struct stat st;
	int64_t sum = time;

	if (fd < 0 || fstat(fd, &st) < 0)
		return time;
	sum += first ? 0 : st.st_size * 1000;
	if (!time)
		return sum;
	return ftruncate(fd, sum / 1000) < 0 || futimens(fd, NULL) < 0 ? time : sum;
}
