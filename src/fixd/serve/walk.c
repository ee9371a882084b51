/* SPDX-License-Identifier: MIT */
#include "fixd/serve/walk.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "fixd/model/instance.h"
#include "fixd/model/session.h"
#include "fixd/model/visibility.h"
#include "fixd/serve/conn.h"
#include "fixd/serve/server.h"

void walk_deinit(struct walk *w)
{
	free(w->key);
}

/* The sessions are in the order of their numbers. */
static struct session *next_session(const struct walk *w, const struct conn *c)
{
	link_for_each(l, &c->server->model->sessions) {
		struct session *s = link_entry(l, struct session, link);

		if (s->number > w->session && see_session(&c->client, s))
			return s;
	}
	return NULL;
}

struct session *walk_session(struct walk *w, const struct conn *c)
{
	struct session *s = next_session(w, c);

	free(w->key);
	w->key = NULL;
	if (s)
		w->session = s->number;
	return s;
}

static enum walk_step walk_go_on(struct walk *w, const struct conn *c, struct session **s, struct instance **i)
{
	*s = session_by_number(c->server->model, w->session);
	*i = *s ? session_next(*s, w->key) : NULL;
	if (!*i)
		return WALK_SESSION_ENDS;
	free(w->key);
	w->key = xstrdup((*i)->key);
	return WALK_INSTANCE;
}

enum walk_step walk_next(struct walk *w, const struct conn *c, struct session **s, struct instance **i)
{
	if (w->at == WALK_SESSION || w->at == WALK_INSTANCE)
		return w->at = walk_go_on(w, c, s, i);
	*s = walk_session(w, c);
	return w->at = *s ? WALK_SESSION : WALK_ENDS;
}
