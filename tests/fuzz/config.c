/* SPDX-License-Identifier: MIT */
/* The ini file: what is refused is refused with words, what is read can be described and freed. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "base/text.h"
#include "config/config.h"
#include "image/memfd.h"
#include "input.h"

static int fd = -1;

void fuzz_end(void)
{
	fd = fd_close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_text_ struct text problems = { 0 };
	struct config *c = NULL;
	char path[32];

	if (fd < 0)
		fd = memfd_new("fuzz");
	if (fd < 0 || ftruncate(fd, 0) < 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
		abort();
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	if (config_load(path, &c, &problems) < 0) {
		if (!problems.size)
			abort();
		return 0;
	}
	for (size_t f = 0; f < c->n_fixtures; f++)
		free(config_describe(c->fixtures[f]));
	config_free(c);
	return 0;
}
