/* SPDX-License-Identifier: MIT */
#include "remote/key.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"

#define DESCRIPTION_MAX ((size_t)64 << 20)
#define CHUNK ((size_t)256 << 10)

/* With its length, so that two strings are not one of another cut. */
static void add(crypto_hash_sha256_state *state, const void *data, size_t size)
{
	unsigned char length[8];

	for (size_t i = 0; i < sizeof length; i++)
		length[i] = (unsigned char)((uint64_t)size >> 8 * i);
	crypto_hash_sha256_update(state, length, sizeof length);
	crypto_hash_sha256_update(state, data, size);
}

static int add_file(crypto_hash_sha256_state *state, const char *path)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	_cleanup_free_ unsigned char *buf = xcalloc(1, CHUNK);
	crypto_hash_sha256_state content;
	unsigned char hash[crypto_hash_sha256_BYTES];
	ssize_t n = fd < 0 ? -1 : 1;

	crypto_hash_sha256_init(&content);
	while (n > 0) {
		n = read(fd, buf, CHUNK);
		if (n < 0 && errno == EINTR)
			n = 1;
		else if (n > 0)
			crypto_hash_sha256_update(&content, buf, (size_t)n);
	}
	if (n < 0) {
		int err = errno;

		fprintf(stderr, "fixd-remote: %s cannot be read: %s\n", path, strerror(err));
		return -err;
	}
	crypto_hash_sha256_final(&content, hash);
	add(state, hash, sizeof hash);
	return 0;
}

int key_of(int description, char key[HASH_HEX_SIZE])
{
	char path[FD_PATH_SIZE];
	_cleanup_free_ char *text = NULL;
	crypto_hash_sha256_state state;
	size_t size = 0;
	int r = file_read_all(fd_path(description, path), DESCRIPTION_MAX, &text, &size);
	const char *p = text;

	if (r < 0 || (size && text[size - 1])) {
		fprintf(stderr, "fixd-remote: the description cannot be read: %s\n", strerror(r < 0 ? -r : EBADMSG));
		return r < 0 ? r : -EBADMSG;
	}
	crypto_hash_sha256_init(&state);
	while (r == 0 && p < text + size) {
		const char *name = p, *value = name + strlen(name) + 1;

		if (value >= text + size) {
			fprintf(stderr, "fixd-remote: the description ends behind '%s'\n", name);
			return -EBADMSG;
		}
		add(&state, name, strlen(name));
		if (*name == '@')
			r = add_file(&state, value);
		else
			add(&state, value, strlen(value));
		p = value + strlen(value) + 1;
	}
	hash_end(&state, key);
	return r;
}
