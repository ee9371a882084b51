/* SPDX-License-Identifier: MIT */
#include "fixd/serve/report.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/glob.h"
#include "config/config.h"
#include "fixd/host/watch.h"
#include "fixd/loop/loop.h"
#include "fixd/model/image.h"
#include "fixd/model/instance.h"
#include "fixd/model/policy.h"
#include "fixd/model/pool.h"
#include "fixd/model/run.h"
#include "fixd/model/session.h"
#include "fixd/model/visibility.h"
#include "fixd/serve/conn.h"
#include "fixd/serve/report_remote.h"
#include "fixd/serve/server.h"
#include "fixd/serve/task.h"
#include "fixd/serve/unread.h"
#include "fixd/serve/walk.h"
#include "fixd/work/build.h"
#include "fixd/work/keeper.h"
#include "wire/record.h"
#include "wire/report.h"

/* Status, list, or the search for a log, in slices. */
struct reporting {
	struct task task;
	bool begun;
	struct unread *unread;
	struct text out;
	char *pattern;
	struct walk walk;
	uint64_t run;		     /* number of the last one, of the session at hand */
	size_t list, session, inner; /* marks of what is not closed yet */
	uint64_t config;	     /* server::n_configs when its fixtures began to be listed */
	char *name;		     /* of the last of them */
	char *found;		     /* key of the instance that was found */
	uint64_t found_in;	     /* number of its session */
	bool found_says;
};

/* What clients have built cost the daemon nothing that it could know. */
static void put_cost(struct text *out, const struct image *im)
{
	if (im && im->peak_rss) {
		record_time(out, REPORT_BUILD_CPU, im->cpu_ns);
		record_u64(out, REPORT_BUILD_PEAK, im->peak_rss);
	} else {
		record_null(out, REPORT_BUILD_CPU);
		record_null(out, REPORT_BUILD_PEAK);
	}
}

/* So many processes of one image are named: a step is over soon. */
#define PIDS_MAX 1000

static void put_image(struct text *out, const struct instance *i, const struct image *im)
{
	char hex[DIGEST_HEX_SIZE];
	size_t mark, n = 0;

	record_u64(out, REPORT_GENERATION, im->generation);
	record_u64(out, REPORT_ADDRESS, im->address);
	record_u64(out, REPORT_SIZE, im->bytes);
	record_string(out, REPORT_DIGEST, digest_format(im->digest, hex));
	record_time(out, REPORT_CREATED, im->created_real);
	record_time(out, REPORT_AGE, clock_now() - im->created);
	record_time(out, REPORT_LAST_USED, im->used_real);
	record_u64(out, REPORT_REUSED, im->attaches ? im->attaches - 1 : 0);
	record_u64(out, REPORT_LEASES, im->n_leases);
	mark = record_begin(out, REPORT_PIDS, RECORD_LIST);
	link_for_each(l, &im->leases) {
		if (n++ == PIDS_MAX)
			break;
		record_u64(out, REPORT_PIDS, (uint64_t)link_entry(l, struct lease, in_image)->pid);
	}
	record_end(out, mark);
	record_time(out, REPORT_BUILD_TIME, im->build_ns);
	put_cost(out, im);
	if (source_keeps_running(i->fixture->source) && im->kept_by) {
		record_u64(out, REPORT_SERVICE_PID, (uint64_t)im->kept_by->service_pid);
		record_u64(out, REPORT_PORT, im->kept_by->port);
		record_string(out, REPORT_DIR, im->kept_by->dir);
	}
}

static void put_nothing(struct text *out, const struct instance *i)
{
	static const uint16_t fields[] = { REPORT_ADDRESS, REPORT_SIZE,	     REPORT_DIGEST,    REPORT_CREATED,
					   REPORT_AGE,	   REPORT_LAST_USED, REPORT_BUILD_TIME };

	record_u64(out, REPORT_GENERATION, i->generation);
	for (size_t k = 0; k < ELEMENTSOF(fields); k++)
		record_null(out, fields[k]);
	put_cost(out, NULL);
	record_u64(out, REPORT_REUSED, 0);
	record_u64(out, REPORT_LEASES, 0);
	record_end(out, record_begin(out, REPORT_PIDS, RECORD_LIST));
}

/* What clients build depends on what they say. */
static void put_depends(struct text *out, const struct fixture *f, const struct image *im)
{
	size_t mark = record_begin(out, REPORT_DEPENDS, RECORD_LIST);

	for (size_t k = 0; im && im->dep_titles && im->dep_titles[k]; k++)
		record_string(out, REPORT_DEPENDS, im->dep_titles[k]);

	for (size_t k = 0; k < f->n_depends; k++) {
		const struct depend *d = &f->depends[k];
		_cleanup_free_ char *name = d->param ? xasprintf("%s[%s]", d->name, d->param) : xstrdup(d->name);

		record_string(out, REPORT_DEPENDS, name);
	}
	record_end(out, mark);
}

static void put_clones(struct text *out, const struct pool *p)
{
	size_t mark = record_begin(out, REPORT_CLONES, RECORD_OBJECT);
	const struct pool_figures *f = &p->figures;
	struct pool_count n = pool_count(p);

	record_u64(out, REPORT_READY, n.ready);
	record_u64(out, REPORT_STARTING, n.starting);
	record_u64(out, REPORT_HELD, n.held);
	record_u64(out, REPORT_ENDING, n.ending);
	record_u64(out, REPORT_MAX, p->front->fixture->clones);
	record_u64(out, REPORT_GIVEN, f->given);
	record_u64(out, REPORT_STARTED, f->started);
	record_u64(out, REPORT_WASTED, f->wasted);
	record_time(out, REPORT_HAND_OUT_P50, pool_handout(p, 0.5));
	record_time(out, REPORT_HAND_OUT_P99, pool_handout(p, 0.99));
	record_time(out, REPORT_START_TIME, f->started ? f->starts / (int64_t)f->started : 0);
	record_time(out, REPORT_SAVED, f->saved);
	record_end(out, mark);
}

/* So many files are named of what may be 100,000. */
#define WATCHED_MAX 100

/* What only somebody who asks about one wants to know. */
static void put_validity(struct text *out, const struct instance *i)
{
	int64_t expires = policy_expires(i);
	size_t count = 0, mark;
	char **files = i->watch ? watchset_first_files(i->watch, WATCHED_MAX, &count) : NULL;

	if (expires == INT64_MAX)
		record_null(out, REPORT_EXPIRES);
	else
		record_time(out, REPORT_EXPIRES, expires - clock_now());
	mark = record_begin(out, REPORT_WATCHED, RECORD_LIST);
	for (size_t k = 0; files && files[k]; k++)
		record_string(out, REPORT_WATCHED, files[k]);
	record_end(out, mark);
	record_u64(out, REPORT_WATCHED_COUNT, count);
	list_free(files);
}

/* Of what has failed: why it would be built all the same. */
static void put_retry(struct text *out, const struct instance *i)
{
	_cleanup_free_ char *changed = i->watch ? watchset_known_change(i->watch) : NULL;

	record_string(out, REPORT_RETRY_CAUSE, changed ? changed : waiter_retry_cause(i));
}

static void put_instance(const struct instance *i, bool named, struct text *out)
{
	const struct fixture *f = i->fixture;
	size_t mark;

	mark = record_begin(out, REPORT_INSTANCES, RECORD_OBJECT);
	record_string(out, REPORT_NAME, f->name);
	record_string(out, REPORT_PARAM, i->param);
	record_string(out, REPORT_SCOPE, scope_name(f->scope));
	record_string(out, REPORT_SCOPE_KEY, i->scope_key);
	record_string(out, REPORT_STATE, instance_state_name(i));
	record_string(out, REPORT_SOURCE, source_name(f->source));
	if (i->current)
		put_image(out, i, i->current);
	else
		put_nothing(out, i);
	record_u64(out, REPORT_BUILDS, i->builds);
	record_u64(out, REPORT_PROGRESS, build_progress(i));
	record_string(out, REPORT_STALE_CAUSE, i->stale_cause);
	record_string(out, REPORT_ERROR, i->error);
	record_string(out, REPORT_TEARDOWN_ERROR, i->teardown_error);
	if (i->failed)
		put_retry(out, i);
	if (i->last && i->last->ending)
		record_bool(out, REPORT_ENDING, true);
	put_depends(out, f, i->current);
	if (named)
		put_validity(out, i);
	if (i->clone)
		record_string(out, REPORT_CLONE, i->clone);
	if (i->pool)
		put_clones(out, i->pool);
	record_end(out, mark);
}

static void put_daemon(struct server *server, struct text *out)
{
	size_t mark = record_begin(out, REPORT_DAEMON, RECORD_OBJECT), waiting = 0;

	link_for_each(l, &server->conns)
		waiting += link_entry(l, struct conn, link)->client.n_pending;

	record_u64(out, REPORT_PID, (uint64_t)getpid());
	record_string(out, REPORT_VERSION, PACKAGE_VERSION);
	record_time(out, REPORT_UPTIME, clock_now() - server->started);
	record_string(out, REPORT_SOCKET, server->socket);
	record_string(out, REPORT_CONFIG, server->model->config->file);
	record_string(out, REPORT_ROOT, server->model->config->root);
	record_u64(out, REPORT_UID, geteuid());
	record_string(out, REPORT_IO, loop_io_name(server->model->loop));
	record_string(out, REPORT_IO_REASON, loop_io_reason(server->model->loop));
	record_string(out, REPORT_UNSANDBOXED, server->model->unsandboxed);
	record_u64(out, REPORT_ADDRESS_BASE, server->model->config->address_base);
	record_u64(out, REPORT_MEMORY_BYTES, server->model->account.bytes);
	record_u64(out, REPORT_MEMORY_MAX, server->model->config->memory_max);
	record_u64(out, REPORT_CONNECTIONS, server->n_conns);
	record_u64(out, REPORT_WAITING, waiting);
	record_u64(out, REPORT_HITS, server->model->hits);
	record_u64(out, REPORT_MISSES, server->model->misses);
	record_u64(out, REPORT_FAILURES, server->model->failures);
	record_u64(out, REPORT_EVICTIONS, server->model->evictions);
	record_u64(out, REPORT_TEARDOWN_FAILURES, server->model->teardown_failures);
	record_time(out, REPORT_LONGEST_TURN, loop_longest_turn(server->model->loop));
	report_remote(server, out);
	record_end(out, mark);
}

static void put_use(const struct use *u, struct text *out)
{
	size_t mark = record_begin(out, REPORT_USES, RECORD_OBJECT);

	record_string(out, REPORT_NAME, u->title);
	record_u64(out, REPORT_GENERATION, u->generation);
	record_u64(out, REPORT_ATTACHES, u->attaches);
	record_bool(out, REPORT_BUILT, u->built);
	record_end(out, mark);
}

static void put_run(const struct run *r, struct text *out)
{
	size_t mark = record_begin(out, REPORT_RUNS, RECORD_OBJECT), list;

	record_string(out, REPORT_ID, r->id);
	record_time(out, REPORT_BEGAN, r->began_real);
	if (r->ended_real)
		record_time(out, REPORT_ENDED, r->ended_real);
	else
		record_null(out, REPORT_ENDED);
	record_u64(out, REPORT_MEMBERS, r->n_joined);
	list = record_begin(out, REPORT_PIDS, RECORD_LIST);
	link_for_each(l, &r->members)
		record_u64(out, REPORT_PIDS, (uint64_t)link_entry(l, struct member, link)->client->pid);
	record_end(out, list);
	list = record_begin(out, REPORT_USES, RECORD_LIST);
	for (size_t k = 0; k < r->uses.n; k++)
		put_use(r->uses.all[k], out);
	record_end(out, list);
	record_end(out, mark);
}

/* The next one of a session that is remembered. */
static const struct run *next_run(const struct session *s, uint64_t number)
{
	const struct run *best = NULL;
	const struct link *const lists[] = { &s->past, &s->runs };

	for (size_t k = 0; k < ELEMENTSOF(lists); k++) {
		link_for_each(l, lists[k]) {
			const struct run *r = link_entry(l, struct run, link);

			if (r->number > number && (!best || r->number < best->number))
				best = r;
		}
	}
	return best;
}

static void begin_session(struct reporting *w, const struct session *s)
{
	int64_t max_age = s->model->config->policy.max_age;
	struct text *out = &w->out;

	w->session = record_begin(out, REPORT_SESSIONS, RECORD_OBJECT);
	record_string(out, REPORT_ID, s->id);
	record_string(out, REPORT_ROOT, s->root);
	record_u64(out, REPORT_UID, s->uid);
	record_time(out, REPORT_CREATED, s->created_real);
	if (s->last_run_real)
		record_time(out, REPORT_LAST_RUN, s->last_run_real);
	else
		record_null(out, REPORT_LAST_RUN);
	record_u64(out, REPORT_TOTAL_RUNS, s->total_runs);
	record_bool(out, REPORT_REUSE, true);
	if (max_age == DURATION_NONE)
		record_null(out, REPORT_MAX_AGE);
	else
		record_time(out, REPORT_MAX_AGE, max_age);
	w->inner = record_begin(out, REPORT_RUNS, RECORD_LIST);
	w->run = 0;
}

#define RUNS_DONE UINT64_MAX

/* One run, or the end of their list. What a run uses is the business of the user whose session it is in. */
static void put_next_run(struct reporting *w)
{
	const struct conn *c = w->task.conn;
	const struct session *s = session_by_number(c->server->model, w->walk.session);
	const struct run *r = s && (c->client.owner || s->uid == c->client.uid) ? next_run(s, w->run) : NULL;

	if (r) {
		put_run(r, &w->out);
		w->run = r->number;
		return;
	}
	w->run = RUNS_DONE;
	record_end(&w->out, w->inner);
	w->inner = record_begin(&w->out, REPORT_INSTANCES, RECORD_LIST);
}

/* True: nothing is left. */
static bool status_step(struct reporting *w)
{
	const struct conn *c = w->task.conn;
	struct session *s;
	struct instance *i;

	if (w->walk.at == WALK_SESSION && w->run != RUNS_DONE) {
		put_next_run(w);
		return false;
	}
	switch (walk_next(&w->walk, c, &s, &i)) {
	case WALK_SESSION:
		begin_session(w, s);
		return false;
	case WALK_INSTANCE:
		if (see_named(w->pattern, i) && see_instance(&c->client, i))
			put_instance(i, strcmp(w->pattern, "*") != 0, &w->out);
		return false;
	case WALK_SESSION_ENDS:
		record_end(&w->out, w->inner);
		record_end(&w->out, w->session);
		return false;
	default:
		record_end(&w->out, w->list);
		return true;
	}
}

static void reporting_free(struct task *t)
{
	struct reporting *w = container_of(t, struct reporting, task);

	unread_cancel(w->unread);
	text_deinit(&w->out);
	walk_deinit(&w->walk);
	free(w->pattern);
	free(w->name);
	free(w->found);
	free(w);
}

static struct reporting *report_begin(struct conn *c, const struct wire_header *h, const char *pattern,
				      bool (*step)(struct task *t, int64_t until))
{
	struct reporting *w = xcalloc(1, sizeof *w);

	w->task.step = step;
	w->task.free = reporting_free;
	w->pattern = xstrdup(pattern);
	task_begin(c, h, &w->task);
	return w;
}

/* False: what it was told before is to be read first. */
static bool may_begin(struct reporting *w)
{
	if (!w->begun && !(w->begun = unread_begin(w->task.conn, &w->unread)))
		inbox_park(w->task.conn);
	return w->begun;
}

static bool report_go_on(struct task *t, int64_t until, bool (*step)(struct reporting *w))
{
	struct reporting *w = container_of(t, struct reporting, task);
	bool done;

	if (!may_begin(w))
		return false;
	do {
		done = step(w);
	} while (!done && clock_now() < until);
	if (!done)
		return false;
	unread_sent(w->unread, w->out.size);
	w->unread = NULL;
	/* Where it cannot be sent the task is gone afterwards. */
	conn_reply_text(t->conn, &t->request, w->out.data, w->out.size);
	return true;
}

static bool go_on_with_status(struct task *t, int64_t until)
{
	return report_go_on(t, until, status_step);
}

void report_status(struct conn *c, const struct wire_header *h, const char *pattern)
{
	struct reporting *w = report_begin(c, h, pattern, go_on_with_status);

	put_daemon(c->server, &w->out);
	w->list = record_begin(&w->out, REPORT_SESSIONS, RECORD_LIST);
}

static void put_fixture(const char *file, const struct fixture *f, struct text *out)
{
	size_t mark = record_begin(out, REPORT_FIXTURES, RECORD_OBJECT), list;
	_cleanup_free_ char *policy = config_describe(f);

	record_string(out, REPORT_NAME, f->name);
	record_string(out, REPORT_SCOPE, scope_name(f->scope));
	record_string(out, REPORT_FILE, file);
	record_u64(out, REPORT_LINE, (uint64_t)f->line);
	record_string(out, REPORT_DOC, f->doc);
	record_string(out, REPORT_CATEGORY, f->category);
	record_string(out, REPORT_SOURCE, source_name(f->source));
	list = record_begin(out, REPORT_PARAMS, RECORD_LIST);
	for (size_t k = 0; f->params && f->params[k]; k++)
		record_string(out, REPORT_PARAMS, f->params[k]);
	record_end(out, list);
	put_depends(out, f, NULL);
	record_string(out, REPORT_POLICY, policy);
	record_string(out, REPORT_PATH, f->path);
	record_string(out, REPORT_INPUT, f->source == SOURCE_FILE ? f->what : NULL);
	record_bool(out, REPORT_WARM, f->warm);
	record_end(out, mark);
}

/* name[param] names its fixture. */
static bool names_fixture(const char *pattern, const struct fixture *f)
{
	size_t n = strcspn(pattern, "[");

	return glob_match(pattern, f->name) || (pattern[n] == '[' && strlen(f->name) == n && !strncmp(pattern, f->name, n));
}

/* The first one behind `name` (NULL: of all), or NULL. */
static const struct fixture *fixture_after(struct fixture *const *all, size_t n, const char *name)
{
	size_t low = 0, high = n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (!name || strcmp(all[mid]->name, name) > 0)
			high = mid;
		else
			low = mid + 1;
	}
	return low < n ? all[low] : NULL;
}

static void begin_list(struct reporting *w)
{
	const struct server *server = w->task.conn->server;

	text_deinit(&w->out);
	free(w->name);
	w->name = NULL;
	w->walk.session = 0;
	w->config = server->n_configs;
	record_string(&w->out, REPORT_ROOT, server->model->config->root);
	record_u64(&w->out, REPORT_ADDRESS_BASE, server->model->config->address_base);
	w->list = record_begin(&w->out, REPORT_FIXTURES, RECORD_LIST);
}

static void put_next(struct reporting *w, const char *file, const struct fixture *f, bool seen)
{
	if (seen && names_fixture(w->pattern, f))
		put_fixture(file, f, &w->out);
	free(w->name);
	w->name = xstrdup(f->name);
}

/* Those of the ini file, then those of one session after the other. */
static bool list_step(struct reporting *w)
{
	const struct conn *c = w->task.conn;
	const struct config *config = c->server->model->config;
	const struct fixture *f;

	/* Everything is another one now. */
	if (w->config != c->server->n_configs)
		begin_list(w);
	if (w->walk.session == 0) {
		f = fixture_after(config->fixtures, config->n_fixtures, w->name);
		if (f) {
			put_next(w, config->file, f, true);
			return false;
		}
	} else {
		const struct session *s = session_by_number(c->server->model, w->walk.session);

		f = s ? fixture_after(s->fixtures, s->n_fixtures, w->name) : NULL;
		if (f) {
			put_next(w, s->root, f, see_fixture(&c->client, s, f));
			return false;
		}
	}
	free(w->name);
	w->name = NULL;
	if (walk_session(&w->walk, c))
		return false;
	record_end(&w->out, w->list);
	return true;
}

static bool go_on_with_list(struct task *t, int64_t until)
{
	return report_go_on(t, until, list_step);
}

void report_list(struct conn *c, const struct wire_header *h, const char *pattern)
{
	begin_list(report_begin(c, h, pattern, go_on_with_list));
}

/* One instance is looked at. True: all were. */
static bool log_step(struct reporting *w)
{
	const struct conn *c = w->task.conn;
	struct session *s;
	struct instance *i;

	switch (walk_next(&w->walk, c, &s, &i)) {
	case WALK_INSTANCE:
		/* Of several rather one that has said something. */
		if ((i->builds || build_words(i)) && !w->found_says && see_instance(&c->client, i) && see_named(w->pattern, i)) {
			w->found_says = i->log.size > 0 || build_words(i);
			free(w->found);
			w->found = xstrdup(i->key);
			w->found_in = s->number;
		}
		return false;
	case WALK_ENDS:
		return true;
	default:
		return false;
	}
}

static bool is_defined(const struct conn *c, const char *name)
{
	if (config_find(c->server->model->config, name))
		return true;
	link_for_each(l, &c->server->model->sessions) {
		const struct session *s = link_entry(l, struct session, link);

		if (see_session(&c->client, s) && session_fixture(s, name))
			return true;
	}
	return false;
}

/* Why there is none. */
static char *no_log(const struct conn *c, const char *title)
{
	_cleanup_free_ char *name = xstrndup(title, strcspn(title, "[")), *question = NULL;

	if (is_defined(c, name))
		return xasprintf("nothing called '%s' was ever built", title);
	question = config_question(c->server->model->config, name);
	return xasprintf("nothing is called '%s'%s", title, question);
}

static void answer_with_log(struct reporting *w)
{
	struct conn *c = w->task.conn;
	const struct session *s = w->found ? session_by_number(c->server->model, w->found_in) : NULL;
	const struct instance *i = s ? session_by_key(s, w->found) : NULL;
	const struct text *log = i && build_words(i) ? build_words(i) : i ? &i->log : NULL;
	size_t older = log && log->size > INSTANCE_LOG_MAX ? log->size - INSTANCE_LOG_MAX : 0;

	if (!log) {
		_cleanup_free_ char *wrong = no_log(c, w->pattern);

		conn_reply_error(c, &w->task.request, -ENOENT, "%s", wrong);
		return;
	}
	unread_sent(w->unread, log->size - older);
	w->unread = NULL;
	conn_reply_text(c, &w->task.request, log->data ? log->data + older : "", log->size - older);
}

static bool go_on_with_log(struct task *t, int64_t until)
{
	struct reporting *w = container_of(t, struct reporting, task);

	if (!may_begin(w))
		return false;
	do {
		if (log_step(w)) {
			answer_with_log(w);
			return true;
		}
	} while (clock_now() < until);
	return false;
}

void report_log(struct conn *c, const struct wire_header *h, const char *name)
{
	report_begin(c, h, name, go_on_with_log);
}

static void key_sent(void *image, int err)
{
	(void)err;
	image_unref(image);
}

/* Why there is no key of it. */
static char *no_key(const struct config *config, const char *name, const struct instance *i)
{
	_cleanup_free_ char *fixture = xstrndup(name, strcspn(name, "["));
	_cleanup_free_ char *question = NULL;

	if (!i && !config_find(config, fixture)) {
		question = config_question(config, fixture);
		return xasprintf("there is no fixture '%s' in %s%s", name, config->file, question);
	}
	return xasprintf("no image of '%s' is there that has a key on a remote%s", name,
			 i && !i->fixture->remote ? ": it has not remote = yes"
			 : i && i->current	  ? ""
						  : ": it was not built, or given up");
}

static void answer_with_key(struct reporting *w)
{
	struct conn *c = w->task.conn;
	const struct session *s = w->found ? session_by_number(c->server->model, w->found_in) : NULL;
	const struct instance *i = s ? session_by_key(s, w->found) : NULL;
	struct image *im = i ? i->current : NULL;
	_cleanup_free_ char *wrong = NULL;
	struct stat st;
	struct wire_key body;

	if (!im || im->parts_fd < 0 || fstat(im->parts_fd, &st) < 0) {
		wrong = no_key(c->server->model->config, w->pattern, i);
		conn_reply_error(c, &w->task.request, -ENOENT, "%s", wrong);
		return;
	}
	body = (struct wire_key){ .serial = im->serial, .size = (uint64_t)st.st_size };
	conn_reply_told(c, &w->task.request, &body, sizeof body, im->parts_fd, key_sent, image_ref(im));
}

static bool go_on_with_key(struct task *t, int64_t until)
{
	struct reporting *w = container_of(t, struct reporting, task);

	do {
		if (log_step(w)) {
			answer_with_key(w);
			return true;
		}
	} while (clock_now() < until);
	return false;
}

void report_key(struct conn *c, const struct wire_header *h, const char *name)
{
	report_begin(c, h, name, go_on_with_key);
}
