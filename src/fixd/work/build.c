/* SPDX-License-Identifier: MIT */
#include "fixd/work/build.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/process.h"
#include "fixd/host/spawn.h"
#include "fixd/host/watch.h"
#include "fixd/model/events.h"
#include "fixd/model/image.h"
#include "fixd/model/instance.h"
#include "fixd/work/build_state.h"
#include "fixd/work/job_request.h"
#include "fixd/work/keeper.h"
#include "fixd/work/publish.h"
#include "fixd/work/trees.h"
#include "fixd/work/work.h"
#include "image/region.h"
#include "wire/rows.h"
#include "wire/socket.h"

#define END_GRACE (20 * NSEC_PER_SEC)
#define SHELL_GRACE (2 * NSEC_PER_SEC)
#define BUILD_CUT "the builder closed its connection to fixd (descriptor 3), or put something else there"
#define PLUGIN_RESERVE_MIN (UINT64_C(64) << 20)

void build_free(struct build *b)
{
	struct work *w = b->builds->work;

	queue_give_up_place(b);
	if (b->instance && b->instance->build == b)
		b->instance->build = NULL;
	timer_stop(&b->limit);
	link_remove(&b->room.link);
	source_close(b->process);
	source_close(b->channel);
	source_close(b->errors);
	if (b->address) {
		/* Nobody else has mapped it: the next range may lie there. */
		region_trim(w->model->region, b->address, 0);
		region_release(w->model->region, b->address);
	}
	if (b->tree)
		trees_discard(w, b->tree);
	if (b->keeper)
		keeper_drop(b->keeper);
	transfer_decide(transfer_of(b), false);
	if (b->download)
		b->download->build = NULL;
	for (size_t i = 0; i < b->n_depends; i++)
		image_unref(b->depends[i]);
	account_remove_bytes(w->model, NULL, b->granted);
	link_remove(&b->link);
	watchset_free(b->fresh);
	fd_close(b->image_fd);
	fd_close(b->hold);
	fd_close(b->parts);
	text_deinit(&b->log);
	free(b->depends);
	free(b->sentence);
	free(b->cause);
	free(b->tree);
	free(b);
}

void build_kill_group(struct build *b)
{
	if (b->pid > 0)
		process_kill(-b->pid, SIGKILL);
}

/* The helper of a service, or of a command, has processes outside of its group: it is asked to end them, and has some time for it. */
void build_end_process(struct build *b)
{
	struct loop *loop = b->builds->work->model->loop;

	if (b->asked_to_end || b->pid <= 0) {
		build_kill_group(b);
	} else if (b->keeper && b->channel && (b->keeper->dir || b->have_result)) {
		b->asked_to_end = true;
		/* It may have published meanwhile, and be waiting for those who need that. */
		b->hold = fd_close(b->hold);
		if (shutdown(source_fd(b->channel), SHUT_WR) < 0)
			build_kill_group(b); /* another one ends them, by the note */
		timer_start_in(loop, &b->limit, b->keeper->time + END_GRACE);
	} else if (b->runs_shell) {
		b->asked_to_end = true;
		process_kill(b->pid, SIGTERM);
		timer_start_in(loop, &b->limit, SHELL_GRACE);
	} else {
		build_kill_group(b);
	}
}

const struct text *build_words(const struct instance *i)
{
	return i->build && i->build->purpose == PURPOSE_BUILD ? &i->build->log : NULL;
}

uint64_t build_progress(const struct instance *i)
{
	return i->build ? i->build->granted : 0;
}

/* A process and what it says. */

/* Somebody may write without end: after so much others have their turn. A pipe holds 16 pages. */
#define READS_PER_TURN 16

static void build_read_errors(void *arg)
{
	struct build *b = arg;
	char buf[4096];
	ssize_t n = 1;

	for (int i = 0; i < READS_PER_TURN && (n = read(source_fd(b->errors), buf, sizeof buf)) > 0; i++)
		text_add_and_forget(&b->log, buf, (size_t)n, INSTANCE_LOG_MAX);
	if (n == 0)
		b->errors = source_close(b->errors);
	else if (n > 0)
		source_again(b->errors);
}

static void grant(struct build *b, uint64_t total)
{
	struct work *w = b->builds->work;
	struct job_granted answer = { 0 };

	if (total > b->granted) {
		answer.error = total > b->limit_bytes ? -EDQUOT : reclaim_memory(w->model, total - b->granted);
		if (answer.error == -EAGAIN) {
			b->wanted = total;
			reclaim_wait(w->model, &b->room);
			return;
		}
		b->no_room |= answer.error && total <= b->limit_bytes;
		if (answer.error == 0) {
			account_add_bytes(w->model, NULL, total - b->granted);
			b->granted = total;
		}
	}
	if (socket_send(source_fd(b->channel), &answer, sizeof answer, NULL, 0, MSG_DONTWAIT) < 0)
		build_kill_group(b);
}

void build_grant_again(struct mem_waiter *r)
{
	struct build *b = container_of(r, struct build, room);

	if (b->channel)
		grant(b, b->wanted);
}

#define FIGURE_MAX (UINT64_C(1) << 60)

static void take_result(struct build *b, const char *message, size_t size, int *fds)
{
	size_t length = size - sizeof b->result;

	if (b->have_result)
		return;
	memcpy(&b->result, message, sizeof b->result);
	/* Figures and a process that may be signalled are not believed, either: a plugin may have written them. */
	b->result.cpu_ns = b->result.cpu_ns < FIGURE_MAX ? b->result.cpu_ns : FIGURE_MAX;
	b->result.peak_bytes = b->result.peak_bytes < FIGURE_MAX ? b->result.peak_bytes : FIGURE_MAX;
	if (b->result.service == 1 || b->result.service > PID_NUMBER_MAX)
		b->result.service = 0;
	if (length > JOB_SENTENCE_MAX)
		length = JOB_SENTENCE_MAX;
	b->sentence = xstrndup(message + sizeof b->result, length);
	b->image_fd = fd_steal(&fds[0]);
	if (!b->asked_to_end)
		b->hold = fd_steal(&fds[1]);
	b->have_result = true;
}

static void build_end_with(struct build *b, const char *wrong)
{
	if (!b->wrong)
		b->wrong = wrong;
	build_kill_group(b);
}

/* It runs foreign code, which has taken its channel. */
static void build_break(struct build *b, const char *wrong)
{
	if (!b->have_result && !b->wrong && !spawn_is_ending(b->pid))
		build_end_with(b, wrong);
}

static void publish_kept(struct build *b);

/* Nothing comes from the remote any more: its time begins. */
static void build_looked(struct build *b)
{
	if (b->looked || b->over || !b->pid || !b->instance)
		return;
	b->looked = true;
	if (!b->asked_to_end)
		timer_start_in(b->builds->work->model->loop, &b->limit, build_time_limit(b));
}

/* What flows has all the time that it takes, and fixd-remote no patience with what does not. False: there is none that may. */
static bool take_transfer(struct build *b, int *fd, bool up)
{
	if (!b->remote || *fd < 0 || !b->instance || (up ? b->offer != NULL : b->taking || b->looked))
		return false;
	b->taking |= !up;
	transfer_new(b, fd_steal(fd), up, up ? NULL : build_looked);
	if (!up && !b->asked_to_end)
		timer_stop(&b->limit);
	return true;
}

/* False: it is none that a helper sends. */
static bool build_take_message(struct build *b, const char *message, size_t size, int *fds)
{
	struct job_handover h = { 0 };
	struct job_grant g;
	uint32_t kind;

	memcpy(&kind, message, size < sizeof kind ? size : sizeof kind);
	if (kind == JOB_RESULT && size >= sizeof(struct job_result)) {
		take_result(b, message, size, fds);
		return true;
	}
	if (kind == JOB_GRANT && size == sizeof g && b->instance) {
		memcpy(&g, message, sizeof g);
		grant(b, g.total);
		return true;
	}
	if (size != sizeof h)
		return false;
	memcpy(&h, message, sizeof h);
	switch (kind) {
	case JOB_AT_HOME:
		b->at_home = true;
		return true;
	case JOB_PARTS:
		if (b->parts >= 0)
			return false;
		b->parts = fd_steal(&fds[0]);
		return true;
	case JOB_TRANSFER:
		return take_transfer(b, &fds[0], h.up != 0);
	case JOB_LOOKED:
		build_looked(b);
		return b->remote;
	default:
		return false;
	}
}

/* It waits for each answer: so many are from somebody else. */
#define PACKETS_PER_TURN 64

static void build_read_channel(void *arg)
{
	struct build *b = arg;
	char message[sizeof(struct job_result) + JOB_SENTENCE_MAX];

	for (int i = 0; i < PACKETS_PER_TURN; i++) {
		int fds[2] = { -1, -1 };
		size_t n_fds = ELEMENTSOF(fds);
		ssize_t n = socket_receive(source_fd(b->channel), message, sizeof message, fds, &n_fds, MSG_DONTWAIT);

		for (size_t k = n_fds; k < ELEMENTSOF(fds); k++)
			fds[k] = -1;
		if (n == -EAGAIN)
			return;
		if (n < 0 && is_passing((int)n))
			break;
		if (n <= 0) {
			if (n == -EMFILE && !b->have_result)
				build_end_with(b, "fixd has no descriptor left for what its builder has sent, or it has sent too many");
			else
				build_break(b, BUILD_CUT);
			b->channel = source_close(b->channel);
			return;
		}
		if (!build_take_message(b, message, (size_t)n, fds)) {
			build_break(b, "the builder wrote to its connection to fixd (descriptor 3), which only fixd-builder may do");
			build_end_process(b);
		}
		fd_close(fds[0]);
		fd_close(fds[1]);
		/* Such a process stays. */
		if (b->have_result && !b->result.error && b->keeper && b->pid && b->instance && !b->asked_to_end) {
			publish_kept(b);
			return;
		}
	}
	source_again(b->channel);
}

static void on_build_limit(void *arg)
{
	struct build *b = arg;

	b->timed_out = true;
	build_end_process(b);
}

static void on_build_exit_of(void *arg);

static enum job_kind job_kind(const struct build *b)
{
	static const enum job_kind kinds[SOURCE_COUNT] = {
		[SOURCE_FILE] = JOB_FILE,     [SOURCE_DIRECTORY] = JOB_DIRECTORY, [SOURCE_COMMAND] = JOB_COMMAND, [SOURCE_TREE] = JOB_TREE,
		[SOURCE_PLUGIN] = JOB_PLUGIN, [SOURCE_SERVICE] = JOB_SERVICE,	  [SOURCE_PROCESS] = JOB_SERVICE,
	};

	if (b->purpose == PURPOSE_CHECK || b->purpose == PURPOSE_RESET)
		return JOB_CHECK;
	return b->purpose == PURPOSE_COMPARE ? JOB_DIGEST : kinds[b->instance->fixture->source];
}

static int send_job(const struct build *b, int channel)
{
	const struct job_request what = {
		.instance = b->instance,
		.kind = job_kind(b),
		.command = b->purpose == PURPOSE_CHECK	 ? b->instance->fixture->policy.check
			   : b->purpose == PURPOSE_RESET ? b->instance->fixture->reset
							 : NULL,
		.keeper = b->keeper,
		.image = b->purpose == PURPOSE_BUILD ? NULL : b->instance->current,
		.watch = b->purpose == PURPOSE_COMPARE ? b->fresh : b->instance->watch,
		.depends = b->depends,
		.n_depends = b->n_depends,
		.tree = b->tree,
		.address = b->address,
		.most = b->most,
		.limit_bytes = b->limit_bytes,
	};

	return job_request_send(&what, channel);
}

int64_t build_time_limit(const struct build *b)
{
	const struct policy *p = &b->instance->fixture->policy;

	return b->purpose == PURPOSE_CHECK || b->purpose == PURPOSE_RESET ? p->check_timeout : p->timeout;
}

static int start_process(struct build *b)
{
	struct builds *bs = b->builds;
	struct loop *loop = bs->work->model->loop;
	struct spawned child;
	const struct fixture *f = b->instance->fixture;
	enum spawn_flags flags = f->source == SOURCE_PLUGIN ? SPAWN_STEADY : f->source == SOURCE_SERVICE ? SPAWN_OWN_IPC : 0;
	int r = spawn_helper(f->user, b->purpose == PURPOSE_BUILD ? flags : 0, &child);

	if (r < 0)
		return r;
	b->pid = child.pid;
	b->remote = f->remote;
	b->started = clock_now();
	b->process = loop_watch(loop, child.pidfd, on_build_exit_of, b);
	b->errors = loop_watch(loop, child.errors, build_read_errors, b);
	b->channel = loop_watch(loop, child.channel, build_read_channel, b);
	b->runs_shell = job_kind(b) == JOB_COMMAND || job_kind(b) == JOB_TREE || job_kind(b) == JOB_CHECK;
	timer_init(&b->limit, on_build_limit, b);
	timer_start(loop, &b->limit, b->started + build_time_limit(b));
	link_remove(&b->link);
	link_insert(&bs->running, &b->link);
	if (b->purpose == PURPOSE_BUILD)
		event_of_instance(b->instance, NULL, EVENT_BUILD, NULL);
	/* If it cannot be told what to do, its end says that it published nothing. */
	r = send_job(b, child.channel);
	if (r < 0) {
		b->sentence = xasprintf("the job cannot be sent to the builder: %s", strerror(-r));
		build_kill_group(b);
	}
	return 0;
}

/* All plugins that run at the same time find a range, with as much again for what is there. */
static uint64_t plugin_reserve(const struct work *w)
{
	uint64_t share = REGION_SIZE / (2 * w->model->config->jobs);

	return share > PLUGIN_RESERVE_MIN ? share : PLUGIN_RESERVE_MIN;
}

/*
 * Objects are built where they will be mapped, and nobody knows how large they become: as many addresses as there are to be had. What goes to
 * other machines has the same ones there, if they are free.
 */
static uint64_t plugin_address(const struct build *b)
{
	const struct instance *i = b->instance;
	struct region *region = b->builds->work->model->region;
	struct digest title = digest_bytes(i->title, strlen(i->title));

	if (!i->fixture->remote)
		return region_alloc(region, b->most);
	return region_alloc_seeded(region, b->most, title.low);
}

/* Everything a build needs before its process starts. NULL, or a sentence. */
char *build_prepare(struct build *b)
{
	struct instance *i = b->instance;
	const struct fixture *f = i->fixture;
	struct work *w = b->builds->work;

	b->limit_bytes = f->policy.memory_max < w->model->config->memory_max ? f->policy.memory_max : w->model->config->memory_max;
	if (b->limit_bytes > REGION_SIZE / 4)
		b->limit_bytes = REGION_SIZE / 4;
	reclaim_descriptors(w->model);
	if (f->source == SOURCE_DIRECTORY || f->source == SOURCE_TREE) {
		int r = trees_make(w, f->name, f->user, &b->tree);

		if (r < 0)
			return xasprintf("no directory for its tree on a tmpfs: %s", strerror(-r));
	}
	if (keeper_is_needed(f)) {
		char *wrong = NULL;

		b->keeper = keeper_prepare(i, &wrong);
		if (!b->keeper)
			return wrong;
	}
	b->most = b->limit_bytes;
	if (f->source == SOURCE_PLUGIN && b->most > plugin_reserve(w))
		b->most = plugin_reserve(w);
	b->most = (b->most + REGION_ALIGN - 1) / REGION_ALIGN * REGION_ALIGN;
	/* Bytes get their place when they are there. */
	while (f->source == SOURCE_PLUGIN && !(b->address = plugin_address(b)) && b->most > PLUGIN_RESERVE_MIN)
		b->most = b->most / 2 / REGION_ALIGN * REGION_ALIGN;
	if (f->source == SOURCE_PLUGIN && !b->address)
		return xasprintf("no range of addresses is left for it; address-base or memory-max must be smaller");
	/* Before its process reads them: later edits are noticed. */
	watcher_catch_up(w->watcher);
	watchset_free(i->watch);
	i->watch = watchset_new(w->watcher, f->inputs, f->policy.watch, WATCH_NAMES_MAX, NULL, instance_inputs_event, i);
	return NULL;
}

/* `wrong` is freed; `failed` tells the model. */
static void end_before_start(struct build *b, char *wrong, void (*failed)(struct instance *i, const char *sentence, const char *changed))
{
	struct instance *i = b->instance;
	_cleanup_free_ char *changed = i->watch ? watchset_known_change(i->watch) : NULL;

	i->build = NULL;
	if (b->purpose == PURPOSE_BUILD)
		failed(i, wrong, changed);
	else
		instance_compared(i, false, wrong);
	free(wrong);
	build_free(b);
}

static void failed_for_good(struct instance *i, const char *sentence, const char *changed)
{
	instance_build_failed(i, sentence, false, changed);
}

void build_cannot_start(struct build *b, char *wrong)
{
	end_before_start(b, wrong, instance_not_started);
}

/* Its inputs were looked at, so that later edits are noticed: its process may read them. */
void build_begin_process(struct build *b)
{
	struct instance *i = b->instance;
	char *wrong = b->purpose == PURPOSE_BUILD && i->watch ? watchset_wrong(i->watch) : NULL;
	int r = wrong ? 0 : start_process(b);

	if (r < 0)
		build_cannot_start(b, xasprintf("its builder cannot be started: %s", strerror(-r)));
	else if (wrong)
		end_before_start(b, wrong, failed_for_good);
}

/* What it has published is an image when it is known that its inputs have not changed. */
static void build_is_over(struct build *b)
{
	timer_stop(&b->limit);
	b->over = clock_now();
	if (!queue_look(b, b->over + LOOK_SLICE))
		queue_to_look(b);
}

/* The build is over, though its process is not: what that says from now on is for its keeper. */
static void publish_kept(struct build *b)
{
	build_read_errors(b);
	queue_give_up_place(b);
	source_pause(b->channel);
	build_is_over(b);
}

static void on_build_exit_of(void *arg)
{
	struct build *b = arg;
	struct builds *bs = b->builds;

	spawn_reap(b->pid, &b->status);
	if (b->status.si_code == CLD_EXITED && b->status.si_status == JOB_CUT_OFF && !b->wrong)
		b->wrong = BUILD_CUT;
	/* Children it left behind go with it. */
	build_kill_group(b);
	b->pid = 0;
	if (b->channel)
		build_read_channel(b);
	if (b->errors)
		build_read_errors(b);
	queue_give_up_place(b);
	if (!b->instance) {
		build_free(b);
		loop_defer(bs->work->model->loop, &bs->work->ended);
	} else if (b->purpose == PURPOSE_BUILD) {
		b->process = source_close(b->process);
		b->channel = source_close(b->channel);
		b->errors = source_close(b->errors);
		if (!b->over)
			build_is_over(b);
	} else {
		b->instance->build = NULL;
		publish_check(b);
	}
}
