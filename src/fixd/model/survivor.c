/* SPDX-License-Identifier: MIT */
#include "fixd/model/survivor.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/process.h"
#include "fixd/daemon.h"
#include "fixd/loop/loop.h"
#include "fixd/model/image.h"

static void survivor_free(struct survivor *g)
{
	source_close(g->process);
	link_for_each_safe(l, &g->leases)
		lease_free(link_entry(l, struct lease, in_conn));
	link_remove(&g->link);
	free(g);
}

static void on_process_end(void *arg)
{
	survivor_free(arg);
}

static struct survivor *find_survivor(const struct daemon *d, pid_t pid)
{
	link_for_each(l, &d->survivors) {
		if (link_entry(l, struct survivor, link)->pid == pid)
			return link_entry(l, struct survivor, link);
	}
	return NULL;
}

void survivor_hold(struct daemon *d, pid_t pid, struct image *im)
{
	struct survivor *g = find_survivor(d, pid);
	int pidfd = !g && pid > 0 ? process_open(pid) : -1;

	if (!g && pidfd < 0)
		return;
	if (!g) {
		g = xcalloc(1, sizeof *g);
		g->daemon = d;
		g->pid = pid;
		link_init(&g->leases);
		link_insert(&d->survivors, &g->link);
		g->process = loop_watch(d->loop, pidfd, on_process_end, g);
	}
	lease_new(im, &g->leases, pid);
}

void survivor_returns(struct daemon *d, pid_t pid, const struct image *im)
{
	struct survivor *g = im ? find_survivor(d, pid) : NULL;

	if (!g)
		return;
	link_for_each_safe(l, &g->leases) {
		if (link_entry(l, struct lease, in_conn)->image == im)
			lease_free(link_entry(l, struct lease, in_conn));
	}
	if (link_empty(&g->leases))
		survivor_free(g);
}

void survivors_end(struct daemon *d)
{
	while (!link_empty(&d->survivors))
		survivor_free(link_entry(d->survivors.next, struct survivor, link));
}
