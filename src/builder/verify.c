/* SPDX-License-Identifier: MIT */
/*
 * Verification. Another process has other addresses, and libraries have other seeds in it: what an image has of those is found by who
 * uses it there. The process is told by its arguments: plugin, function, the descriptor of a `struct verdict`, root, and
 * address, size and descriptor of each image. A function that does not return has not said that the image is right, whatever the status is
 * that it ends the process with.
 */
#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "builder/work.h"
#include "image/memfd.h"
#include "wire/wire.h"

/* In memory of both processes: the function may close what it finds. */
struct verdict {
	int has_returned, result;
};

static struct verdict *map_verdict(int fd)
{
	return ftruncate(fd, sizeof(struct verdict)) < 0 ? MAP_FAILED
							 : mmap(NULL, sizeof(struct verdict), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
}

#define WRONG "what was built is not right in another process: "

static int verify_start(struct work *w, int verdict, pid_t *pid)
{
	size_t n = w->job.n_dependencies + 1;
	char **argv = xcalloc(6 + n + 1, sizeof *argv), **next = argv;
	int r;

	*next++ = xstrdup("fixd-builder");
	*next++ = xstrdup("--verify");
	*next++ = xstrdup(w->job.source);
	*next++ = xstrdup(w->job.verify);
	*next++ = xasprintf("%d", verdict);
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
	*pid = r < 0 ? r : work_spawn("/proc/self/exe", argv, 1);
	list_free(argv);
	return *pid < 0 ? (int)*pid : 0;
}

static int judge(struct work *w, const struct verdict *v, int status)
{
	_cleanup_free_ char *how = NULL;

	if (v->has_returned)
		return v->result == 0 ? 0 : work_fail(w, -EIO, WRONG "%s() returned %d", w->job.verify, v->result);
	how = work_describe_end(status);
	return work_fail(w, -EIO, WRONG "verify %s%s", how, status == 0 ? ", and did not return" : "");
}

int plugin_verify(struct work *w)
{
	_cleanup_fd_ int fd = memfd_new("fixd:verdict");
	struct verdict *v = fd < 0 || fd_set_cloexec(fd, false) < 0 ? MAP_FAILED : map_verdict(fd);
	pid_t pid = -1;
	int status, r = v == MAP_FAILED ? -errno : verify_start(w, fd, &pid);

	if (r < 0)
		return work_fail(w, r, "no process to verify the image in: %s", strerror(-r));
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return work_fail(w, -errno, "verify cannot be waited for: %s", strerror(errno));
	}
	return judge(w, v, status);
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
	struct verdict *v = map_verdict(atoi(argv[2]));
	void *plugin = dlopen(argv[0], RTLD_NOW | RTLD_LOCAL);
	const void *root = (const void *)(uintptr_t)strtoull(argv[3], NULL, 16);

	if (v == MAP_FAILED) {
		perror("no memory for what verify returns");
		_exit(EXIT_FAILURE);
	}
	for (char **image = argv + 4; *image; image++) {
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
	v->result = verify(root);
	v->has_returned = 1;
	fflush(NULL);
	_exit(EXIT_SUCCESS);
}
