/* SPDX-License-Identifier: MIT */
/*
 * The measurements of `fixctl bench`: each fixture is built and attached several times by a daemon that nobody else uses; what a
 * builder costs that does nothing is taken off. The figures become the object that --json prints.
 */
#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/units.h"
#include "client/connection.h"
#include "fixctl/bench.h"
#include "fixctl/fixctl.h"
#include "fixctl/nvml.h"
#include "fixctl/run.h"
#include "fixctl/samples.h"
#include "fixd.h"
#include "wire/wire.h"

#define SCOPE_KEY "fixctl::bench::fixture" /* for scopes that need one */
#define ASK_MS 50			   /* how often a build is looked after */
#define IDLE_MS 200			   /* and the builds of the start */
#define ATTACHES 21			   /* of one run */
#define PAGE 4096
#define TOUCHED_MAX ((size_t)256 << 20) /* bytes that are changed before a reset */

volatile sig_atomic_t bench_interrupted;

/* What is measured in each run of one fixture. */
struct measures {
	struct samples wall, cpu, peak, gpu, page_in, attach, reset;
	double size;
	char *status; /* NULL: all is well */
	size_t runs;
};

static void measures_deinit(struct measures *m)
{
	struct samples *all[] = { &m->wall, &m->cpu, &m->peak, &m->gpu, &m->page_in, &m->attach, &m->reset };

	for (size_t k = 0; k < ELEMENTSOF(all); k++)
		samples_deinit(all[k]);
	free(m->status);
}

/* A daemon of our own, that is alone with what it is asked for. */
struct place {
	struct scratch scratch;
	struct keeper keeper;
	char *socket;
	struct fixd *f;
};

/* In the scratch directory, which goes also when we are killed. */
static char *write_config(const struct place *p, const char *text)
{
	char *path = xasprintf("%s/fixd.ini", p->scratch.path);
	FILE *f = fopen(path, "we");
	bool good = f && fputs(text, f) >= 0;

	if (f && fclose(f) != 0)
		good = false;
	if (good)
		return path;
	fprintf(stderr, "fixctl: %s cannot be written: %s\n", path, strerror(errno));
	free(path);
	return NULL;
}

/* With a configuration of somebody's, or (NULL) with that text. */
static int place_open(struct place *p, const char *file, const char *text)
{
	int r = scratch_make(&p->scratch), code;
	_cleanup_free_ char *config = NULL;

	if (r < 0) {
		fprintf(stderr, "fixctl: no scratch directory: %s\n", strerror(-r));
		return EXIT_REFUSED;
	}
	config = file ? xstrdup(file) : write_config(p, text);
	if (!config)
		return EXIT_REFUSED;
	p->socket = xasprintf("%s/socket", p->scratch.path);
	code = keeper_start(&p->keeper, &p->scratch, config, p->socket);
	if (code == 0 && (r = fixd_open(&p->f, p->socket)) < 0) {
		fprintf(stderr, "fixctl: %s\n", fixd_error(NULL));
		code = ctl_open_failed(r);
	}
	return code;
}

static void place_close(struct place *p)
{
	fixd_close(p->f);
	if (p->scratch.path)
		keeper_end(&p->keeper, &p->scratch);
	scratch_free(&p->scratch);
	free(p->socket);
}

static int give_up(struct fixd *f, const char *name)
{
	char body[sizeof(struct wire_cleanup) + WIRE_NAME_MAX];
	struct wire_cleanup q = { .flags = WIRE_CLEANUP_FORCE, .patterns = (uint16_t)strlen(name), .older_than = -1 };
	json_t *report = NULL;
	int code;

	memcpy(body, &q, sizeof q);
	memcpy(body + sizeof q, name, q.patterns);
	code = ctl_report(f, WIRE_TYPE_cleanup, body, sizeof q + q.patterns, &report);
	json_decref(report);
	return code;
}

/* The instance as status has it. */
static json_t *instance_of(struct fixd *f, const char *name)
{
	json_t *status = NULL, *found = NULL;
	const json_t *sessions;

	if (ctl_query(f, WIRE_TYPE_status, name, &status) != 0)
		return NULL;
	sessions = json_object_get(status, "sessions");
	for (size_t s = 0; s < json_array_size(sessions) && !found; s++)
		found = json_incref(json_array_get(json_object_get(json_array_get(sessions, s), "instances"), 0));
	json_decref(status);
	return found;
}

/* Fixtures that are built at the start of a daemon are in the way. */
static int wait_until_idle(struct fixd *f)
{
	bool busy = true;
	uint64_t from = 0;

	while (busy && !bench_interrupted) {
		json_t *status = NULL, *events = NULL;
		const json_t *sessions, *instances;
		int code = ctl_query(f, WIRE_TYPE_status, "", &status);

		if (code)
			return code;
		sessions = json_object_get(status, "sessions");
		instances = json_object_get(json_array_get(sessions, 0), "instances");
		busy = false;
		for (size_t k = 0; k < json_array_size(instances); k++)
			busy |= !strcmp(ctl_string(json_array_get(instances, k), "state"), "building");
		json_decref(status);
		if (busy && (code = ctl_events(f, &from, IDLE_MS, &events)) != 0)
			return code;
		json_decref(events);
	}
	return 0;
}

static struct fixd_options options_of(unsigned flags)
{
	return (struct fixd_options){ .size = sizeof(struct fixd_options), .flags = flags, .timeout_ms = ASK_MS, .scope_key = SCOPE_KEY };
}

/* Asks again and again, so that we can be interrupted. 0 and the view, or -errno. */
static int build(struct fixd *f, const char *name, int timeout_ms, uint64_t *gpu_most, struct fixd_view **v)
{
	const struct fixd_options o = options_of(0);
	int64_t end = clock_now() + timeout_ms * NSEC_PER_MSEC;
	uint64_t used;
	int r;

	do {
		r = fixd_attach(f, name, &o, v);
		if (nvml_used(&used) && used > *gpu_most)
			*gpu_most = used;
	} while (r == -ETIMEDOUT && !bench_interrupted && clock_now() < end);
	return r;
}

static double since(int64_t start)
{
	return (double)(clock_now() - start) / NSEC_PER_SEC;
}

static void measure_page_in(const struct fixd_view *v, struct measures *m)
{
	const volatile char *data = fixd_view_data(v);
	int64_t start = clock_now();

	for (size_t at = 0; at < fixd_view_size(v); at += PAGE)
		(void)data[at];
	samples_add(&m->page_in, since(start));
}

static void measure_attach(struct fixd *f, const char *name, struct measures *m)
{
	const struct fixd_options o = options_of(0);
	struct samples s = { 0 };
	json_t *median;

	for (int k = 0; k < ATTACHES; k++) {
		int64_t start = clock_now();
		struct fixd_view *v;

		if (fixd_attach(f, name, &o, &v) < 0)
			break;
		samples_add(&s, since(start));
		fixd_detach(v);
	}
	median = samples_quantile(&s, 0.5);
	if (json_is_number(median))
		samples_add(&m->attach, json_number_value(median));
	json_decref(median);
	samples_deinit(&s);
}

/* Of a view in which every page was changed. */
static void measure_reset(struct fixd *f, const char *name, struct measures *m)
{
	const struct fixd_options o = options_of(FIXD_COW);
	struct fixd_view *v;
	volatile char *data;
	int64_t start;

	if (fixd_attach(f, name, &o, &v) < 0)
		return;
	data = (char *)(uintptr_t)fixd_view_data(v);
	for (size_t at = 0; at < fixd_view_size(v) && at < TOUCHED_MAX; at += PAGE)
		data[at]++;
	start = clock_now();
	if (fixd_view_size(v) && fixd_view_reset(v) >= 0)
		samples_add(&m->reset, since(start));
	fixd_detach(v);
}

/* One run. 0; or -errno, and its status says why. */
static int measure_once(struct fixd *f, const char *name, const struct bench_options *o, struct measures *m)
{
	uint64_t gpu_before = 0, gpu_most;
	bool gpu = nvml_used(&gpu_before);
	struct fixd_view *v = NULL;
	char limit[32];
	json_t *i;
	int r;

	if (give_up(f, name) != 0)
		return -EIO;
	gpu_most = gpu_before;
	r = build(f, name, o->timeout_ms, &gpu_most, &v);
	if (r < 0) {
		const char *why = fixd_error(f);

		if (bench_interrupted)
			return -EINTR;
		m->status = r == -ETIMEDOUT
				    ? xasprintf("Timeout (>%s)", format_duration(limit, sizeof limit, o->timeout_ms * NSEC_PER_MSEC))
				    : xstrndup(why, strcspn(why, "\n"));
		return r;
	}
	i = instance_of(f, name);
	samples_add(&m->wall, ctl_real(i, "build_s"));
	if (json_is_number(json_object_get(i, "build_peak_bytes"))) {
		samples_add(&m->cpu, ctl_real(i, "build_cpu_s"));
		samples_add(&m->peak, ctl_real(i, "build_peak_bytes"));
	}
	if (gpu)
		samples_add(&m->gpu, (double)gpu_most - (double)gpu_before);
	m->size = ctl_real(i, "size");
	json_decref(i);
	measure_page_in(v, m);
	fixd_detach(v);
	measure_attach(f, name, m);
	measure_reset(f, name, m);
	m->runs++;
	return 0;
}

/* The difference of two medians, and what of it may be noise: half of both spreads together. */
static json_t *delta(const json_t *m, const json_t *base)
{
	if (!json_is_object(m) || !json_is_object(base))
		return json_null();
	return json_pack("{s:f, s:f}", "value", ctl_real(m, "median") - ctl_real(base, "median"), "noise",
			 (ctl_real(m, "max") - ctl_real(m, "min") + ctl_real(base, "max") - ctl_real(base, "min")) / 2);
}

static json_t *measures_json(struct measures *m, const char *name, const json_t *fixture, const json_t *baseline)
{
	json_t *o = json_object();

	json_object_set_new(o, "name", json_string(name));
	json_object_set_new(o, "type", json_string(ctl_string(fixture, "source")));
	json_object_set_new(o, "scope", json_string(ctl_string(fixture, "scope")));
	json_object_set_new(o, "status", json_string(m->status ? m->status : "Success"));
	json_object_set_new(o, "runs", json_integer((json_int_t)m->runs));
	json_object_set_new(o, "wall_s", samples_json(&m->wall));
	json_object_set_new(o, "cpu_s", samples_json(&m->cpu));
	json_object_set_new(o, "peak_bytes", samples_json(&m->peak));
	json_object_set_new(o, "init_delta_s", delta(json_object_get(o, "wall_s"), json_object_get(baseline, "wall_s")));
	json_object_set_new(o, "memory_delta_bytes", delta(json_object_get(o, "peak_bytes"), json_object_get(baseline, "peak_bytes")));
	json_object_set_new(o, "gpu_delta_bytes", samples_json(&m->gpu));
	json_object_set_new(o, "size_bytes", m->runs ? json_real(m->size) : json_null());
	json_object_set_new(o, "page_in_s", samples_json(&m->page_in));
	json_object_set_new(o, "attach_s", samples_json(&m->attach));
	json_object_set_new(o, "reset_s", samples_json(&m->reset));
	return o;
}

/* How far we are. */
struct progress {
	bool drawn;
	size_t done, all; /* runs */
	int64_t start;
};

static void measure_draw(const struct progress *p, const char *name)
{
	enum { WIDTH = 24 };
	int filled = p->all ? (int)(p->done * WIDTH / p->all) : 0;
	char left[32] = "?";

	if (!p->drawn)
		return;
	if (p->done)
		format_duration(left, sizeof left, (clock_now() - p->start) / (int64_t)p->done * (int64_t)(p->all - p->done));
	fprintf(stderr, "\r\033[K[%.*s%.*s] %zu of %zu runs, %s left, %s", filled, "########################", WIDTH - filled,
		"........................", p->done, p->all, left, name);
	fflush(stderr);
}

static json_t *measure_one(struct fixd *f, const char *name, const json_t *fixture, const struct bench_options *o, const json_t *baseline,
			   struct progress *p)
{
	struct measures m = { 0 };
	json_t *result = NULL;
	size_t k = 0;

	for (; k < o->runs && !bench_interrupted; k++, p->done++) {
		measure_draw(p, name);
		if (measure_once(f, name, o, &m) < 0)
			break;
	}
	p->done += o->runs - k;
	if (m.runs || m.status)
		result = measures_json(&m, name, fixture, baseline);
	measures_deinit(&m);
	/* What is built from it later is not to be disturbed by it now. */
	if (!bench_interrupted)
		give_up(f, name);
	return result;
}

/* Of a builder that has nothing to do. */
static int measure_baseline(const struct bench_options *o, json_t **out)
{
	struct place p = { .keeper.pid = -1 };
	struct progress none = { .drawn = false };
	int code = place_open(&p, NULL, "[fixture baseline]\ncommand = true\n");

	*out = NULL;
	if (code == 0)
		*out = measure_one(p.f, "baseline", NULL, o, NULL, &none);
	place_close(&p);
	return code;
}

struct target {
	char *name; /* with its param */
	const json_t *fixture;
};

struct targets {
	struct target *all;
	size_t n;
};

static bool is_named(const struct bench_options *o, const char *name, const char *full)
{
	bool named = !o->names;

	for (size_t k = 0; o->names && o->names[k]; k++)
		named |= !strcmp(o->names[k], full) || !fnmatch(o->names[k], name, 0);
	return named;
}

static void measure_add_target(struct targets *t, const struct bench_options *o, const json_t *fixture, const char *param)
{
	const char *name = ctl_string(fixture, "name");
	char *full = param ? xasprintf("%s[%s]", name, param) : xstrdup(name);

	if (!is_named(o, name, full) || (o->max_fixtures && t->n >= o->max_fixtures)) {
		free(full);
		return;
	}
	t->all = xrealloc(t->all, (t->n + 1) * sizeof *t->all);
	t->all[t->n++] = (struct target){ full, fixture };
}

static struct targets find_targets(const json_t *list, const struct bench_options *o)
{
	const json_t *fixtures = json_object_get(list, "fixtures");
	struct targets t = { 0 };

	for (size_t k = 0; k < json_array_size(fixtures); k++) {
		const json_t *f = json_array_get(fixtures, k), *params = json_object_get(f, "params");

		/* Only a test can build those. */
		if (!strcmp(ctl_string(f, "source"), "client"))
			continue;
		if (json_array_size(params) == 0)
			measure_add_target(&t, o, f, NULL);
		for (size_t m = 0; m < json_array_size(params); m++)
			measure_add_target(&t, o, f, json_string_value(json_array_get(params, m)));
	}
	return t;
}

static bool names_some(const char *pattern, const json_t *fixtures)
{
	size_t name = strcspn(pattern, "[");
	bool found = false;

	for (size_t k = 0; k < json_array_size(fixtures) && !found; k++) {
		const char *known = ctl_string(json_array_get(fixtures, k), "name");

		found = !fnmatch(pattern, known, 0) || (strlen(known) == name && !strncmp(known, pattern, name));
	}
	return found;
}

/* A name that is mistyped is told, also beside others. */
static int check_names(struct fixd *f, const json_t *list, const struct bench_options *o)
{
	int code = 0;

	for (size_t k = 0; o->names && o->names[k]; k++) {
		if (!names_some(o->names[k], json_object_get(list, "fixtures")))
			code = ctl_unknown(f, o->names[k]);
	}
	return code;
}

static void measure_all(struct fixd *f, const struct targets *t, const struct bench_options *o, json_t *results)
{
	struct progress p = { .drawn = o->progress, .all = t->n * o->runs, .start = clock_now() };
	json_t *fixtures = json_object_get(results, "fixtures");

	for (size_t k = 0; k < t->n && !bench_interrupted; k++) {
		json_t *one = measure_one(f, t->all[k].name, t->all[k].fixture, o, json_object_get(results, "baseline"), &p);

		if (!one)
			continue;
		json_array_append_new(fixtures, one);
		if (!p.drawn)
			fprintf(stderr, "%s: %s\n", t->all[k].name,
				!strcmp(ctl_string(one, "status"), "Success") ? "measured" : ctl_string(one, "status"));
	}
	if (p.drawn)
		fputs("\r\033[K", stderr);
}

/* The file of the daemon that runs. */
static char *config_of_daemon(struct fixctl *ctl, int *code)
{
	struct fixd *f = ctl_open(ctl);
	json_t *status = NULL;
	char *config = NULL;

	*code = ctl_query(f, WIRE_TYPE_status, "", &status);
	fixd_close(f);
	if (*code == 0)
		config = xstrdup(ctl_string(json_object_get(status, "daemon"), "config"));
	json_decref(status);
	return config;
}

int bench_measure(struct fixctl *ctl, const struct bench_options *o, json_t **out)
{
	struct place p = { .keeper.pid = -1 };
	int code = 0;
	_cleanup_free_ char *config = o->config ? xstrdup(o->config) : config_of_daemon(ctl, &code);
	json_t *baseline = NULL, *list = NULL;
	struct targets t = { 0 };
	bool gpu;

	if (code == 0)
		code = measure_baseline(o, &baseline);
	if (code == 0)
		code = place_open(&p, config, NULL);
	if (code == 0)
		code = wait_until_idle(p.f);
	if (code == 0)
		code = ctl_query(p.f, WIRE_TYPE_list, "", &list);
	if (code == 0)
		code = check_names(p.f, list, o);
	if (code == 0) {
		t = find_targets(list, o);
		if (t.n == 0) {
			fputs("fixctl: there is no such fixture that fixd builds\n", stderr);
			code = EXIT_REFUSED;
		}
	}
	if (code == 0) {
		gpu = nvml_open();
		*out = json_pack("{s:f, s:o, s:I, s:b, s:O?, s:[]}", "generated", (double)clock_real() / NSEC_PER_SEC, "config",
				 ctl_name(config), "runs", (json_int_t)o->runs, "gpu", gpu, "baseline", baseline, "fixtures");
		measure_all(p.f, &t, o, *out);
		json_object_set_new(*out, "interrupted", json_boolean(bench_interrupted));
		nvml_close();
	}
	place_close(&p);
	for (size_t k = 0; k < t.n; k++)
		free(t.all[k].name);
	free(t.all);
	json_decref(baseline);
	json_decref(list);
	return code;
}
