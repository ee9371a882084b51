/* SPDX-License-Identifier: MIT */
/* What of a session nobody would miss. */
#include <errno.h>

#include "base/clock.h"
#include "base/log.h"
#include "fixd/model/image.h"
#include "fixd/model/instance.h"
#include "fixd/model/model.h"
#include "fixd/model/reclaim.h"
#include "fixd/model/session.h"

static void note_busy(struct instance *i, void *arg)
{
	bool *busy = arg;

	*busy |= !instance_idle(i);
}

/* Nobody would miss it, but for its history. */
bool session_is_idle(struct session *s)
{
	bool busy = s == s->model->session || s->n_conns || !link_empty(&s->runs) || s->n_orphans || !link_empty(&s->images);

	if (!busy)
		session_each(s, note_busy, &busy);
	return !busy;
}

void session_collect(struct instance *i, void *arg)
{
	vector_add(arg, i);
}

void session_retire_all(struct session *s, const char *cause)
{
	_cleanup_vector_ struct vector list = { 0 };

	session_each(s, session_collect, &list);
	for (size_t k = 0; k < list.n; k++) {
		instance_retire(list.all[k], cause);
		instance_propagate(list.all[k]);
	}
}

static void note_used(struct instance *i, void *arg)
{
	const struct image *im = i->current;
	bool *used = arg, left_behind = im && im->note_fd >= 0 && !im->torn_down;

	*used |= (i->last && i->last != im) || i->build || i->offer || !link_empty(&i->waiters) || i->state == INSTANCE_WAITING ||
		 (im && (im->n_uses || im->n_pins)) || left_behind;
}

/* Nobody is there, and what it has was only kept for later. */
bool session_is_unused(struct session *s)
{
	bool used = s == s->model->session || s->n_conns || !link_empty(&s->runs) || s->n_orphans;

	if (!used)
		session_each(s, note_used, &used);
	return !used;
}

static void remove_idle(struct session *s)
{
	_cleanup_vector_ struct vector list = { 0 };

	session_each(s, session_collect, &list);
	for (size_t k = 0; k < list.n; k++) {
		if (instance_idle(list.all[k]))
			session_remove_instance(s, list.all[k]);
	}
}

void session_make_room(struct session *s)
{
	/* Those that are only remembered first. */
	if (session_is_full(s))
		remove_idle(s);
	if (!session_is_full(s))
		return;
	/* Many at a time, so that it is seldom done. */
	for (int n = 0; n < SESSION_INSTANCES_MAX / 16; n++) {
		if (!reclaim_of_session(s, "evicted: there are too many instances"))
			break;
	}
	remove_idle(s);
}

static void note_image(struct instance *i, void *arg)
{
	bool *any = arg;

	*any |= i->current != NULL;
}

/* An instance that has no image, and is only remembered. */
#define REMEMBERED (24 * 3600 * NSEC_PER_SEC)

bool session_sweep(struct session *s)
{
	_cleanup_vector_ struct vector list = { 0 };
	int64_t now = model_now(s->model), last_real = s->last_run_real > s->created_real ? s->last_run_real : s->created_real;
	/* In a daemon with a /tmp or /home of its own none of a client's may ever have been there. */
	int seen = s->root_seen ? session_look_at_root(s) : 0;
	bool any = false, root_gone = seen == -ENOENT || seen == -ENOTDIR;

	/* A branch that was switched away comes back; a directory that was removed does not: both are built anew. */
	if (root_gone) {
		session_each(s, note_image, &any);
		if (any)
			log_info("session %s: %s is gone", s->id, s->root);
		session_retire_all(s, "the root directory of its session is gone");
	}
	session_each(s, session_collect, &list);
	for (size_t k = 0; k < list.n; k++) {
		struct instance *i = list.all[k];

		if (instance_idle(i) && now - i->rested > REMEMBERED)
			session_remove_instance(s, i);
	}
	return !session_is_idle(s) || (!root_gone && model_real(s->model) - last_real < REMEMBERED);
}
