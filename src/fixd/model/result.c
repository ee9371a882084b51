/* SPDX-License-Identifier: MIT */
/* What the builders of an instance report, and what becomes of it: published, the same as before, failed, or done again. */
#include <stdlib.h>

#include "base/log.h"
#include "config/config.h"
#include "fixd/model/effect.h"
#include "fixd/model/events.h"
#include "fixd/model/image.h"
#include "fixd/model/instance.h"
#include "fixd/model/model.h"
#include "fixd/model/pool.h"

/* A build whose inputs changed under it is done again so many times. */
#define UNSETTLED_MAX 3

/* An instance at which so many clients in a row have died is not offered to the next. */
#define LOST_BUILDERS_MAX 3

/* The same again, while the earlier image is still there; objects also with the same images to point into. */
static bool same_as_last(const struct instance *i, const struct image *im)
{
	const struct image *last = i->last;

	/* What is to be torn down is not the same, however it looks, nor is what was made with it. */
	if (!last || im->teardown || im->n_teardown_deps || last->n_teardown_deps || im->kept_by || last->kept_by ||
	    !digest_equal(last->digest, im->digest) || last->size != im->size || last->kind != im->kind || last->root != im->root ||
	    last->n_depends != im->n_depends)
		return false;
	for (size_t k = 0; im->depends && k < im->n_depends; k++) {
		if (last->depends[k] != im->depends[k])
			return false;
	}
	return true;
}

static void tell_ready(const struct instance *i)
{
	_cleanup_text_ struct text from = { 0 };
	const struct fixture *f = i->fixture;

	for (size_t k = 0; i->current->dep_titles && i->current->dep_titles[k]; k++)
		text_printf(&from, "%s,", i->current->dep_titles[k]);
	for (size_t k = 0; k < f->n_depends; k++)
		text_printf(&from, f->depends[k].param ? "%s[%s]," : "%s,", f->depends[k].name, f->depends[k].param);
	event_of_instance(i, i->current, EVENT_READY, from.data);
}

/* A value that nobody has seen yet, in the slot of the instance. */
static void show_anew(struct instance *i, struct image *im)
{
	im->board_value = instance_effects(i)->show_new(instance_model(i)->work, &i->board_slot);
	im->board_slot = i->board_slot;
}

/* What is known of an image built again passes over to the one that stays. */
static void keep_last(struct instance *i, struct image *im)
{
	struct image *last = image_ref(i->last);
	struct digest *dep_digests = last->dep_digests;
	char **dep_titles = last->dep_titles;

	last->created = im->created;
	last->created_real = im->created_real;
	last->checked = im->checked;
	last->build_ns = im->build_ns;
	last->cpu_ns = im->cpu_ns;
	last->peak_rss = im->peak_rss;
	last->inputs = im->inputs;
	last->section = im->section;
	last->dep_digests = im->dep_digests;
	im->dep_digests = dep_digests;
	last->dep_titles = im->dep_titles;
	im->dep_titles = dep_titles;
	image_unref(im);
	i->current = last;
	image_update_unused(last);
	i->failed = false;
	/* Of an instance that has gone it may have stayed, and the slot of that may be another one's now. */
	if (last->board_slot == i->board_slot)
		instance_effects(i)->show(instance_model(i)->work, i->board_slot, last->board_value);
	else
		show_anew(i, last);
	model_changed(instance_model(i));
	log_info("%s: rebuilt, same digest: generation %u stays", i->title, last->generation);
	tell_ready(i);
}

static void instance_publish(struct instance *i, struct image *im)
{
	i->failed = false;
	im->generation = ++i->generation;
	show_anew(i, im);
	instance_set_last(i, im);
	if (i->clone_of)
		pool_started(i->clone_of, im->build_ns);
	i->current = im;
	image_update_unused(im);
	model_changed(instance_model(i));
	log_write(instance_log_level(i), 0, "%s: generation %u is ready: %llu bytes, built in %.3f s", i->title, im->generation,
		  (unsigned long long)im->size, (double)im->build_ns / 1e9);
	tell_ready(i);
}

/* The inputs changed while a build read them: what came out may be half old and half new. True: it is done again. */
static bool build_again(struct instance *i, const char *changed)
{
	if (!changed || ++i->unsettled >= UNSETTLED_MAX)
		return false;
	log_info("%s: building again: while it was built %s", i->title, changed);
	instance_set_cause(i, changed);
	instance_unpin(i);
	instance_set_idle(i);
	instance_propagate(i);
	return true;
}

static void remember_dependencies(struct instance *i)
{
	size_t n = i->fixture->n_depends;

	free(i->failed_with);
	i->failed_with = n && i->pins ? xcalloc(n, sizeof *i->failed_with) : NULL;
	for (size_t k = 0; i->failed_with && k < n; k++)
		i->failed_with[k] = i->pins[k] ? i->pins[k]->serial : 0;
}

static void build_failed(struct instance *i, const char *sentence, bool no_room)
{
	remember_dependencies(i);
	instance_unpin(i);
	i->unsettled = 0;
	instance_model(i)->failures++;
	instance_set_error(i, xstrdup(sentence));
	free(i->failed_error);
	i->failed_error = xstrdup(sentence);
	i->state = INSTANCE_FAILED;
	i->failed = true;
	i->not_started = false;
	i->failed_at = model_now(instance_model(i));
	i->failed_full = no_room ? instance_model(i)->account.bytes : 0;
	i->failed_section = i->fixture->section;
	model_changed(instance_model(i));
	log_warn(0, "%s: the build failed: %s", i->title, sentence);
	event_of_instance(i, NULL, EVENT_FAILED, sentence);
	if (i->restarting) {
		i->deaths++;
		instance_restart_later(i);
	}
	if (i->clone_of)
		pool_failed(i->clone_of, i);
	instance_propagate(i);
}

void instance_build_failed(struct instance *i, const char *sentence, bool no_room, const char *changed)
{
	i->builds++;
	i->lost_builders = 0;
	if (!build_again(i, changed))
		build_failed(i, sentence, no_room);
}

void instance_not_started(struct instance *i, const char *sentence, const char *changed)
{
	instance_build_failed(i, sentence, false, changed);
	i->not_started = i->failed && i->state == INSTANCE_FAILED;
}

void instance_build_again(struct instance *i, const char *cause, const char *sentence)
{
	i->builds++;
	if (!build_again(i, cause))
		build_failed(i, sentence, false);
}

void instance_builder_lost(struct instance *i)
{
	_cleanup_free_ char *sentence = NULL;

	if (++i->lost_builders >= LOST_BUILDERS_MAX) {
		i->lost_builders = 0;
		sentence = xasprintf("%d clients in a row ended while they built it", LOST_BUILDERS_MAX);
		build_failed(i, sentence, false);
		return;
	}
	log_info("%s: its builder has gone", i->title);
	instance_set_idle(i);
	instance_propagate(i);
}

struct image *instance_built(struct instance *i, struct image *im, const char *changed)
{
	i->builds++;
	i->lost_builders = 0;
	i->restarting = false;
	if (changed) {
		_cleanup_free_ char *sentence =
			xasprintf("its inputs changed during each of %d builds; the last time %s", UNSETTLED_MAX, changed);

		/* It may have to be torn down, and the next build waits for that. */
		instance_set_last(i, im);
		image_unref(im);
		if (!build_again(i, changed))
			build_failed(i, sentence, false);
		return NULL;
	}
	instance_unpin(i);
	i->unsettled = 0;
	i->anew = false;
	instance_set_error(i, NULL);
	i->state = INSTANCE_READY;
	if (same_as_last(i, im))
		keep_last(i, im);
	else
		instance_publish(i, im);
	instance_rearm_expiry(i);
	instance_retire_outdated(i);
	return i->current;
}

void instance_compared(struct instance *i, bool same, const char *cause)
{
	instance_set_idle(i);
	if (same)
		instance_inputs_event(i); /* what was heard meanwhile */
	else
		instance_retire(i, cause);
	instance_propagate(i);
}

void instance_was_reset(struct instance *i, bool done, const char *cause)
{
	if (done) {
		i->current->dirty = false;
		event_of_instance(i, i->current, EVENT_RESET, NULL);
	}
	instance_compared(i, done, cause);
}

void instance_checked(struct instance *i, bool fits, int64_t started, const char *cause)
{
	if (fits)
		i->current->checked = started;
	else
		i->anew = true;
	instance_compared(i, fits, cause);
}
