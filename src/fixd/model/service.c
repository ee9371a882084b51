/* SPDX-License-Identifier: MIT */
/* Services that have ended by themselves: they are started again, later each time. */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "config/config.h"
#include "fixd/model/image.h"
#include "fixd/model/instance.h"
#include "fixd/model/model.h"
#include "fixd/model/pool.h"

/* Soon after its start means that it cannot live; then the next start waits longer and longer. */
#define LIVES_AFTER (10 * NSEC_PER_SEC)
#define RESTART_MIN (100 * NSEC_PER_MSEC)
#define RESTART_MAX (60 * NSEC_PER_SEC)

void instance_restart_later(struct instance *i)
{
	int64_t delay = RESTART_MIN;

	for (unsigned n = 1; n < i->deaths && delay < RESTART_MAX; n++)
		delay *= 2;
	i->restarting = true;
	timer_start_in(instance_model(i)->loop, &i->restart, delay < RESTART_MAX ? delay : RESTART_MAX);
}

void instance_start_again(void *arg)
{
	struct instance *i = arg;

	instance_clear_failure(i);
	i->restarting = true;
	instance_warm(i);
}

/* Of clones that were stale already, and what was made with them: their holders have not been told, as they were theirs while they lived. */
static void show_end(struct image *im)
{
	struct instance *i = im->instance;

	if (i && !i->current)
		instance_effects(i)->show(instance_model(i)->work, i->board_slot, 0);
	link_for_each(l, &im->teardown_dependents)
		show_end(link_entry(l, struct teardown_link, in_dependents)->holder);
}

/* Of a clone, or of what was started for one. */
static struct pool *pool_of(const struct image *im)
{
	struct pool *p = im->instance ? im->instance->clone_of : NULL;

	for (struct link *l = im->teardown_dependents.next; !p && l != &im->teardown_dependents; l = l->next)
		p = pool_of(link_entry(l, struct teardown_link, in_dependents)->holder);
	return p;
}

void instance_service_died(struct instance *i, struct image *im, const char *sentence)
{
	_cleanup_text_ struct text cause = { 0 };
	struct pool *pool;

	show_end(im);
	if (i->current != im)
		return;
	text_printf(&cause, "%s\n", sentence);
	text_add_last_lines(&cause, &i->log, 3);
	if (cause.data[cause.size - 1] == '\n')
		cause.data[--cause.size] = '\0';
	i->deaths = model_now(instance_model(i)) - im->created < LIVES_AFTER ? i->deaths + 1 : 0;
	/* What its holder has done to it says nothing about others. */
	if (i->deaths && !im->n_uses && (pool = pool_of(im)))
		pool_failed(pool, i);
	instance_retire(i, cause.data);
	if (i->fixture->policy.rebuild == REBUILD_EAGER && !i->clone)
		instance_restart_later(i);
	instance_propagate(i);
}

/* Each takes one of the user's inotify instances until it uses its data. */
#define TOUCHES_MAX 8
/* A server has opened a file by then. */
#define TOUCHES_WITHIN (500 * NSEC_PER_MSEC)

bool instance_asks_for_touch(const struct instance *i)
{
	const struct pool *p = i->clone_of;

	return p ? !p->front->told_untouched && p->figures.started < TOUCHES_MAX : !i->told_untouched && !i->clone;
}

static void remark(struct instance *i, const char *sentence)
{
	log_warn(0, "%s: %s", i->title, sentence);
	text_printf(&i->log, "%s\n", sentence);
}

static struct instance *who_is_told(struct instance *i)
{
	return i->clone_of ? i->clone_of->front : i;
}

void instance_data_unclean(struct instance *i, const char *what)
{
	struct instance *told = who_is_told(i);
	_cleanup_free_ char *sentence = NULL;

	if (told->told_unclean || !i->fixture->data)
		return;
	told->told_unclean = true;
	sentence = xasprintf(
		"its data are of a server that was not stopped (%s), and each service over them recovers first; expected a command "
		"of '%s' that stops its server and waits for its end",
		what, i->fixture->data);
	remark(i, sentence);
}

void instance_data_untouched(struct instance *i, const struct image *im)
{
	struct instance *told = who_is_told(i);
	_cleanup_free_ char *sentence = NULL;

	/* Who only reads it when somebody asks was asked by nobody, and who has hardly been there may have been about to. */
	if (!im->attaches || told->told_untouched || !i->fixture->data || model_now(instance_model(i)) - im->created < TOUCHES_WITHIN)
		return;
	told->told_untouched = true;
	sentence = xasprintf(
		"its service has opened no file of its data; expected a command that uses the directory $FIXD_DATA, where '%s' is, or no 'data'",
		i->fixture->data);
	remark(i, sentence);
}
