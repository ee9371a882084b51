/* SPDX-License-Identifier: MIT */
#include "fixd/serve/report.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "config/config.h"
#include "fixd/build.h"
#include "fixd/conn.h"
#include "fixd/daemon.h"
#include "fixd/image.h"
#include "fixd/instance.h"
#include "fixd/keeper.h"
#include "fixd/loop/loop.h"
#include "fixd/run.h"
#include "fixd/see.h"
#include "fixd/session.h"
#include "wire/record.h"
#include "wire/report.h"

struct writing {
	struct text *out;
	const char *pattern;
	const struct conn *conn;
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

static void put_image(struct text *out, const struct instance *i, const struct image *im)
{
	char hex[DIGEST_HEX_SIZE];
	size_t mark;

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
	link_for_each(l, &im->leases)
		record_u64(out, REPORT_PIDS, (uint64_t)link_entry(l, struct lease, in_image)->pid);
	record_end(out, mark);
	record_time(out, REPORT_BUILD_TIME, im->build_ns);
	put_cost(out, im);
	if (i->fixture->source == SOURCE_SERVICE && im->kept_by) {
		record_u64(out, REPORT_SERVICE_PID, (uint64_t)im->kept_by->service_pid);
		record_u64(out, REPORT_PORT, im->kept_by->port);
		record_string(out, REPORT_DIR, im->kept_by->dir);
	}
}

static void put_nothing(struct text *out, const struct instance *i)
{
	static const uint16_t fields[] = { REPORT_ADDRESS, REPORT_SIZE,	    REPORT_DIGEST, REPORT_CREATED,
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

	for (size_t k = 0; im && im->made_from && im->made_from[k]; k++)
		record_string(out, REPORT_DEPENDS, im->made_from[k]);

	for (size_t k = 0; k < f->n_depends; k++) {
		const struct depend *d = &f->depends[k];
		_cleanup_free_ char *name = d->param ? xasprintf("%s[%s]", d->name, d->param) : xstrdup(d->name);

		record_string(out, REPORT_DEPENDS, name);
	}
	record_end(out, mark);
}

static void put_instance(struct instance *i, void *arg)
{
	const struct writing *w = arg;
	struct text *out = w->out;
	const struct fixture *f = i->fixture;
	size_t mark;

	if (!see_named(w->pattern, i) || !see_instance(w->conn, i))
		return;
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
	put_depends(out, f, i->current);
	record_end(out, mark);
}

static void put_daemon(struct daemon *d, struct text *out)
{
	size_t mark = record_begin(out, REPORT_DAEMON, RECORD_OBJECT), waiting = 0;

	link_for_each(l, &d->conns)
		waiting += link_entry(l, struct conn, link)->n_pending;

	record_u64(out, REPORT_PID, (uint64_t)getpid());
	record_string(out, REPORT_VERSION, PACKAGE_VERSION);
	record_time(out, REPORT_UPTIME, clock_now() - d->started);
	record_string(out, REPORT_SOCKET, d->socket);
	record_string(out, REPORT_CONFIG, d->config->file);
	record_string(out, REPORT_IO, loop_io_name(d->loop));
	record_string(out, REPORT_IO_REASON, loop_io_reason(d->loop));
	record_u64(out, REPORT_ADDRESS_BASE, d->config->address_base);
	record_u64(out, REPORT_MEMORY_BYTES, d->memory_used);
	record_u64(out, REPORT_MEMORY_MAX, d->config->memory_max);
	record_u64(out, REPORT_CONNECTIONS, d->n_conns);
	record_u64(out, REPORT_WAITING, waiting);
	record_u64(out, REPORT_HITS, d->hits);
	record_u64(out, REPORT_MISSES, d->misses);
	record_u64(out, REPORT_FAILURES, d->failures);
	record_u64(out, REPORT_EVICTIONS, d->evictions);
	record_u64(out, REPORT_TEARDOWN_FAILURES, d->teardown_failures);
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
		record_u64(out, REPORT_PIDS, (uint64_t)link_entry(l, struct member, link)->conn->pid);
	record_end(out, list);
	list = record_begin(out, REPORT_USES, RECORD_LIST);
	for (size_t k = 0; k < r->uses.n; k++)
		put_use(r->uses.all[k], out);
	record_end(out, list);
	record_end(out, mark);
}

/* What a run uses is the business of the user whose session it is in. */
static void put_runs(const struct session *s, const struct writing *w)
{
	const struct conn *c = w->conn;
	size_t list = record_begin(w->out, REPORT_RUNS, RECORD_LIST);
	bool own = c->owner || s->uid == c->uid;

	link_for_each(l, &s->past) {
		if (own)
			put_run(link_entry(l, struct run, link), w->out);
	}
	link_for_each(l, &s->runs) {
		if (own)
			put_run(link_entry(l, struct run, link), w->out);
	}
	record_end(w->out, list);
}

static void put_session(struct session *s, struct writing *w)
{
	int64_t max_age = s->daemon->config->policy.max_age;
	size_t mark = record_begin(w->out, REPORT_SESSIONS, RECORD_OBJECT), list;

	record_string(w->out, REPORT_ID, s->id);
	record_string(w->out, REPORT_ROOT, s->root);
	record_u64(w->out, REPORT_UID, s->uid);
	record_time(w->out, REPORT_CREATED, s->created_real);
	if (s->last_run_real)
		record_time(w->out, REPORT_LAST_RUN, s->last_run_real);
	else
		record_null(w->out, REPORT_LAST_RUN);
	record_u64(w->out, REPORT_TOTAL_RUNS, s->total_runs);
	record_bool(w->out, REPORT_REUSE, true);
	if (max_age == DURATION_NONE)
		record_null(w->out, REPORT_MAX_AGE);
	else
		record_time(w->out, REPORT_MAX_AGE, max_age);
	put_runs(s, w);
	list = record_begin(w->out, REPORT_INSTANCES, RECORD_LIST);
	session_each(s, put_instance, w);
	record_end(w->out, list);
	record_end(w->out, mark);
}

void report_status(const struct conn *c, const char *pattern, struct text *out)
{
	struct daemon *d = c->daemon;
	struct writing w = { out, pattern, c };
	size_t list;

	put_daemon(d, out);
	list = record_begin(out, REPORT_SESSIONS, RECORD_LIST);
	link_for_each(l, &d->sessions) {
		struct session *s = link_entry(l, struct session, link);

		if (see_session(c, s))
			put_session(s, &w);
	}
	record_end(out, list);
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

	return !fnmatch(pattern, f->name, 0) ||
	       (pattern[n] == '[' && strlen(f->name) == n && !strncmp(pattern, f->name, n));
}

void report_list(const struct conn *c, const char *pattern, struct text *out)
{
	struct daemon *d = c->daemon;
	size_t list;

	record_string(out, REPORT_ROOT, d->config->root);
	record_u64(out, REPORT_ADDRESS_BASE, d->config->address_base);
	list = record_begin(out, REPORT_FIXTURES, RECORD_LIST);
	for (size_t i = 0; i < d->config->n_fixtures; i++) {
		if (names_fixture(pattern, d->config->fixtures[i]))
			put_fixture(d->config->file, d->config->fixtures[i], out);
	}
	link_for_each(l, &d->sessions) {
		const struct session *s = link_entry(l, struct session, link);

		for (size_t i = 0; see_session(c, s) && i < s->n_fixtures; i++) {
			if (names_fixture(pattern, s->fixtures[i]) && see_fixture(c, s, s->fixtures[i]))
				put_fixture(s->root, s->fixtures[i], out);
		}
	}
	record_end(out, list);
}

struct finding {
	const struct conn *conn;
	const char *name;
	const struct instance *found;
};

static void find(struct instance *i, void *arg)
{
	struct finding *f = arg;

	if (i->builds && see_instance(f->conn, i) && see_named(f->name, i) && (!f->found || !f->found->log.size))
		f->found = i;
}

const struct instance *report_find(const struct conn *c, const char *name)
{
	struct finding f = { .conn = c, .name = name };

	link_for_each(l, &c->daemon->sessions) {
		struct session *s = link_entry(l, struct session, link);

		if (see_session(c, s))
			session_each(s, find, &f);
	}
	return f.found;
}
