/* SPDX-License-Identifier: MIT */
#include "fixd/work/publish.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/units.h"
#include "config/config.h"
#include "fixd/host/port.h"
#include "fixd/host/watch.h"
#include "fixd/model/image.h"
#include "fixd/model/instance.h"
#include "fixd/model/session.h"
#include "fixd/work/build_state.h"
#include "fixd/work/keeper.h"
#include "fixd/work/work.h"
#include "image/memfd.h"
#include "image/region.h"

/* And what a service has not come to by then. */
static void put_timeout(struct text *t, const struct build *b)
{
	const struct fixture *f = b->instance->fixture;
	char limit[32];

	text_printf(t, "timed out after %s", format_duration(limit, sizeof limit, build_time_limit(b)));
	if (b->purpose == PURPOSE_BUILD && f->source == SOURCE_PROCESS)
		text_puts(t, ": the process had not come to its checkpoint by then (fixd_fork_here() or fixd.checkpoint())");
	if (b->purpose == PURPOSE_BUILD && f->source == SOURCE_SERVICE)
		text_printf(t, ": the service was not ready by then (ready = %s%s)", f->ready ? f->ready : "line",
			    f->prewarm ? ", and prewarm" : "");
}

static char *failure_sentence(const struct build *b, const siginfo_t *status)
{
	struct text t = { 0 };

	if (b->timed_out)
		put_timeout(&t, b);
	else if (b->have_result && b->result.error)
		text_puts(&t, b->sentence);
	else if (b->wrong || b->sentence)
		text_puts(&t, b->wrong ? b->wrong : b->sentence);
	else if (!status->si_pid)
		text_puts(&t, "the builder has ended, and how is not known");
	else if (status->si_code == CLD_EXITED)
		text_printf(&t, "the builder exited with status %d without publishing an image", status->si_status);
	else
		text_printf(&t, "the builder was killed by signal %d (%s)", status->si_status, strsignal(status->si_status));
	text_add_with_last_lines(&t, "", &b->log);
	return text_steal(&t);
}

/* Bytes that it takes: the holes of a file take none. */
static uint64_t bytes_taken(const struct build *b, uint64_t size)
{
	uint64_t bytes = account_pages(size);
	struct stat st;

	if (b->instance->fixture->source != SOURCE_FILE || fstat(b->image_fd, &st) < 0)
		return bytes;
	return (uint64_t)st.st_blocks * 512 < bytes ? (uint64_t)st.st_blocks * 512 : bytes;
}

/* Makes an image of what was published, or says what is wrong with it. */
static char *publish_make_image(struct build *b, struct image **out)
{
	const struct job_result *r = &b->result;
	struct instance *i = b->instance;
	struct work *w = i->session->model->work;
	bool has_more = b->tree || i->fixture->data || i->fixture->clones || i->fixture->source == SOURCE_PROCESS;
	struct image *im;
	uint64_t size, taken, parts;
	int err = b->image_fd < 0 ? -EBADF : memfd_verify(b->image_fd, &size);

	if (err < 0)
		return xasprintf("what the builder published is not a sealed memory file: %s", strerror(-err));
	/* It runs foreign code: nothing it says is believed. */
	taken = bytes_taken(b, size);
	if (size != r->size || taken > account_pages(b->most) || size > REGION_SIZE / 4 || (r->root && r->root >= size) ||
	    taken > account_pages(b->granted) || r->tree_bytes > (has_more && size < b->granted ? b->granted - size : 0))
		return xasprintf("what the builder published is not what it said: %llu bytes", (unsigned long long)size);
	im = image_new(w->model, fd_steal(&b->image_fd), WIRE_IMAGE_BLOB, size);
	im->kind = i->fixture->source == SOURCE_PLUGIN ? WIRE_IMAGE_OBJECTS : b->tree ? WIRE_IMAGE_TREE : WIRE_IMAGE_BLOB;
	im->address = b->address ? b->address : region_alloc(w->model->region, size);
	im->root = r->root;
	im->at_home_only = !i->fixture->relocate || b->at_home;
	im->digest = r->digest;
	im->inputs = r->inputs;
	im->section = b->section;
	im->tree = b->tree;
	im->n_depends = b->n_depends;
	im->dep_digests = xcalloc(b->n_depends, sizeof *im->dep_digests);
	for (size_t k = 0; k < b->n_depends; k++)
		im->dep_digests[k] = image_identity(b->depends[k]);
	image_hold_teardown_deps(im, b->depends, b->n_depends);
	if (b->keeper)
		image_hold_trees(im, b->depends, b->n_depends);
	/* Clients believe that nobody changes it. What must not be relocated is not to be sent by hand either. */
	if (b->parts >= 0 && !b->at_home && memfd_verify(b->parts, &parts) == 0)
		im->parts_fd = fd_steal(&b->parts);
	im->created = im->used = clock_now();
	im->checked = b->started;
	im->created_real = im->used_real = clock_real();
	im->build_ns = im->created - b->started;
	im->cpu_ns = (int64_t)r->cpu_ns;
	im->peak_rss = r->peak_bytes;
	region_trim(w->model->region, im->address, size);
	image_charge(im, NULL, taken + r->tree_bytes);
	b->address = 0;
	b->tree = NULL;
	if (im->kind == WIRE_IMAGE_OBJECTS) {
		im->depends = b->depends;
		b->depends = NULL;
		b->n_depends = 0;
	}
	*out = im;
	return NULL;
}

/* The helper is the keeper of the image now; if there is none it begins to tear down at once. */
static void hand_to_keeper(struct build *b, struct image *im)
{
	struct helper h = {
		.pid = b->pid,
		.process = b->process,
		.channel = b->channel,
		.errors = b->errors,
		.hold = fd_steal(&b->hold),
		.service = (pid_t)b->result.service,
	};
	struct keeper *k = b->keeper;

	b->keeper = NULL;
	source_resume(b->channel);
	b->process = b->channel = b->errors = NULL;
	b->pid = 0;
	keeper_begin(k, &h, im);
}

/* A port that was free when the service was told of it. */
static char *lost_its_port(const struct build *b)
{
	uint16_t port = b->keeper ? b->keeper->port : 0;

	return port && !port_is_free(port) ? xasprintf("its port %u was taken by another process", port) : NULL;
}

/* Of all that have none, the first is told of. */
static void note_unsandboxed(const struct build *b)
{
	struct model *m = b->builds->work->model;

	if (m->unsandboxed || b->instance->fixture->source != SOURCE_SERVICE || !*b->sentence)
		return;
	m->unsandboxed = xstrdup(b->sentence);
	log_warn(0, "%s, and services like it, run without namespaces of their own: %s", b->instance->title, m->unsandboxed);
}

void publish_build(struct build *b)
{
	const siginfo_t *status = &b->status;
	struct instance *i = b->instance;
	int64_t over = b->over;
	struct transfer *offer = transfer_of(b);
	struct image *im = NULL, *current = NULL;
	char *wrong = NULL, *changed = NULL, *again = NULL;
	bool no_room;

	i->build = NULL;
	if (!b->have_result || b->result.error) {
		wrong = failure_sentence(b, status);
		again = lost_its_port(b);
	} else if (b->keeper && !b->pid) {
		wrong = b->timed_out ? failure_sentence(b, status) : xstrdup("what was to keep it has ended at once");
	} else {
		note_unsandboxed(b);
		wrong = publish_make_image(b, &im);
	}
	text_deinit(&i->log);
	i->log = b->log;
	b->log = (struct text){ 0 };
	if (b->keeper && b->pid && b->have_result && !b->result.error)
		hand_to_keeper(b, im);
	no_room = b->no_room;
	build_free(b); /* its grants must be gone before others ask */
	changed = instance_inputs_changed(i, over);
	if (again)
		instance_build_again(i, again, wrong);
	else if (wrong)
		instance_build_failed(i, wrong, no_room, changed);
	else
		current = instance_built(i, im, changed);
	/* What was built from other inputs than its key says is for nobody. */
	transfer_decide(offer, current && !changed);
	if (current)
		instance_propagate(i);
	free(changed);
	free(wrong);
	free(again);
}

void publish_check(struct build *b)
{
	struct instance *i = b->instance;
	enum purpose purpose = b->purpose;
	int64_t started = b->started;
	struct text cause = { 0 };
	bool fits;

	if (b->purpose == PURPOSE_COMPARE) {
		fits = b->have_result && !b->result.error && digest_equal(b->result.inputs, i->current->inputs);
		text_printf(&cause, "%s", b->cause);
	} else {
		fits = b->have_result && !b->result.error;
		text_printf(&cause, "its %s failed: %s", purpose == PURPOSE_RESET ? "reset" : "check",
			    b->timed_out		  ? "it timed out"
			    : b->sentence && *b->sentence ? b->sentence
							  : "it was killed");
		text_add_with_last_lines(&cause, "", &b->log);
	}
	if (fits && b->fresh) {
		watchset_free(i->watch);
		i->watch = b->fresh;
		b->fresh = NULL;
	}
	build_free(b);
	if (purpose == PURPOSE_RESET)
		instance_was_reset(i, fits, cause.data);
	else if (purpose == PURPOSE_CHECK)
		instance_checked(i, fits, started, cause.data);
	else
		instance_compared(i, fits, cause.data);
	text_deinit(&cause);
}
