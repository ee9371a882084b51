/* SPDX-License-Identifier: MIT */
#include "fixd/work/client_build.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/process.h"
#include "base/units.h"
#include "config/config.h"
#include "fixd/host/viewer.h"
#include "fixd/host/watch.h"
#include "fixd/loop/loop.h"
#include "fixd/model/client.h"
#include "fixd/model/events.h"
#include "fixd/model/image.h"
#include "fixd/model/instance.h"
#include "fixd/model/reclaim.h"
#include "fixd/model/run.h"
#include "fixd/model/session.h"
#include "fixd/model/user.h"
#include "fixd/work/wire_image.h"
#include "fixd/work/work.h"
#include "image/memfd.h"
#include "image/region.h"
#include "wire/offer.h"
#include "wire/rows.h"
#include "wire/socket.h"
#include "wire/state.h"

/* The daemon looks through them for a user who is not its own. */
#define WATCH_NAMES_OF_OTHERS_MAX 5000

struct offer {
	struct link in_client; /* client::offers */
	struct instance *instance;
	struct work *work;
	struct user *user; /* a reference */
	struct client *client;
	struct source *channel, *process;
	struct timer limit;
	int64_t started;
	struct digest *dep_digests; /* of the images it builds from */
	size_t n_dep_digests;
	char **dep_titles;	/* their titles */
	struct image **depends; /* they themselves (references) */
	size_t n_depends;
	char *run, *test;
	struct digest section;
	struct mem_waiter room;	 /* for what was published */
	struct deferred looking; /* at the inputs, since */
	int64_t asked;		 /* then: 0: not yet. What was published: */
	struct offer_commit commit;
	int fds[2];
	size_t n_fds; /* 0: nothing was */
};

/* The instance may offer itself to the next one while it hears of the end. */
static struct instance *leave_instance(struct offer *o)
{
	struct instance *i = o->instance;

	i->offer = NULL;
	o->instance = NULL;
	return i;
}

/* What it has been told, without what it does. */
static void free_description(struct offer *o)
{
	for (size_t k = 0; k < o->n_depends; k++)
		image_unref(o->depends[k]);
	free(o->depends);
	free(o->dep_digests);
	list_free(o->dep_titles);
	free(o->run);
	free(o->test);
	free(o);
}

static void offer_free(struct offer *o)
{
	if (o->instance)
		leave_instance(o);
	timer_stop(&o->limit);
	link_remove(&o->in_client);
	link_remove(&o->room.link);
	deferred_cancel(&o->looking);
	source_close(o->channel);
	source_close(o->process);
	for (size_t k = 0; k < o->n_fds; k++)
		fd_close(o->fds[k]);
	o->user->n_builds--;
	user_unref(o->user);
	free_description(o);
}

void offer_abandon(struct instance *i)
{
	if (i->offer)
		offer_free(i->offer);
}

struct client *offer_builder(const struct instance *i)
{
	return i->offer ? i->offer->client : NULL;
}

uint64_t offer_limit(const struct instance *i)
{
	uint64_t left = user_bytes_left(i->session->user), max = i->fixture->policy.memory_max;

	return max < left ? max : left;
}

static struct instance *offer_finish(struct offer *o)
{
	struct instance *i = leave_instance(o);

	offer_free(o);
	return i;
}

static void client_build_lost(struct offer *o)
{
	instance_builder_lost(offer_finish(o));
}

static void on_offer_process_end(void *arg)
{
	client_build_lost(arg);
}

void offer_forget_all(struct client *c)
{
	while (!link_empty(&c->offers))
		client_build_lost(link_entry(c->offers.next, struct offer, in_client));
}

/* Nobody looks for it at its inputs, which may be many. */
static void offer_fail(struct offer *o, const char *sentence, bool no_room)
{
	struct instance *i = offer_finish(o);
	_cleanup_free_ char *changed = i->watch ? watchset_known_change(i->watch) : NULL;

	instance_build_failed(i, sentence, no_room, changed);
}

static void on_offer_limit(void *arg)
{
	struct offer *o = arg;
	char limit[32];
	_cleanup_free_ char *sentence =
		xasprintf("timed out after %s", format_duration(limit, sizeof limit, o->instance->fixture->policy.timeout));

	offer_fail(o, sentence, false);
}

static int reply(struct offer *o, int error, const char *sentence, const struct image *im)
{
	char message[sizeof(struct offer_answer) + OFFER_SENTENCE_MAX];
	struct offer_answer a = { .error = error, .sentence = (uint32_t)strnlen(sentence, OFFER_SENTENCE_MAX) };

	if (im)
		a.image = wire_image_of(im);
	memcpy(message, &a, sizeof a);
	memcpy(message + sizeof a, sentence, a.sentence);
	/* A client that has gone meanwhile does not hear it. */
	return socket_send(source_fd(o->channel), message, sizeof a + a.sentence, im ? &im->fd : NULL, im != NULL, MSG_DONTWAIT);
}

/* NULL, or what is wrong with a publication; its note is verified as well. */
static char *offer_verify(const struct offer *o, const struct offer_commit *c, const int *fds, size_t n_fds, uint64_t *note_size)
{
	uint64_t size, limit = offer_limit(o->instance);
	size_t wanted = c->flags & OFFER_COMMIT_NOTE ? 2 : 1;
	int r = n_fds == wanted ? memfd_verify(fds[0], &size) : -EBADF;

	*note_size = 0;
	if (r == 0 && wanted == 2)
		r = memfd_verify(fds[1], note_size);
	if (r < 0)
		return xasprintf("what the client published is not a sealed memory file: %s", strerror(-r));
	if (size != c->size || *note_size > OFFER_NOTE_MAX)
		return xasprintf("what the client published is not what it said: %llu bytes", (unsigned long long)size);
	if (size > limit)
		return xasprintf("the image has %llu bytes, allowed are %llu (memory-max, user-memory-max)", (unsigned long long)size,
				 (unsigned long long)limit);
	return NULL;
}

static char *offer_make_image(struct offer *o, const struct offer_commit *c, int *fds, uint64_t note_size, struct image **out)
{
	struct instance *i = o->instance;
	struct work *w = o->work;
	struct image *im;
	uint64_t address;

	reclaim_descriptors(w->model);
	address = c->size ? region_alloc(w->model->region, c->size) : 0;
	if (c->size && !address)
		return xstrdup("no range of addresses is left for it; address-base or memory-max must be smaller");
	im = image_new(w->model, fd_steal(&fds[0]), WIRE_IMAGE_BLOB, c->size);
	im->address = address;
	im->title = xstrdup(i->title);
	im->digest = c->digest;
	im->section = o->section;
	im->n_depends = o->n_dep_digests;
	im->dep_digests = o->dep_digests;
	o->dep_digests = NULL;
	image_hold_teardown_deps(im, o->depends, o->n_depends);
	im->dep_titles = o->dep_titles;
	o->dep_titles = NULL;
	/* Its builder may be a member no longer, whose process has ended and left the connection to a child. */
	im->run = i->run ? xstrdup(i->run->id) : o->run;
	if (!i->run)
		o->run = NULL;
	im->created = im->used = clock_now();
	im->created_real = im->used_real = clock_real();
	im->checked = im->created;
	im->build_ns = im->created - o->started;
	image_charge(im, o->user, account_pages(c->size) + account_pages(note_size));
	im->session = i->session;
	link_insert(&i->session->images, &im->in_session);
	im->teardown = c->flags & (OFFER_COMMIT_TEARDOWN | OFFER_COMMIT_KEEPER | OFFER_COMMIT_NOTE);
	im->of_run = i->run != NULL;
	im->preferred_teardown_client = c->flags & OFFER_COMMIT_KEEPER ? o->client->id : 0;
	if (c->flags & OFFER_COMMIT_NOTE) {
		im->note_fd = fd_steal(&fds[1]);
		im->note_size = note_size;
	}
	*out = im;
	return NULL;
}

/* It is looked at again; its client waits. */
static void put_off(struct offer *o, const struct offer_commit *c, int *fds, size_t n_fds)
{
	o->commit = *c;
	o->n_fds = n_fds;
	for (size_t k = 0; k < n_fds; k++)
		o->fds[k] = fd_steal(&fds[k]);
}

/* False: the look at the inputs is not over. In front of a restart it is now, or what was published would be lost. */
static bool look_at_inputs(struct offer *o)
{
	const struct work *w = o->work;

	if (!o->asked) {
		/* Every edit that was complete when this was sent has been heard after this. */
		watcher_catch_up(w->watcher);
		o->asked = clock_now();
	}
	return !o->instance->watch ||
	       watchset_look(o->instance->watch, o->asked, w->model->restarting ? INT64_MAX : clock_now() + LOOK_SLICE);
}

static void client_build_commit(struct offer *o, const struct offer_commit *c, int *fds, size_t n_fds)
{
	uint64_t note_size;
	_cleanup_free_ char *changed = NULL, *wrong = offer_verify(o, c, fds, n_fds, &note_size);
	struct image *im = NULL;
	struct instance *i;
	bool no_room = false;

	if (!wrong) {
		wrong = reclaim_for_user(o->user, c->size + note_size);
		no_room = wrong != NULL;
	}
	if (!wrong) {
		int r = reclaim_memory(o->work->model, c->size + note_size + 2 * 4096);

		if (r == -EAGAIN) {
			put_off(o, c, fds, n_fds);
			reclaim_wait(o->work->model, &o->room);
			return;
		}
		wrong = r < 0 ? xstrdup("memory-max of the daemon is used up by images in use") : NULL;
		no_room = r < 0;
	}
	if (!look_at_inputs(o)) {
		put_off(o, c, fds, n_fds);
		loop_defer(o->work->model->loop, &o->looking);
		return;
	}
	changed = instance_inputs_changed(o->instance, o->asked);
	if (!wrong)
		wrong = offer_make_image(o, c, fds, note_size, &im);
	if (wrong) {
		reply(o, -EINVAL, wrong, NULL);
		offer_fail(o, wrong, no_room);
		return;
	}
	if (changed) {
		im->torn_down = true; /* its maker, who still has all of it, is told to build again */
		reply(o, -EAGAIN, changed, NULL);
	}
	i = leave_instance(o);
	im = instance_built(i, im, changed);
	if (im && reply(o, 0, "", im) == 0) {
		image_used(im);
		if (o->client->member)
			run_used(o->client->member->run, im, true);
		o->client->n_leases++;
		event_attach(o->client, lease_new(im, &o->client->leases, o->client->pid), true, im->build_ns, o->test ? o->test : "",
			     o->test ? strlen(o->test) : 0);
	}
	offer_free(o);
	if (im)
		instance_propagate(i);
}

static void commit_again(struct offer *o)
{
	const struct offer_commit c = o->commit;
	int fds[2] = { o->fds[0], o->fds[1] };
	size_t n = o->n_fds;

	o->n_fds = 0;
	client_build_commit(o, &c, fds, n);
	for (size_t k = 0; k < n; k++)
		fd_close(fds[k]);
}

static void there_is_room(struct mem_waiter *r)
{
	commit_again(container_of(r, struct offer, room));
}

static void offer_look_on(void *arg)
{
	commit_again(arg);
}

static void offer_give_up(struct offer *o, const char *message, size_t size)
{
	size_t length = size - sizeof(struct offer_abort);
	_cleanup_free_ char *sentence =
		xstrndup(message + sizeof(struct offer_abort), length < OFFER_SENTENCE_MAX ? length : OFFER_SENTENCE_MAX);

	reply(o, 0, "", NULL);
	offer_fail(o, *sentence ? sentence : "the client that built it gave up", false);
}

static void offer_has_no_room(struct offer *o)
{
	static const char sentence[] = "fixd has no descriptor left for what was published; try again";

	reply(o, -EMFILE, sentence, NULL);
	offer_fail(o, sentence, true);
}

static void offer_read_channel(void *arg)
{
	struct offer *o = arg;
	char message[sizeof(struct offer_abort) + OFFER_SENTENCE_MAX];
	int fds[2] = { -1, -1 };
	size_t n_fds = ELEMENTSOF(fds);
	ssize_t n = socket_receive(source_fd(o->channel), message, sizeof message, fds, &n_fds, MSG_DONTWAIT);
	struct offer_commit c = { 0 };

	if (n == -EAGAIN)
		return;
	if (n < 0 && is_passing((int)n)) {
		source_again(o->channel);
		return;
	}
	memcpy(&c, message, n <= 0 ? 0 : (size_t)n < sizeof c ? (size_t)n : sizeof c);
	if (n == sizeof c && c.message == OFFER_COMMIT && !o->n_fds)
		client_build_commit(o, &c, fds, n_fds);
	else if (n >= (ssize_t)sizeof(struct offer_abort) && c.message == OFFER_ABORT && !o->n_fds)
		offer_give_up(o, message, (size_t)n);
	else if (n == -EMFILE)
		offer_has_no_room(o);
	else
		client_build_lost(o); /* gone, or it has no manners */
	for (size_t k = 0; k < n_fds; k++)
		fd_close(fds[k]);
}

const struct row offer_rows[] = {
	ROW_OF(struct offer, ROW_TIME, started),   ROW_OF(struct offer, ROW_LIST, dep_titles), ROW_OF(struct offer, ROW_STRING, run),
	ROW_OF(struct offer, ROW_DIGEST, section), ROW_OF(struct offer, ROW_STRING, test),     { 0 },
};

const struct offer *offer_of_client(const struct link *in_client)
{
	return link_entry(in_client, struct offer, in_client);
}

const struct instance *offer_instance(const struct offer *o)
{
	return o->instance;
}

struct image *const *offer_depends(const struct offer *o, size_t *n)
{
	*n = o->n_depends;
	return o->depends;
}

void offer_save(const struct offer *o, struct state *s)
{
	size_t list;

	rows_add_fd(s, source_fd(o->channel));
	record_u64(&s->records, STATE_FD, (uint64_t)source_fd(o->channel));
	record_time(&s->records, STATE_DEADLINE, o->limit.deadline);
	rows_save(offer_rows, o, s);
	list = record_begin(&s->records, STATE_SAW, RECORD_LIST);
	for (size_t k = 0; k < o->n_dep_digests; k++) {
		record_u64(&s->records, STATE_SAW, o->dep_digests[k].low);
		record_u64(&s->records, STATE_SAW, o->dep_digests[k].high);
	}
	record_end(&s->records, list);
	list = record_begin(&s->records, STATE_DEPENDS, RECORD_LIST);
	for (size_t k = 0; k < o->n_depends; k++)
		record_u64(&s->records, STATE_DEPENDS, o->depends[k]->serial);
	record_end(&s->records, list);
}

/* The end of the client, the time limit and the channel, from now on. */
static void offer_begin(struct offer *o, int channel, int pidfd, int64_t deadline)
{
	struct loop *loop = o->work->model->loop;

	o->instance->offer = o;
	link_insert(&o->client->offers, &o->in_client);
	o->user = user_ref(o->instance->session->user);
	o->user->n_builds++;
	o->channel = loop_watch(loop, channel, offer_read_channel, o);
	if (pidfd >= 0)
		o->process = loop_watch(loop, pidfd, on_offer_process_end, o);
	timer_init(&o->limit, on_offer_limit, o);
	timer_start(loop, &o->limit, deadline);
	link_init(&o->room.link);
	o->room.again = there_is_room;
	deferred_init(&o->looking, offer_look_on, o);
}

static void hold(struct offer *o, struct image *im)
{
	o->depends = xrealloc(o->depends, (o->n_depends + 1) * sizeof(struct image *));
	o->depends[o->n_depends++] = image_ref(im);
}

/* Those that its client has let go of meanwhile are not held any more. */
static void resume_depends(struct offer *o, const struct record *serials)
{
	struct record_reader in = record_inside(serials);
	struct record r;
	bool bad = false;

	while (record_next(&in, &r, &bad)) {
		const struct lease *l = lease_find(&o->client->leases, r.number);

		if (l)
			hold(o, l->image);
	}
}

bool offer_resume(struct instance *i, struct client *c, const struct record *saved, int (*resolve)(void *arg, int number), void *arg)
{
	struct record_reader in = record_inside(saved);
	struct offer *o = xcalloc(1, sizeof *o);
	int64_t deadline = 0;
	int channel = -1;
	struct record r;
	bool bad = false;

	o->instance = i;
	o->work = c->model->work;
	o->client = c;
	while (record_next(&in, &r, &bad)) {
		if (row_load(offer_rows, o, &r, resolve, arg))
			continue;
		if (r.field == STATE_FD)
			channel = resolve(arg, (int)r.number);
		else if (r.field == STATE_DEADLINE)
			deadline = (int64_t)r.number;
		else if (r.field == STATE_SAW)
			o->dep_digests = rows_digests(&r, &o->n_dep_digests);
		else if (r.field == STATE_DEPENDS)
			resume_depends(o, &r);
	}
	if (channel < 0 || i->offer) {
		fd_close(channel);
		free_description(o);
		return false;
	}
	offer_begin(o, channel, c->pid > 0 ? process_open(c->pid) : -1, deadline);
	return true;
}

bool offer_look(struct instance *i, const struct client *c, int peer)
{
	struct watcher *w = c->model->work->watcher;

	if (!i->watch || i->looked_for != c->id) {
		watcher_catch_up(w);
		watchset_free(i->watch);
		i->watch = watchset_new(w, i->fixture->inputs, i->fixture->policy.watch,
					i->session->user->limited ? WATCH_NAMES_OF_OTHERS_MAX : WATCH_NAMES_MAX,
					i->fixture->registered ? viewer_of_peer(peer) : NULL, instance_inputs_event, i);
		i->looked_for = c->id;
	}
	return watchset_look_briefly(i->watch, INT64_MIN);
}

char *offer_new(struct instance *i, struct client *c, struct image *const *depends, size_t n_depends, const char *test, size_t test_size,
		int *client_end)
{
	struct offer *o;
	int pair[2], pidfd;
	char *wrong = user_refuses_build(i->session->user);

	if (wrong)
		return wrong;
	/* Its forked children may hold the channel open when it has died. */
	pidfd = c->pid > 0 ? process_open(c->pid) : -1;
	if (c->pid > 0 && pidfd == -ESRCH)
		return xstrdup("the client that asked has ended");
	wrong = watchset_wrong(i->watch);
	if (!wrong && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		wrong = xasprintf("no channel for its builder: %s", strerror(errno));
	if (wrong) {
		fd_close(pidfd);
		return wrong;
	}
	i->looked_for = 0;
	o = xcalloc(1, sizeof *o);
	o->instance = i;
	o->work = c->model->work;
	o->client = c;
	o->started = clock_now();
	o->run = c->member ? xstrdup(c->member->run->id) : NULL;
	o->test = xstrndup(test, test_size);
	o->section = i->fixture->section;
	o->n_dep_digests = n_depends;
	o->dep_digests = xcalloc(n_depends, sizeof *o->dep_digests);
	o->dep_titles = xcalloc(n_depends + 1, sizeof *o->dep_titles);
	for (size_t k = 0; k < n_depends; k++) {
		o->dep_digests[k] = image_identity(depends[k]);
		o->dep_titles[k] = xstrdup(depends[k]->title);
		hold(o, depends[k]);
	}
	offer_begin(o, pair[0], pidfd, o->started + i->fixture->policy.timeout);
	log_debug("%s: pid %d is to build it", i->title, (int)c->pid);
	event_of_instance(i, NULL, EVENT_BUILD, NULL);
	*client_end = pair[1];
	return NULL;
}
