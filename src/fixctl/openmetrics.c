/* SPDX-License-Identifier: MIT */
#include "fixctl/openmetrics.h"

#include <stdio.h>
#include <string.h>

#include "fixctl/fixctl.h"

struct metric {
	const char *name, *type, *unit, *help, *key;
};

static const struct metric daemon_metrics[] = {
	{ "fixd_uptime_seconds", "gauge", "seconds", "Time since the daemon was started.", "uptime_s" },
	{ "fixd_memory_bytes", "gauge", "bytes", "Bytes of all images and builds.", "memory_bytes" },
	{ "fixd_memory_max_bytes", "gauge", "bytes", "What memory-max allows.", "memory_max" },
	{ "fixd_connections", "gauge", NULL, "Open connections.", "connections" },
	{ "fixd_hits", "counter", NULL, "Attaches that found a fresh image.", "hits" },
	{ "fixd_misses", "counter", NULL, "Attaches that waited for a build.", "misses" },
	{ "fixd_failures", "counter", NULL, "Builds that failed.", "failures" },
	{ "fixd_teardown_failures", "counter", NULL, "Teardowns that failed.", "teardown_failures" },
	{ "fixd_longest_turn_seconds", "gauge", "seconds", "The longest time that the daemon could not be spoken to.", "longest_turn_s" },
	{ "fixd_evictions", "counter", NULL, "Images given up for want of memory.", "evictions" },
};

static const struct metric instance_metrics[] = {
	{ "fixd_instance_size_bytes", "gauge", "bytes", "Size of the image.", "size" },
	{ "fixd_instance_age_seconds", "gauge", "seconds", "Age of the image.", "age_s" },
	{ "fixd_instance_build_seconds", "gauge", "seconds", "Time its build took.", "build_s" },
	{ "fixd_instance_leases", "gauge", NULL, "Leases on the image.", "leases" },
	{ "fixd_instance_reused", "gauge", NULL, "Attaches after the first.", "reused" },
	{ "fixd_instance_builds", "counter", NULL, "Builds of the instance.", "builds" },
};

static void print_head(const struct metric *m)
{
	printf("# TYPE %s %s\n", m->name, m->type);
	if (m->unit)
		printf("# UNIT %s %s\n", m->name, m->unit);
	printf("# HELP %s %s\n", m->name, m->help);
}

static const char *suffix(const struct metric *m)
{
	return strcmp(m->type, "counter") ? "" : "_total";
}

static void print_label(const char *name, const char *value, const char *separator)
{
	printf("%s%s=\"", separator, name);
	for (; *value; value++) {
		if (*value == '\n') {
			fputs("\\n", stdout);
			continue;
		}
		if (*value == '\\' || *value == '"')
			putchar('\\');
		putchar(*value);
	}
	putchar('"');
}

static void openmetrics_print_instance(const struct metric *m, const json_t *session, const json_t *i)
{
	static const char *const labels[] = { "name", "param", "scope", "scope_key", "clone", "state" };

	if (!json_is_number(json_object_get(i, m->key)))
		return;
	printf("%s%s{", m->name, suffix(m));
	print_label("session", ctl_string(session, "id"), "");
	for (size_t k = 0; k < ELEMENTSOF(labels); k++)
		print_label(labels[k], ctl_string(i, labels[k]), ",");
	printf("} %.17g\n", ctl_real(i, m->key));
}

static void openmetrics_print_instances(const struct metric *m, const json_t *report)
{
	const json_t *sessions = json_object_get(report, "sessions");

	for (size_t s = 0; s < json_array_size(sessions); s++) {
		const json_t *session = json_array_get(sessions, s), *all = json_object_get(session, "instances");

		for (size_t i = 0; i < json_array_size(all); i++)
			openmetrics_print_instance(m, session, json_array_get(all, i));
	}
}

void openmetrics_print(const json_t *report)
{
	for (size_t k = 0; k < ELEMENTSOF(daemon_metrics); k++) {
		const struct metric *m = &daemon_metrics[k];

		print_head(m);
		printf("%s%s %.17g\n", m->name, suffix(m), ctl_real(json_object_get(report, "daemon"), m->key));
	}
	for (size_t k = 0; k < ELEMENTSOF(instance_metrics); k++) {
		print_head(&instance_metrics[k]);
		openmetrics_print_instances(&instance_metrics[k], report);
	}
	puts("# EOF");
}
