/* SPDX-License-Identifier: MIT */
#include "fixd/work/survivor.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/process.h"
#include "fixd/loop/loop.h"
#include "fixd/model/image.h"
#include "fixd/work/work.h"

static void survivor_free(struct survivor *g)
{
	source_close(g->process);
	link_for_each_safe(l, &g->leases)
		lease_free(link_entry(l, struct lease, in_client));
	link_remove(&g->link);
	free(g);
}

static void on_survivor_process_end(void *arg)
{
	survivor_free(arg);
}

static struct survivor *find_survivor(const struct work *w, pid_t pid)
{
	link_for_each(l, &w->survivors) {
		if (link_entry(l, struct survivor, link)->pid == pid)
			return link_entry(l, struct survivor, link);
	}
	return NULL;
}

void survivor_hold(struct work *w, pid_t pid, struct image *im)
{
	struct survivor *g = find_survivor(w, pid);
	int pidfd = !g && pid > 0 ? process_open(pid) : -1;

	if (!g && pidfd < 0)
		return;
	if (!g) {
		g = xcalloc(1, sizeof *g);
		g->work = w;
		g->pid = pid;
		link_init(&g->leases);
		link_insert(&w->survivors, &g->link);
		g->process = loop_watch(w->model->loop, pidfd, on_survivor_process_end, g);
	}
	lease_new(im, &g->leases, pid);
}

void survivor_returns(struct work *w, pid_t pid, const struct image *im)
{
	struct survivor *g = im ? find_survivor(w, pid) : NULL;

	if (!g)
		return;
	link_for_each_safe(l, &g->leases) {
		if (link_entry(l, struct lease, in_client)->image == im)
			lease_free(link_entry(l, struct lease, in_client));
	}
	if (link_empty(&g->leases))
		survivor_free(g);
}

void survivor_lets_go(struct work *w, pid_t pid, const struct image *im)
{
	struct survivor *g = find_survivor(w, pid);

	if (!g)
		return;
	link_for_each(l, &g->leases) {
		struct lease *lease = link_entry(l, struct lease, in_client);

		if (lease->image == im) {
			lease_free(lease);
			break;
		}
	}
	if (link_empty(&g->leases))
		survivor_free(g);
}

void survivors_end(struct work *w)
{
	while (!link_empty(&w->survivors))
		survivor_free(link_entry(w->survivors.next, struct survivor, link));
}
