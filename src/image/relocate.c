/* SPDX-License-Identifier: MIT */
#include "image/relocate.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "image/memfd.h"

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

int relocate_copy(int fd, size_t size, const struct move *moves, size_t n)
{
	_cleanup_fd_ int copy = memfd_new("fixd:relocated");
	void *p;
	int r = copy < 0 ? copy : ftruncate(copy, (off_t)size) < 0 ? -errno : 0;

	if (r < 0)
		return r;
	/* Pages that the machine does not have are refused here, not by a signal while they are written. */
	do {
		r = -posix_fallocate(copy, 0, (off_t)size);
	} while (r == -EINTR);
	if (r < 0)
		return r;
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, copy, 0);
	if (p == MAP_FAILED)
		return -errno;
	r = fd_pread_all(fd, p, size, 0) == (ssize_t)size ? 0 : -EIO;
	if (r == 0)
		relocate_words(p, size, moves, n);
	munmap(p, size);
	if (r == 0)
		r = memfd_seal(copy);
	return r < 0 ? r : fd_steal(&copy);
}
