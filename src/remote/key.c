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
static void add(struct hash *h, const void *data, size_t size)
{
	unsigned char length[8];

	for (size_t i = 0; i < sizeof length; i++)
		length[i] = (unsigned char)((uint64_t)size >> 8 * i);
	hash_add(h, length, sizeof length);
	hash_add(h, data, size);
}

static int put_file(struct text *parts, const char *path)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	int err = fd < 0 ? errno : 0;
	_cleanup_free_ unsigned char *buf = xcalloc(1, CHUNK);
	struct hash *content = hash_begin();
	char hash[HASH_HEX_SIZE];
	ssize_t n = 1;

	while (!err && n > 0) {
		n = read(fd, buf, CHUNK);
		if (n > 0)
			hash_add(content, buf, (size_t)n);
		else if (n < 0 && errno == EINTR)
			n = 1;
		else if (n < 0)
			err = errno;
	}
	hash_end(content, hash);
	if (err) {
		fprintf(stderr, "fixd-remote: %s cannot be read: %s\n", path, strerror(err));
		return -err;
	}
	text_add(parts, hash, sizeof hash);
	return 0;
}

/* The string behind `s`. */
static const char *next(const char *s)
{
	return s + strlen(s) + 1;
}

/* Pairs of strings. */
static int read_pairs(int fd, struct text *out)
{
	char path[FD_PATH_SIZE];
	_cleanup_free_ char *data = NULL;
	size_t size = 0, strings = 0;
	int r = file_read_all(fd_path(fd, path), DESCRIPTION_MAX, &data, &size);

	for (size_t i = 0; r == 0 && i < size; i++)
		strings += !data[i];
	if (r == 0 && (!size || data[size - 1] || strings % 2))
		r = -EBADMSG;
	if (r == 0)
		text_add(out, data, size);
	else
		fprintf(stderr, "fixd-remote: the description cannot be read: %s\n", strerror(-r));
	return r;
}

int key_read(int fd, struct text *parts)
{
	return read_pairs(fd, parts);
}

int key_resolve(int description, struct text *parts)
{
	_cleanup_text_ struct text pairs = { 0 };
	int r = read_pairs(description, &pairs);

	for (const char *name = pairs.data; r == 0 && name < pairs.data + pairs.size; name = next(next(name))) {
		const char *value = next(name);

		text_puts(parts, *name == '@' ? "#" : "");
		text_add(parts, *name == '@' ? name + 1 : name, strlen(*name == '@' ? name + 1 : name) + 1);
		if (*name == '@')
			r = put_file(parts, value);
		else
			text_add(parts, value, strlen(value) + 1);
	}
	return r;
}

void key_of(const struct text *parts, char key[HASH_HEX_SIZE])
{
	struct hash *h = hash_begin();

	for (const char *s = parts->data; s < parts->data + parts->size; s = next(s))
		add(h, s, strlen(s));
	hash_end(h, key);
}

const char *key_difference(const struct text *a, const struct text *b)
{
	const char *p = a->data, *q = b->data;

	while (p < a->data + a->size && q < b->data + b->size) {
		if (strcmp(p, q) != 0 || strcmp(next(p), next(q)) != 0)
			return p;
		p = next(next(p));
		q = next(next(q));
	}
	return p < a->data + a->size ? p : q < b->data + b->size ? q : NULL;
}
