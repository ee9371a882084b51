/* SPDX-License-Identifier: MIT */
/* The source whose image is objects: a plugin, run here, filling an arena. */
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "builder/describe.h"
#include "builder/descriptors.h"
#include "builder/host.h"
#include "builder/work.h"
#include "fixd-builder.h"
#include "image/arena.h"
#include "image/audit.h"
#include "wire/wire.h"

#define STRAYS_REPORTED 8

/* Of the function, where the ini file names none. */
#define LONG_NAME "fixd_builder_main"
#define SHORT_NAME "fixd_build"

struct hosted {
	struct fixd_builder builder; /* first */
	struct work *work;
	const char *symbol; /* the name of its function */
	struct arena *arena;
	const char *root;
	struct descriptions descriptions;
	/* Not allocated while the plugin's malloc() is the arena's. */
	char (*paths)[32];		 /* of the dependencies */
	char said[JOB_SENTENCE_MAX + 1]; /* by fixd_builder_fail(), the first time */
};

static void *host_alloc(struct fixd_builder *b, size_t align, size_t size)
{
	return arena_alloc(((struct hosted *)b)->arena, size, align);
}

static void *host_realloc(struct fixd_builder *b, void *p, size_t size)
{
	return arena_realloc(((struct hosted *)b)->arena, p, size);
}

static void host_free(struct fixd_builder *b, void *p)
{
	arena_free(((struct hosted *)b)->arena, p);
}

static void host_set_root(struct fixd_builder *b, const void *root)
{
	((struct hosted *)b)->root = root;
}

static int find_dependency(const struct work *w, const char *name)
{
	for (size_t i = 0; i < w->job.n_dependencies; i++) {
		const struct job_dependency *d = &w->job.dependencies[i];

		if (d->direct && !strcmp(d->name, name))
			return (int)i;
	}
	return -1;
}

static const void *host_dep(struct fixd_builder *b, const char *name, size_t *size)
{
	struct work *w = ((struct hosted *)b)->work;
	int i = find_dependency(w, name);
	const struct job_dependency *d = &w->job.dependencies[i < 0 ? 0 : i];

	if (size)
		*size = i < 0 ? 0 : d->size;
	if (i < 0)
		return NULL;
	return d->size ? (const void *)(uintptr_t)(d->address + d->root) : "";
}

static const char *host_dep_path(struct fixd_builder *b, const char *name)
{
	struct hosted *h = (struct hosted *)b;
	int i = find_dependency(h->work, name);
	const char *tree = i < 0 ? NULL : h->work->job.dependencies[i].path;

	return tree || i < 0 ? tree : h->paths[i];
}

static void host_fail(struct fixd_builder *b, const char *sentence)
{
	struct hosted *h = (struct hosted *)b;

	if (!*h->said)
		snprintf(h->said, sizeof h->said, "%s", *sentence ? sentence : "it failed");
}

static void host_describe(struct fixd_builder *b, const void *p, size_t n, size_t size, const char *type)
{
	describe_add(&((struct hosted *)b)->descriptions, p, n, size, type);
}

static const struct builder_host host = {
	.alloc = host_alloc,
	.realloc = host_realloc,
	.free = host_free,
	.set_root = host_set_root,
	.dep = host_dep,
	.dep_path = host_dep_path,
	.fail = host_fail,
	.describe = host_describe,
};

/* An allocation that failed may explain what the plugin made of it. */
static int plugin_failed(struct hosted *h, int result)
{
	struct work *w = h->work;
	int err = arena_error(h->arena);
	char space[WORK_SPACE_SENTENCE];

	if (*h->said && err)
		return work_fail(w, err, "%s (%s)", h->said, work_space_sentence(w, err, space));
	if (*h->said)
		return work_fail(w, -EIO, "%s", h->said);
	if (err)
		return work_fail_space(w, err);
	return work_fail(w, -EIO, "%s returned %d", h->symbol, result);
}

static int call(struct hosted *h, int (*build)(struct fixd_builder *b))
{
	struct work *w = h->work;
	int r = 0, result;

	if (w->job.malloc_arena && (r = arena_enter(h->arena)) < 0)
		return work_fail(w, r, "malloc = arena does not work with this allocator: %s", strerror(-r));
	result = build(&h->builder);
	if (w->job.malloc_arena)
		arena_leave(h->arena);
	r = descriptors_check(w);
	if (r < 0)
		return r;
	return result || *h->said ? plugin_failed(h, result) : 0;
}

/* What was found, and a hint for each kind of it. */
struct strays {
	struct text found, hints;
};

static void report_stray(void *arg, size_t offset, uintptr_t value, const char *what, const char *hint)
{
	struct strays *s = arg;

	text_printf(&s->found, "\n  at offset 0x%zx: 0x%jx, in %s", offset, (uintmax_t)value, what);
	if (!s->hints.size || !strstr(s->hints.data, hint))
		text_printf(&s->hints, "\n  %s", hint);
}

static int strays_found(struct work *w, int64_t n, const struct strays *s)
{
	if (w->job.stray != JOB_STRAYS_WARN)
		return work_fail(w, -EFAULT, "%lld pointer(s) in the image point to memory that only the builder has:%s%s", (long long)n,
				 s->found.data, s->hints.data);
	fprintf(stderr, "%lld stray pointer(s), which mean nothing to a test process:%s%s\n", (long long)n, s->found.data, s->hints.data);
	return 0;
}

static int audit(struct hosted *h)
{
	struct work *w = h->work;
	struct audit_range *deps = xcalloc(w->job.n_dependencies, sizeof *deps);
	struct strays strays = { 0 };
	struct audit a = {
		.base = w->space.base,
		.size = w->space.used,
		.root = w->root,
		.dependencies = deps,
		.n_dependencies = w->job.n_dependencies,
		.stray = w->job.stray == JOB_STRAYS_ALLOW ? NULL : report_stray,
		.arg = &strays,
		.packed = &w->packed,
	};
	int64_t n;
	int r;

	for (size_t i = 0; i < w->job.n_dependencies; i++) {
		const struct job_dependency *d = &w->job.dependencies[i];

		deps[i] = (struct audit_range){ d->address, d->address + d->size };
	}
	n = audit_run(&a, STRAYS_REPORTED, &w->digest);
	free(deps);
	r = n < 0 ? work_fail(w, (int)n, "the image cannot be audited: %s", strerror((int)-n)) : n == 0 ? 0 : strays_found(w, n, &strays);
	text_deinit(&strays.found);
	text_deinit(&strays.hints);
	return r;
}

static int add_library(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)size;
	/* The builder itself and what the kernel shows have no path. */
	if (*info->dlpi_name == '/')
		list_append(arg, xstrdup(info->dlpi_name));
	return 0;
}

int plugin_load(struct work *w)
{
	if (w->plugin)
		return 0;
	descriptors_note(w);
	w->plugin = dlopen(w->job.source, RTLD_NOW | RTLD_LOCAL);
	if (!w->plugin)
		return work_fail(w, -ENOEXEC, "the plugin cannot be loaded: %s", dlerror());
	dl_iterate_phdr(add_library, &w->libraries);
	return descriptors_check(w);
}

int source_plugin(struct work *w)
{
	struct hosted h = {
		.symbol = w->job.symbol ? w->job.symbol : LONG_NAME,
		.builder = { &host, w->job.name, w->job.param ? w->job.param : "", w->job.scope_key ? w->job.scope_key : "" },
		.work = w,
	};
	int (*build)(struct fixd_builder * b);
	int r = plugin_load(w);

	if (r < 0)
		return r;
	*(void **)&build = dlsym(w->plugin, h.symbol);
	if (!build && !w->job.symbol)
		*(void **)&build = dlsym(w->plugin, h.symbol = SHORT_NAME);
	if (!build)
		return work_fail(w, -ENOEXEC, w->job.symbol ? "%s has no function '%s'" : "%s has no function '%s', nor '" LONG_NAME "'",
				 w->job.source, h.symbol);
	if (w->job.verify && !dlsym(w->plugin, w->job.verify))
		return work_fail(w, -ENOEXEC, "%s has no function '%s', which verify names", w->job.source, w->job.verify);
	h.paths = xcalloc(w->job.n_dependencies, sizeof *h.paths);
	for (size_t i = 0; i < w->job.n_dependencies; i++)
		snprintf(h.paths[i], sizeof h.paths[i], "/proc/self/fd/%d", w->dep_fds[i]);
	r = arena_new(&h.arena, &w->space);
	if (r < 0)
		return work_fail(w, r, "no arena: %s", strerror(-r));
	r = call(&h, build);
	if (r < 0)
		return r;
	if (h.root) {
		if (h.root < w->space.base || h.root >= w->space.base + w->space.used)
			return work_fail(w, -EFAULT, "fixd_builder_set_root() was given %p, which is not in the image", (void *)h.root);
		w->root = (uint64_t)(h.root - w->space.base);
	}
	r = describe_write(w, &h.descriptions);
	return r < 0 ? r : audit(&h);
}
