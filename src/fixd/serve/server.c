/* SPDX-License-Identifier: MIT */
#include "fixd/serve/server.h"

#include <stdlib.h>

#include "base/clock.h"
#include "fixd/model/model.h"
#include "fixd/serve/cleanup.h"
#include "fixd/serve/conn.h"
#include "fixd/serve/event_stream.h"
#include "fixd/serve/reload.h"
#include "fixd/serve/request.h"
#include "fixd/serve/unread.h"

void server_init(struct server *server, struct model *m, struct work *w)
{
	server->model = m;
	server->work = w;
	server->started = clock_now();
	link_init(&server->conns);
	inboxes_init(&server->inboxes, server);
	server->inboxes.dispatch = request_dispatch;
	server->inboxes.is_note = request_is_note;
	link_init(&server->unread);
	link_init(&server->cleanups);
	link_init(&server->followers);
	timer_init(&server->gathering, event_stream_tell, server);
	deferred_init(&server->telling, event_stream_tell, server);
	deferred_init(&m->event_added, event_stream_added, server);
	server->reloads = reloads_new(server);
}

void server_end(struct server *server)
{
	cleanups_end(server);
	event_stream_end(server);
	link_for_each_safe(l, &server->conns) {
		struct conn *c = link_entry(l, struct conn, link);

		if (c->stop_requested)
			conn_retire(c);
		else
			conn_drop(c, NULL);
	}
}

void server_deinit(struct server *server)
{
	server->listener = listener_free(server->listener);
	while (!link_empty(&server->conns))
		conn_drop(link_entry(server->conns.next, struct conn, link), NULL);
	server->reloads = reloads_free(server->reloads);
	unread_deinit(server);
	inboxes_deinit(&server->inboxes);
}
