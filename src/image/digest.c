/* SPDX-License-Identifier: MIT */
#include "image/digest.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/fd.h"

#define AS_XXH(s) ((XXH3_state_t *)(void *)(s))

struct digest_stream *digest_begin(void)
{
	XXH3_state_t *s = XXH3_createState();

	if (s)
		XXH3_128bits_reset(s);
	return (struct digest_stream *)(void *)s;
}

void digest_add(struct digest_stream *s, const void *data, size_t size)
{
	XXH3_128bits_update(AS_XXH(s), data, size);
}

void digest_add_zeros(struct digest_stream *s, uint64_t size)
{
	static const char zeros[65536];

	for (uint64_t n; size > 0; size -= n) {
		n = size < sizeof zeros ? size : sizeof zeros;
		digest_add(s, zeros, (size_t)n);
	}
}

struct digest digest_end(struct digest_stream *s)
{
	XXH128_hash_t h = XXH3_128bits_digest(AS_XXH(s));

	digest_drop(s);
	return (struct digest){ .low = h.low64, .high = h.high64 };
}

void digest_drop(struct digest_stream *s)
{
	XXH3_freeState(AS_XXH(s));
}

struct digest digest_bytes(const void *data, size_t size)
{
	XXH128_hash_t h = XXH3_128bits(data, size);

	return (struct digest){ .low = h.low64, .high = h.high64 };
}

int digest_fd(int fd, struct digest *out)
{
	struct digest_stream *s = digest_begin();
	char buf[64 << 10];
	ssize_t n;

	if (!s)
		return -ENOMEM;
	while ((n = read(fd, buf, sizeof buf)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			int r = -errno;

			digest_drop(s);
			return r;
		}
		digest_add(s, buf, (size_t)n);
	}
	*out = digest_end(s);
	return 0;
}

/* What the name itself is: its type and mode, and where a link leads. */
static void add_looks(struct digest_stream *all, const char *path)
{
	char target[PATH_MAX];
	struct stat st;
	ssize_t n;

	if (lstat(path, &st) < 0)
		return;
	digest_add(all, &st.st_mode, sizeof st.st_mode);
	n = S_ISLNK(st.st_mode) ? readlink(path, target, sizeof target) : 0;
	if (n > 0)
		digest_add(all, target, (size_t)n);
}

int digest_files(char *const *paths, struct digest *out)
{
	struct digest_stream *all = digest_begin();

	if (!all)
		return -ENOMEM;
	for (size_t i = 0; paths && paths[i]; i++) {
		_cleanup_fd_ int fd = open(paths[i], O_RDONLY | O_CLOEXEC | O_NONBLOCK);
		struct digest one = { 0 };
		int r = fd < 0 ? -errno : digest_fd(fd, &one);

		digest_add(all, paths[i], strlen(paths[i]) + 1);
		add_looks(all, paths[i]);
		digest_add(all, &r, sizeof r);
		digest_add(all, &one, sizeof one);
	}
	*out = digest_end(all);
	return 0;
}

bool digest_equal(struct digest a, struct digest b)
{
	return a.low == b.low && a.high == b.high;
}

char *digest_format(struct digest d, char buf[DIGEST_HEX_SIZE])
{
	snprintf(buf, DIGEST_HEX_SIZE, "%016" PRIx64 "%016" PRIx64, d.high, d.low);
	return buf;
}
