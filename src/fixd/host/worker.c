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
	bool has_thread; /* that is to be joined */
	pthread_mutex_t lock;
	pthread_cond_t idle;
	bool running; /* these under the lock: it will look at `todo` again */
	bool abandoned;
	struct link todo, done;
	int fd;
};

static struct work_item *first(struct link *list)
{
	struct work_item *item = link_entry(list->next, struct work_item, link);

	link_remove(&item->link);
	return item;
}

static void worker_tell(struct worker *w)
{
	/* It is full when nobody has looked for very long: then it is readable anyway. */
	if (eventfd_write(w->fd, 1) < 0 && errno != EAGAIN)
		log_error(-errno, "the worker cannot tell that something is done");
}

/* It ends when there is nothing to do: with two threads each system call of the loop would cost more. */
static void *worker_run(void *arg)
{
	struct worker *w = arg;

	pthread_mutex_lock(&w->lock);
	while (!link_empty(&w->todo)) {
		struct work_item *item = first(&w->todo);

		pthread_mutex_unlock(&w->lock);
		item->work(item->arg);
		pthread_mutex_lock(&w->lock);
		link_insert(&w->done, &item->link);
		if (!w->abandoned)
			worker_tell(w);
	}
	w->running = false;
	pthread_cond_signal(&w->idle);
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

static bool is_running(struct worker *w)
{
	bool running;

	pthread_mutex_lock(&w->lock);
	running = w->running;
	pthread_mutex_unlock(&w->lock);
	return running;
}

/* It has nothing more to do, and is about to end. */
static void worker_join(struct worker *w)
{
	if (w->has_thread)
		pthread_join(w->thread, NULL);
	w->has_thread = false;
}

static void on_done(void *arg)
{
	struct worker *w = arg;
	eventfd_t n;

	/* Whether it can be read or not: it is not told again. */
	if (eventfd_read(w->fd, &n) < 0 && errno != EAGAIN)
		log_warn(-errno, "what the worker says cannot be read");
	take_done(w);
	if (!is_running(w))
		worker_join(w);
}

/* No signal is for it: the loop's descriptor hears them. */
static bool start_thread(struct worker *w)
{
	sigset_t all, before;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&w->thread, NULL, worker_run, w);
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
	bool start = false;

	if (w && w->source) {
		pthread_mutex_lock(&w->lock);
		start = !w->running;
		w->running = true;
		link_insert(&w->todo, &item->link);
		pthread_mutex_unlock(&w->lock);
		if (!start)
			return;
		worker_join(w);
		w->has_thread = start_thread(w);
		if (w->has_thread)
			return;
		w->running = false;
		link_remove(&item->link);
	}
	item->work(item->arg);
	item->done(item->arg);
}

void worker_wait(struct worker *w)
{
	pthread_mutex_lock(&w->lock);
	while (w->running)
		pthread_cond_wait(&w->idle, &w->lock);
	pthread_mutex_unlock(&w->lock);
	worker_join(w);
	take_done(w);
}

void worker_abandon(struct worker *w)
{
	pthread_mutex_lock(&w->lock);
	w->abandoned = true;
	w->source = source_close(w->source);
	pthread_mutex_unlock(&w->lock);
	if (w->has_thread)
		pthread_detach(w->thread);
}

struct worker *worker_free(struct worker *w)
{
	if (!w)
		return NULL;
	worker_wait(w);
	source_close(w->source);
	pthread_mutex_destroy(&w->lock);
	pthread_cond_destroy(&w->idle);
	free(w);
	return NULL;
}
