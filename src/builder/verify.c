/* SPDX-License-Identifier: MIT */
/*
 * Verification. Another process has other addresses, and libraries have other seeds in it: what an image has of those is found by who
 * uses it there. The process is told by its arguments: plugin, function, root, and address, size and descriptor of each image.
 */
#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "builder/work.h"
#include "wire/wire.h"

int plugin_verify(struct work *w)
{
	size_t n = w->job.n_dependencies + 1;
	char **argv = xcalloc(5 + n + 1, sizeof *argv), **next = argv;
	pid_t pid;
	int r = 0;

	*next++ = xstrdup("fixd-builder");
	*next++ = xstrdup("--verify");
	*next++ = xstrdup(w->job.source);
	*next++ = xstrdup(w->job.verify);
	*next++ = xasprintf("%" PRIx64, w->job.address + w->root);
	*next++ = xasprintf("%" PRIx64 ":%" PRIx64 ":%d", w->job.address, (uint64_t)w->space.used, w->image);
	r = fd_set_cloexec(w->image, false);
	for (size_t i = 0; r == 0 && i < w->job.n_dependencies; i++) {
		const struct job_dependency *d = &w->job.dependencies[i];

		if (d->size == 0)
			continue;
		*next++ = xasprintf("%" PRIx64 ":%" PRIx64 ":%d", d->address, d->size, w->dep_fds[i]);
		r = fd_set_cloexec(w->dep_fds[i], false);
	}
	pid = r < 0 ? r : work_spawn("/proc/self/exe", argv, 1);
	list_free(argv);
	if (pid < 0)
		return work_fail(w, pid, "no process to verify the image in: %s", strerror(-r));
	return work_wait(w, pid, "what was built is not right in another process: verify");
}

/* Of its own, to be written to: as those who test with it have it. */
static bool map_image(const char *words)
{
	uint64_t address, size;
	int fd;
	void *p;

	if (sscanf(words, "%" SCNx64 ":%" SCNx64 ":%d", &address, &size, &fd) != 3)
		return false;
	if (size == 0)
		return true;
	p = mmap((void *)(uintptr_t)address, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED_NOREPLACE, fd, 0);
	return p == (void *)(uintptr_t)address;
}

_Noreturn void plugin_verify_here(char **argv)
{
	int (*verify)(const void *root) = NULL;
	void *plugin = dlopen(argv[0], RTLD_NOW | RTLD_LOCAL);
	const void *root = (const void *)(uintptr_t)strtoull(argv[2], NULL, 16);
	int r;

	for (char **image = argv + 3; *image; image++) {
		if (!map_image(*image)) {
			fprintf(stderr, "an image cannot be mapped: %s\n", *image);
			_exit(EXIT_FAILURE);
		}
	}
	if (!plugin) {
		fprintf(stderr, "the plugin cannot be loaded: %s\n", dlerror());
		_exit(EXIT_FAILURE);
	}
	*(void **)&verify = dlsym(plugin, argv[1]);
	if (!verify) {
		fprintf(stderr, "%s has no function '%s'\n", argv[0], argv[1]);
		_exit(EXIT_FAILURE);
	}
	r = verify(root);
	fflush(NULL);
	_exit(r ? EXIT_FAILURE : EXIT_SUCCESS);
}
