/* SPDX-License-Identifier: MIT */
#include "image/relocate.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "base/fd.h"
#include "image/memfd.h"

#define CHUNK ((size_t)64 << 10)

const struct move *relocate_find(const struct move *moves, size_t n, uint64_t v)
{
	const struct move *ends = NULL;

	for (size_t i = 0; i < n; i++) {
		if (v - moves[i].from < moves[i].size)
			return &moves[i];
		/* Unless something else that moves begins there. */
		if (v - moves[i].from == moves[i].size)
			ends = &moves[i];
	}
	return ends;
}

size_t relocate_words(void *data, size_t size, const struct move *moves, size_t n)
{
	uint64_t *words = data, lowest = UINT64_MAX, highest = 0;
	size_t changed = 0;

	for (size_t i = 0; i < n; i++) {
		lowest = moves[i].from < lowest ? moves[i].from : lowest;
		highest = moves[i].from + moves[i].size > highest ? moves[i].from + moves[i].size : highest;
	}
	for (size_t i = 0; i < size / sizeof *words; i++) {
		const struct move *m = words[i] >= lowest && words[i] <= highest ? relocate_find(moves, n, words[i]) : NULL;

		if (m && m->to != m->from) {
			words[i] += m->to - m->from;
			changed++;
		}
	}
	return changed;
}

/* Through a buffer that stays in the cache: a mapping of the copy would cost a fault for each page of it. */
static int copy_words(int fd, int copy, size_t size, const struct move *moves, size_t n)
{
	void *buf = malloc(CHUNK);
	int r = buf ? 0 : -ENOMEM;

	for (size_t at = 0; r == 0 && at < size; at += CHUNK) {
		size_t part = size - at < CHUNK ? size - at : CHUNK;

		r = fd_pread_all(fd, buf, part, (off_t)at) == (ssize_t)part ? 0 : -EIO;
		if (r == 0) {
			relocate_words(buf, part, moves, n);
			r = fd_write_all(copy, buf, part);
		}
	}
	free(buf);
	return r;
}

int relocate_copy(int fd, size_t size, const struct move *moves, size_t n)
{
	_cleanup_fd_ int copy = memfd_new("fixd:relocated");
	struct rlimit files;
	int r = copy < 0 ? copy : 0;

	/* Beyond it a signal would end the program. */
	if (r == 0 && getrlimit(RLIMIT_FSIZE, &files) == 0 && files.rlim_cur < size)
		r = -EFBIG;
	if (r == 0)
		r = copy_words(fd, copy, size, moves, n);
	if (r == 0)
		r = memfd_seal(copy);
	return r < 0 ? r : fd_steal(&copy);
}
