/* SPDX-License-Identifier: MIT */
#include "fixd/host/worker.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"
#include "fixd/loop/loop.h"

struct worker {
	struct loop *loop;
	struct source *source; /* of the eventfd: something is done */
	pthread_t thread;
	bool has_thread, ending;
	pthread_mutex_t lock;
	pthread_cond_t more, idle;
	bool busy;
	struct link todo, done; /* under the lock */
	int fd;
};

static struct work_item *first(struct link *list)
{
	struct work_item *item = link_entry(list->next, struct work_item, link);

	link_remove(&item->link);
	return item;
}

static void tell(struct worker *w)
{
	/* It is full when nobody has looked for very long: then it is readable anyway. */
	if (eventfd_write(w->fd, 1) < 0 && errno != EAGAIN)
		log_error(-errno, "the worker cannot tell that something is done");
}

static void *run(void *arg)
{
	struct worker *w = arg;

	pthread_mutex_lock(&w->lock);
	while (!w->ending || !link_empty(&w->todo)) {
		struct work_item *item;

		if (link_empty(&w->todo)) {
			pthread_cond_wait(&w->more, &w->lock);
			continue;
		}
		item = first(&w->todo);
		w->busy = true;
		pthread_mutex_unlock(&w->lock);
		item->work(item->arg);
		pthread_mutex_lock(&w->lock);
		w->busy = false;
		pthread_cond_signal(&w->idle);
		link_insert(&w->done, &item->link);
		tell(w);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

static void take_done(struct worker *w)
{
	pthread_mutex_lock(&w->lock);
	while (!link_empty(&w->done)) {
		struct work_item *item = first(&w->done);

		pthread_mutex_unlock(&w->lock);
		item->done(item->arg);
		pthread_mutex_lock(&w->lock);
	}
	pthread_mutex_unlock(&w->lock);
}

static void on_done(void *arg)
{
	struct worker *w = arg;
	eventfd_t n;

	if (eventfd_read(w->fd, &n) == 0)
		take_done(w);
}

/* No signal is for it: the loop's descriptor hears them. */
static bool start_thread(struct worker *w)
{
	sigset_t all, before;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&w->thread, NULL, run, w);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r)
		log_warn(-r, "no thread for what takes long: the loop does it");
	return r == 0;
}

struct worker *worker_new(struct loop *l)
{
	struct worker *w = xcalloc(1, sizeof *w);

	w->loop = l;
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->more, NULL);
	pthread_cond_init(&w->idle, NULL);
	link_init(&w->todo);
	link_init(&w->done);
	w->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (w->fd >= 0)
		w->source = loop_watch(l, w->fd, on_done, w);
	return w;
}

void worker_add(struct worker *w, struct work_item *item)
{
	/* Most daemons never need it. */
	if (w && !w->has_thread && w->source)
		w->has_thread = start_thread(w);
	if (!w || !w->has_thread) {
		item->work(item->arg);
		item->done(item->arg);
		return;
	}
	pthread_mutex_lock(&w->lock);
	link_insert(&w->todo, &item->link);
	pthread_cond_signal(&w->more);
	pthread_mutex_unlock(&w->lock);
}

void worker_wait(struct worker *w)
{
	if (!w->has_thread)
		return;
	pthread_mutex_lock(&w->lock);
	while (w->busy || !link_empty(&w->todo))
		pthread_cond_wait(&w->idle, &w->lock);
	pthread_mutex_unlock(&w->lock);
	take_done(w);
}

struct worker *worker_free(struct worker *w)
{
	if (!w)
		return NULL;
	if (w->has_thread) {
		pthread_mutex_lock(&w->lock);
		w->ending = true;
		pthread_cond_signal(&w->more);
		pthread_mutex_unlock(&w->lock);
		pthread_join(w->thread, NULL);
		take_done(w);
	}
	source_close(w->source);
	pthread_mutex_destroy(&w->lock);
	pthread_cond_destroy(&w->more);
	pthread_cond_destroy(&w->idle);
	free(w);
	return NULL;
}
