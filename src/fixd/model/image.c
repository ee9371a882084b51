/* SPDX-License-Identifier: MIT */
#include "fixd/model/image.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/text.h"
#include "config/config.h"
#include "fixd/model/effect.h"
#include "fixd/model/events.h"
#include "fixd/model/instance.h"
#include "fixd/model/model.h"
#include "fixd/model/session.h"
#include "fixd/model/user.h"
#include "image/region.h"

struct image *image_new(struct model *m, int fd, enum wire_image_kind kind, uint64_t size)
{
	struct image *im = xcalloc(1, sizeof *im);

	im->model = m;
	im->refs = 1;
	im->serial = ++m->last_serial;
	im->fd = fd;
	im->kind = kind;
	im->size = size;
	im->note_fd = im->parts_fd = -1;
	link_init(&im->leases);
	link_init(&im->copies);
	link_init(&im->in_session);
	link_init(&im->teardown_dependents);
	link_init(&im->in_unused);
	link_init(&im->in_detached);
	link_insert(&m->detached, &im->in_detached);
	account_add_image(m, NULL);
	return im;
}

void image_charge(struct image *im, struct user *u, uint64_t bytes)
{
	im->bytes = account_pages(bytes);
	im->user = u ? user_ref(u) : NULL;
	if (u)
		account_charge_image(u);
	account_add_bytes(im->model, u, im->bytes);
}

void image_recount(struct image *im, uint64_t bytes)
{
	bool unused = !link_empty(&im->in_unused);

	bytes = account_pages(bytes);
	account_remove_bytes(im->model, im->user, im->bytes);
	account_add_bytes(im->model, im->user, bytes);
	if (unused)
		im->model->unused_bytes += bytes - im->bytes;
	if (im->ending)
		account_recount_ending(im->model, im->bytes, bytes);
	im->bytes = bytes;
}

struct image *image_ref(struct image *im)
{
	im->refs++;
	return im;
}

struct image_copy {
	struct link link; /* image::copies */
	struct digest places;
	uint64_t bytes;
	int fd;
};

int image_find_copy(const struct image *im, struct digest places)
{
	link_for_each(l, &im->copies) {
		const struct image_copy *c = link_entry(l, struct image_copy, link);

		if (digest_equal(c->places, places))
			return c->fd;
	}
	return -1;
}

void image_add_copy(struct image *im, struct digest places, int fd, uint64_t bytes)
{
	struct image_copy *c = xcalloc(1, sizeof *c);

	*c = (struct image_copy){ .places = places, .bytes = bytes, .fd = fd };
	account_add_image(im->model, NULL);
	link_insert(&im->copies, &c->link);
}

size_t image_count_copies(const struct image *im)
{
	size_t n = 0;

	link_for_each(l, &im->copies)
		n++;
	return n;
}

static void drop_copies(struct image *im)
{
	while (!link_empty(&im->copies)) {
		struct image_copy *c = link_entry(im->copies.next, struct image_copy, link);

		link_remove(&c->link);
		account_remove_bytes(im->model, im->user, c->bytes);
		account_remove_image(im->model, NULL);
		fd_close(c->fd);
		free(c);
	}
}

struct image *image_unref(struct image *im)
{
	struct model *m;

	if (!im || --im->refs > 0)
		return NULL;
	if (im->kept_by) {
		im->refs = 1;
		image_begin_ending(im);
		im->model->effects->tear_down(im);
		return NULL;
	}
	m = im->model;
	if (im->ending)
		account_end_ending(m, im->bytes);
	if (im->title)
		event_torn_down(im, im->teardown_error);
	m->image_owner->gone(im);
	if (im->tree)
		m->effects->remove_tree(m->work, im->tree);
	for (size_t i = 0; im->depends && i < im->n_depends; i++)
		image_unref(im->depends[i]);
	for (size_t i = 0; i < im->n_teardown_deps; i++) {
		im->teardown_deps[i]->n_teardown_dependents--;
		link_remove(&im->teardown_links[i].in_dependents);
		m->image_owner->unheld(im->teardown_deps[i]);
		image_unref(im->teardown_deps[i]);
	}
	for (size_t i = 0; i < im->n_trees; i++)
		image_unref(im->trees[i]);
	if (im->address)
		region_release(m->region, im->address);
	if (im->user) {
		/* The note may go on to be an orphan, and is counted on. */
		if (im->session && im->note_fd >= 0 && !im->torn_down)
			m->image_owner->orphaned(im);
	}
	model_changed(m);
	link_remove(&im->in_session);
	link_remove(&im->in_detached);
	drop_copies(im);
	account_remove_bytes(m, im->user, im->bytes);
	account_remove_image(m, im->user);
	user_unref(im->user);
	fd_close(im->fd);
	fd_close(im->note_fd);
	fd_close(im->parts_fd);
	free(im->title);
	free(im->teardown_error);
	free(im->run);
	list_free(im->dep_titles);
	free(im->depends);
	free(im->teardown_deps);
	free(im->trees);
	free(im->teardown_links);
	free(im->dep_digests);
	free(im->tree);
	free(im);
	return NULL;
}

struct digest image_identity(const struct image *im)
{
	return im->kept_by || im->n_teardown_deps ? (struct digest){ .low = im->serial, .high = UINT64_MAX } : im->digest;
}

bool image_holders_matter(const struct image *im)
{
	return im->kept_by || im->tree || im->n_teardown_deps || (im->instance && im->instance->fixture->exclusive);
}

bool image_has_died(const struct image *im)
{
	bool has = im->died != NULL;

	for (size_t k = 0; k < im->n_teardown_deps && !has; k++)
		has = image_has_died(im->teardown_deps[k]);
	return has;
}

void image_begin_ending(struct image *im)
{
	if (im->ending)
		return;
	im->ending = true;
	account_begin_ending(im->model, im->bytes);
}

void image_detach(struct image *im)
{
	im->instance = NULL;
	link_insert(&im->model->detached, &im->in_detached);
}

void image_take_teardown_deps(struct image *im, struct image **teardown_deps, size_t n)
{
	im->teardown_deps = teardown_deps;
	im->n_teardown_deps = n;
	im->teardown_links = xcalloc(n, sizeof *im->teardown_links);
	for (size_t k = 0; k < n; k++) {
		im->teardown_links[k].holder = im;
		link_init(&im->teardown_links[k].in_dependents);
		link_insert(&teardown_deps[k]->teardown_dependents, &im->teardown_links[k].in_dependents);
		teardown_deps[k]->n_teardown_dependents++;
	}
}

void image_hold_teardown_deps(struct image *im, struct image *const *depends, size_t n)
{
	struct image **teardown_deps = xcalloc(n, sizeof *teardown_deps);
	size_t n_teardown_deps = 0;

	for (size_t k = 0; k < n; k++) {
		if (depends[k]->kept_by || depends[k]->n_teardown_deps)
			teardown_deps[n_teardown_deps++] = image_ref(depends[k]);
	}
	image_take_teardown_deps(im, teardown_deps, n_teardown_deps);
}

void image_hold_trees(struct image *im, struct image *const *depends, size_t n)
{
	im->trees = xcalloc(n, sizeof(struct image *));
	for (size_t k = 0; k < n; k++) {
		if (depends[k]->tree)
			im->trees[im->n_trees++] = image_ref(depends[k]);
	}
}

void image_update_unused(struct image *im)
{
	bool is = im->instance && im->instance->current == im && !im->n_uses && !im->n_pins;

	if (is == !link_empty(&im->in_unused))
		return;
	if (is) {
		link_insert(im->user ? &im->user->unused : &im->model->unused, &im->in_unused);
		im->model->unused_bytes += im->bytes;
	} else {
		link_remove(&im->in_unused);
		im->model->unused_bytes -= im->bytes;
	}
}

void image_used(struct image *im)
{
	im->attaches++;
	im->used = model_now(im->model);
	im->used_real = model_real(im->model);
}

bool image_built_with(const struct image *im, size_t k, const struct image *dep)
{
	if (k >= im->n_depends)
		return false;
	return im->depends ? im->depends[k] == dep : digest_equal(im->dep_digests[k], image_identity(dep));
}

static int add_closure(struct image *im, struct image **out, size_t n, size_t max)
{
	for (size_t i = 0; i < n; i++) {
		if (out[i] == im)
			return (int)n;
	}
	if (n == max)
		return -E2BIG;
	out[n++] = im;
	for (size_t i = 0; im->depends && i < im->n_depends; i++) {
		int r = add_closure(im->depends[i], out, n, max);

		if (r < 0)
			return r;
		n = (size_t)r;
	}
	return (int)n;
}

int image_closure(struct image *im, struct image **out, size_t max)
{
	return add_closure(im, out, 0, max);
}

/* An image is in use when it is held, and when one is that needs it. */
static void count_use(struct image *im, bool more)
{
	if (more)
		im->n_uses++;
	else
		im->n_uses--;
	if (!im->model->loading) {
		im->used = model_now(im->model);
		im->used_real = model_real(im->model);
	}
	image_update_unused(im);
	for (size_t k = 0; k < im->n_teardown_deps; k++)
		count_use(im->teardown_deps[k], more);
	for (size_t k = 0; k < im->n_trees; k++)
		count_use(im->trees[k], more);
}

static void tell_hold(const struct lease *l, bool holds)
{
	const struct model *m = l->image->model;

	if (m->on_hold && !m->loading && image_holders_matter(l->image))
		m->on_hold(m->on_hold_arg, l->image, l->pid, holds);
}

struct lease *lease_new(struct image *im, struct link *leases, pid_t pid)
{
	struct lease *l = xcalloc(1, sizeof *l);

	l->image = image_ref(im);
	l->of = leases;
	l->pid = pid;
	l->since = model_now(im->model);
	link_insert(leases, &l->in_client);
	link_insert(&im->leases, &l->in_image);
	im->n_leases++;
	count_use(im, true);
	im->dirty = true;
	tell_hold(l, true);
	return l;
}

void lease_free(struct lease *l)
{
	struct image *im = l->image;

	event_detach(l);
	tell_hold(l, false);
	im->n_leases--;
	count_use(im, false);
	link_remove(&l->in_client);
	link_remove(&l->in_image);
	free(l);
	im->model->image_owner->unheld(im);
	image_unref(im);
}

struct lease *lease_find(const struct link *leases, uint64_t serial)
{
	/* The newest first: what was attached last is usually detached first. */
	for (struct link *l = leases->prev; l != leases; l = l->prev) {
		struct lease *lease = link_entry(l, struct lease, in_client);

		if (lease->image->serial == serial)
			return lease;
	}
	return NULL;
}

void lease_release(struct link *leases, const struct image *im)
{
	link_for_each(l, leases) {
		struct lease *lease = link_entry(l, struct lease, in_client);

		lease->released |= lease->image == im;
	}
}
