/* SPDX-License-Identifier: MIT */
#include "fixd/model/orphan.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "base/glob.h"
#include "base/log.h"
#include "fixd/model/model.h"
#include "fixd/model/image.h"
#include "fixd/model/session.h"
#include "fixd/model/user.h"

struct orphan *orphan_free(struct orphan *o)
{
	/* At the end of the daemon the sessions go first. */
	if (o->user->model->session)
		o->session->n_orphans--;
	link_remove(&o->link);
	account_remove_bytes(o->user->model, o->user, o->bytes);
	account_remove_image(o->user->model, o->user);
	user_unref(o->user);
	fd_close(o->note_fd);
	free(o->title);
	free(o);
	return NULL;
}

/* What was built later may have been built from what was earlier, and goes first: but it is not known here from what. */
static void orphan_insert(struct orphan *o)
{
	struct link *before = &o->session->orphans;

	while (before->prev != &o->session->orphans && link_entry(before->prev, struct orphan, link)->serial > o->serial)
		before = before->prev;
	link_insert(before, &o->link);
}

void orphan_resume(struct session *s, struct orphan *o)
{
	o->session = s;
	o->user = user_ref(s->user);
	o->bytes = account_pages(o->note_size);
	account_add_image(s->model, o->user);
	account_add_bytes(s->model, o->user, o->bytes);
	orphan_insert(o);
	model_changed(s->model);
	s->n_orphans++;
}

void orphan_add(struct image *im)
{
	struct session *s = im->session;
	struct orphan *o = xcalloc(1, sizeof *o);

	if (s->n_orphans >= SESSION_ORPHANS_MAX && !link_empty(&s->orphans)) {
		struct orphan *oldest = link_entry(s->orphans.next, struct orphan, link);

		log_warn(0, "session %s: too many images wait for their teardown: that of %s is given up", s->id, oldest->title);
		orphan_free(oldest);
	}
	o->title = xstrdup(im->title);
	o->serial = im->serial;
	o->note_fd = fd_steal(&im->note_fd);
	o->note_size = im->note_size;
	orphan_resume(s, o);
}

void orphan_return(struct orphan *o)
{
	orphan_insert(o);
}

struct orphan *orphan_take(struct session *s, const char *pattern)
{
	for (struct link *l = s->orphans.prev; l != &s->orphans; l = l->prev) {
		struct orphan *o = link_entry(l, struct orphan, link);

		if (strcmp(o->title, pattern) != 0 && !glob_match(pattern, o->title))
			continue;
		link_remove(&o->link);
		return o;
	}
	return NULL;
}
