/* SPDX-License-Identifier: MIT */
#include "fixd/work/job_request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fd.h"
#include "config/config.h"
#include "fixd/work/work.h"
#include "fixd/host/watch.h"
#include "fixd/model/image.h"
#include "fixd/model/instance.h"
#include "fixd/model/session.h"
#include "fixd/work/keeper.h"
#include "image/memfd.h"
#include "wire/socket.h"

static char *depend_title(const struct depend *d)
{
	return d->param ? xasprintf("%s[%s]", d->name, d->param) : xstrdup(d->name);
}

static void add_dependency(struct job *j, int *fds, const struct image *im, const struct fixture *f, size_t k)
{
	struct job_dependency *d;

	j->dependencies = xrealloc(j->dependencies, (j->n_dependencies + 1) * sizeof *d);
	d = &j->dependencies[j->n_dependencies];
	*d = (struct job_dependency){
		.name = k < f->n_depends ? depend_title(&f->depends[k]) : xstrdup(""),
		.path = im->tree ? xstrdup(im->tree) : NULL,
		.address = im->address,
		.size = im->size,
		.root = im->root,
		.kind = im->kind,
		.direct = k < f->n_depends,
		.digest = im->digest,
	};
	fds[j->n_dependencies++] = im->fd;
}

/* The named dependencies first, then what their objects point into. */
static int add_dependencies(const struct job_request *b, struct job *j, int *fds)
{
	struct image *seen[WIRE_FDS_MAX], *closure[WIRE_FDS_MAX];
	const struct fixture *f = b->instance->fixture;
	size_t n_seen = 0;

	if (b->n_depends > WIRE_FDS_MAX)
		return -E2BIG;
	/* Objects could not point into them. */
	for (size_t k = 0; f->source == SOURCE_PLUGIN && k < b->n_depends; k++) {
		if (b->depends[k]->size && !b->depends[k]->address)
			return -EADDRNOTAVAIL;
	}
	for (size_t k = 0; k < b->n_depends; k++) {
		add_dependency(j, fds, b->depends[k], f, k);
		seen[n_seen++] = b->depends[k];
	}
	for (size_t k = 0; k < b->n_depends; k++) {
		int n = image_closure(b->depends[k], closure, ELEMENTSOF(closure));

		if (n < 0)
			return n;
		for (int m = 0; m < n; m++) {
			bool known = false;

			for (size_t s = 0; s < n_seen; s++)
				known |= seen[s] == closure[m];
			if (known)
				continue;
			if (n_seen == WIRE_FDS_MAX)
				return -E2BIG;
			add_dependency(j, fds, closure[m], f, SIZE_MAX);
			seen[n_seen++] = closure[m];
		}
	}
	return 0;
}

static void drop_dependencies(struct job *j)
{
	for (size_t k = 0; k < j->n_dependencies; k++) {
		free(j->dependencies[k].name);
		free(j->dependencies[k].path);
	}
	free(j->dependencies);
}

/* What is kept, and of a service what it is given and how it says that it is ready. */
static void add_service(struct job *j, const struct instance *i, const struct keeper *k)
{
	const struct fixture *f = i->fixture;

	j->kept = true;
	j->token = k->token;
	j->teardown = f->teardown;
	j->teardown_ms = (uint64_t)(k->time / NSEC_PER_MSEC);
	j->ready_by = (uint64_t)f->ready_by;
	/* Of a file the template, without the word before it. */
	j->ready = f->ready_what;
	j->stop_signal = (uint64_t)config_stop_signal(f);
	j->value = f->value;
	j->prewarm = f->prewarm;
	j->audit = f->audit;
	j->socket = f->source == SOURCE_PROCESS ? (char *)k->work->socket : NULL;
	j->view = k->view;
	j->sandboxed = f->data || f->clones;
	j->touch = f->data && instance_asks_for_touch(i);
}

/* Whoever keeps what this one needs, or what that needs, waits for it. */
static size_t add_holds(const struct image *im, int *fds, size_t n, size_t max)
{
	int hold = im->kept_by ? im->kept_by->hold : -1;
	bool known = hold < 0;

	for (size_t k = 0; k < n; k++)
		known |= fds[k] == hold;
	if (!known && n < max)
		fds[n++] = hold;
	for (size_t k = 0; k < im->n_teardown_deps; k++)
		n = add_holds(im->teardown_deps[k], fds, n, max);
	return n;
}

int job_request_send(const struct job_request *b, int channel)
{
	const struct instance *i = b->instance;
	const struct fixture *f = i->fixture;
	char **inputs = f->policy.watch_by == WATCH_BY_CONTENT && b->watch ? watchset_files(b->watch) : NULL;
	struct job j = {
		.kind = b->kind,
		.name = f->name,
		.param = i->param,
		.scope_key = i->scope_key,
		.source = b->command ? (char *)b->command : f->what,
		.symbol = f->symbol,
		.root = i->session->model->config->root,
		.tree = b->tree,
		.address = b->address,
		.reserved = b->most,
		.limit = b->limit_bytes,
		.huge = (uint64_t)f->huge_pages,
		.stray = (uint64_t)f->stray,
		.malloc_arena = f->malloc_from,
		.as_is = f->as_is,
		.verify = f->verify,
		.exclude = f->exclude,
		.remote = f->remote && (b->kind == JOB_COMMAND || b->kind == JOB_TREE || b->kind == JOB_PLUGIN)
				  ? i->session->model->config->remote_options
				  : NULL,
		.anew = i->anew,
		.user = f->user,
		.env = i->env,
		.inputs = inputs,
	};
	const struct keeper *k = b->keeper ? b->keeper : b->image ? b->image->kept_by : NULL;
	_cleanup_text_ struct text message = { 0 };
	int fds[SOCKET_FDS_MAX], r = add_dependencies(b, &j, fds + 1);
	_cleanup_fd_ int job = -1, note = r == 0 && b->keeper ? keeper_open_note(b->keeper) : -1;
	size_t n = 1 + j.n_dependencies;

	if (k) {
		j.dir = k->dir;
		j.port = k->port;
	}
	if (b->keeper) {
		add_service(&j, i, k);
		j.data = f->data ? b->depends[f->data_at]->tree : NULL;
		r = r < 0 ? r : note < 0 ? note : 0;
		fds[n++] = note;
	}
	if (b->image) {
		j.has_image = true;
		j.tree = b->image->tree;
		fds[n++] = b->image->fd;
	}
	for (size_t m = 0; b->keeper && m < b->n_depends; m++)
		j.holds = add_holds(b->depends[m], fds + n, j.holds, SOCKET_FDS_MAX - n);
	n += j.holds;
	if (r == 0) {
		job_encode(&j, &message);
		job = fds[0] = memfd_from_bytes("fixd:job", message.data, message.size);
		r = job < 0 ? job : socket_send(channel, &message.size, sizeof message.size, fds, n, MSG_DONTWAIT);
	}
	drop_dependencies(&j);
	list_free(inputs);
	return r;
}
