/* SPDX-License-Identifier: MIT */
/* Who changed a fixture, and who had it after that: they would have seen the change, had it not been undone. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "fixctl/fixctl.h"
#include "fixctl/report.h"

/* Of one test, that it has had an instance. */
struct use {
	const char *test;
	json_int_t last; /* number of an event */
};

struct uses {
	struct use *all; /* by `last` */
	size_t n;
};

static char *instance_key(const json_t *e)
{
	return xasprintf("%s\n%s", ctl_string(e, "session"), ctl_string(e, "name"));
}

/* Of each instance an object: of each test the number of its last event. */
static void note_use(json_t *instances, const json_t *e)
{
	_cleanup_free_ char *key = instance_key(e);
	json_t *tests = json_object_get(instances, key);

	if (!*ctl_string(e, "test"))
		return;
	if (!tests) {
		tests = json_object();
		json_object_set_new(instances, key, tests);
	}
	json_object_set(tests, ctl_string(e, "test"), json_object_get(e, "number"));
}

/* `culprits`: by instance, test and line. */
static void note_change(json_t *culprits, const json_t *e)
{
	_cleanup_free_ char *instance = instance_key(e),
			    *key = xasprintf("%s\n%s\n%s", instance, ctl_string(e, "test"), ctl_string(e, "writer"));
	json_t *c = json_object_get(culprits, key);

	if (!c) {
		c = json_pack("{s:s, s:s, s:s, s:i, s:s, s:I}", "test", ctl_string(e, "test"), "name", ctl_string(e, "name"), "writer",
			      ctl_string(e, "writer"), "times", 0, "instance", instance, "number", ctl_int(e, "number"));
		json_object_set_new(culprits, key, c);
	}
	json_object_set_new(c, "times", json_integer(ctl_int(c, "times") + 1));
}

static int by_last(const void *a, const void *b)
{
	const struct use *x = a, *y = b;

	return x->last < y->last ? -1 : x->last > y->last;
}

static struct uses uses_of(json_t *tests)
{
	struct uses u = { xcalloc(json_object_size(tests) + 1, sizeof *u.all), 0 };
	const char *test;
	json_t *number;

	json_object_foreach(tests, test, number)
		u.all[u.n++] = (struct use){ test, json_integer_value(number) };
	qsort(u.all, u.n, sizeof *u.all, by_last);
	return u;
}

static void name_victims(json_t *c, const struct uses *u)
{
	json_t *victims = json_array();
	json_int_t count = 0;

	for (size_t i = u->n; i-- > 0 && u->all[i].last > ctl_int(c, "number");)
		count += strcmp(u->all[i].test, ctl_string(c, "test")) != 0;
	for (size_t i = 0; i < u->n && json_array_size(victims) < VICTIMS_MAX; i++) {
		if (u->all[i].last > ctl_int(c, "number") && strcmp(u->all[i].test, ctl_string(c, "test")) != 0)
			json_array_append_new(victims, json_string(u->all[i].test));
	}
	json_object_set_new(c, "victims", victims);
	json_object_set_new(c, "victim_count", json_integer(count));
	json_object_del(c, "instance");
	json_object_del(c, "number");
}

json_t *report_culprits(const json_t *events)
{
	json_t *instances = json_object(), *culprits = json_object(), *list = json_array(), *c;
	char *instance = xstrdup("");
	const char *key;
	struct uses u = { 0 };

	for (size_t k = 0; k < json_array_size(events); k++) {
		const json_t *e = json_array_get(events, k);
		const char *event = ctl_string(e, "event");

		if (!strcmp(event, "attach") || !strcmp(event, "used") || !strcmp(event, "changed"))
			note_use(instances, e);
		if (*ctl_string(e, "writer"))
			note_change(culprits, e);
	}
	json_object_foreach(culprits, key, c) {
		if (strcmp(ctl_string(c, "instance"), instance) != 0) {
			free(u.all);
			free(instance);
			instance = xstrdup(ctl_string(c, "instance"));
			u = uses_of(json_object_get(instances, instance));
		}
		name_victims(c, &u);
		json_array_append(list, c);
	}
	free(u.all);
	free(instance);
	json_decref(instances);
	json_decref(culprits);
	return list;
}
