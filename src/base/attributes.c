/* SPDX-License-Identifier: MIT */
#include "base/attributes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

static int allowed(int r)
{
	return r < 0 && errno != EPERM && errno != EINVAL && errno != ENOTSUP ? -errno : 0;
}

/* To others than root a group of their own is allowed. */
static uid_t owner(uid_t uid)
{
	return geteuid() == 0 ? uid : (uid_t)-1;
}

int owner_copy(int to, uid_t uid, gid_t gid)
{
	return allowed(fchown(to, owner(uid), gid));
}

int owner_copy_at(int dirfd, const char *name, uid_t uid, gid_t gid)
{
	return allowed(fchownat(dirfd, name, owner(uid), gid, AT_SYMLINK_NOFOLLOW));
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* What fgetxattr() or flistxattr() gives, however long, to be freed; one that has become longer meanwhile is asked for again. */
static ssize_t get(int fd, const char *name, char **out)
{
	for (;;) {
		ssize_t n = name ? fgetxattr(fd, name, NULL, 0) : flistxattr(fd, NULL, 0);

		free(*out);
		*out = NULL;
		if (n <= 0)
			return n;
		*out = malloc((size_t)n);
		if (!*out)
			return -1;
		n = name ? fgetxattr(fd, name, *out, (size_t)n) : flistxattr(fd, *out, (size_t)n);
		if (n >= 0 || errno != ERANGE)
			return n;
	}
}

typedef void (*given_fn)(void *arg, const char *name, const void *value, size_t size);

static int copy_one(int from, int to, const char *name, given_fn given, void *arg)
{
	char *value = NULL;
	ssize_t n = get(from, name, &value);
	int r = 0;

	if (n < 0)
		r = errno == ENODATA || errno == EACCES ? 0 : allowed(-1);
	else if (fsetxattr(to, name, n ? value : "", (size_t)n, 0) < 0)
		r = allowed(-1);
	else if (given)
		given(arg, name, value, (size_t)n);
	free(value);
	return r;
}

/* A label is what the place of the file gives it. */
static bool is_wanted(const char *name, bool user_only)
{
	return user_only ? !strncmp(name, "user.", 5) : strcmp(name, "security.selinux") != 0;
}

/* What a new file has got from its directory, and the other one has not. */
static int drop_inherited(int from, int to)
{
	static const char lists[][32] = { "system.posix_acl_access", "system.posix_acl_default" };
	int r = 0;

	if (flistxattr(to, NULL, 0) <= 0)
		return 0;
	for (size_t i = 0; r == 0 && i < 2; i++) {
		if (fgetxattr(to, lists[i], NULL, 0) > 0 && fgetxattr(from, lists[i], NULL, 0) < 0 && errno == ENODATA)
			r = allowed(fremovexattr(to, lists[i]));
	}
	return r;
}

int attributes_copy(int from, int to, bool user_only, given_fn given, void *arg)
{
	char *list = NULL, **names = NULL;
	ssize_t size = get(from, NULL, &list);
	size_t n = 0;
	int r = size < 0 ? allowed(-1) : 0;

	if (r == 0)
		r = drop_inherited(from, to);
	if (size <= 0 || r < 0) {
		free(list);
		return r;
	}
	for (const char *p = list; p < list + size; p += strlen(p) + 1)
		n++;
	names = malloc(n * sizeof *names);
	n = 0;
	for (char *p = list; names && p < list + size; p += strlen(p) + 1) {
		if (is_wanted(p, user_only))
			names[n++] = p;
	}
	if (!names)
		r = -ENOMEM;
	else if (n)
		qsort(names, n, sizeof *names, by_name);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = copy_one(from, to, names[i], given, arg);
	free(names);
	free(list);
	return r;
}

/* Are those of `a` the same in `b`? */
static bool are_in(int a, int b)
{
	char *list = NULL, *one = NULL, *other = NULL;
	ssize_t size = get(a, NULL, &list);
	bool same = true;

	for (const char *p = list; same && size > 0 && p < list + size; p += strlen(p) + 1) {
		ssize_t n = is_wanted(p, false) ? get(a, p, &one) : -1;

		same = n < 0 || (get(b, p, &other) == n && (n == 0 || !memcmp(one, other, (size_t)n)));
	}
	free(one);
	free(other);
	free(list);
	return same;
}

bool attributes_equal(int a, int b)
{
	return are_in(a, b) && are_in(b, a);
}
