/* SPDX-License-Identifier: MIT */
/* The results of `fixctl bench` as a table, and their comparison with earlier ones. Only reads what bench_measure has made. */
#include <math.h>
#include <string.h>

#include "base/units.h"
#include "fixctl/bench.h"
#include "fixctl/fixctl.h"
#include "fixctl/terminal.h"

#define MB 1e6

/* "12.345 ±0.002" of a value and its noise, or of a median and half its spread. */
static void put_measure(const json_t *v, double scale, int decimals, int width)
{
	char text[64] = "n/a";
	double value, noise;

	if (json_is_object(v)) {
		bool is_delta = json_object_get(v, "noise") != NULL;

		value = ctl_real(v, is_delta ? "value" : "median");
		noise = is_delta ? ctl_real(v, "noise") : (ctl_real(v, "max") - ctl_real(v, "min")) / 2;
		snprintf(text, sizeof text, "%.*f \302\261%.*f", decimals, value * scale, decimals, noise * scale);
		width++; /* the sign has two bytes */
	} else if (json_is_number(v)) {
		snprintf(text, sizeof text, "%.*f", decimals, json_number_value(v) * scale);
	}
	printf("  %*s", width, text);
}

static const struct column {
	const char *title, *key;
	double scale;
	int decimals, width;
} columns[] = {
	{ "wall s", "wall_s", 1, 3, 14 },
	{ "cpu s", "cpu_s", 1, 3, 14 },
	{ "init \316\224 s", "init_delta_s", 1, 3, 14 },
	{ "memory \316\224 MB", "memory_delta_bytes", 1 / MB, 1, 14 },
	{ "GPU \316\224 MB", "gpu_delta_bytes", 1 / MB, 1, 12 },
	{ "size MB", "size_bytes", 1 / MB, 1, 9 },
	{ "page-in ms", "page_in_s", 1e3, 3, 14 },
	{ "attach \302\265s", "attach_s", 1e6, 1, 12 },
	{ "reset ms", "reset_s", 1e3, 3, 14 },
};

/* On a terminal as many as fit: these are the first to be left out. */
static unsigned shown_columns(int name)
{
	static const char *const order[] = { "gpu_delta_bytes", "page_in_s",  "reset_s",	   "cpu_s",
					     "attach_s",	"size_bytes", "memory_delta_bytes" };
	size_t width = terminal_width(), taken = (size_t)name;
	unsigned shown = 0;

	for (size_t c = 0; c < ELEMENTSOF(columns); c++) {
		taken += (size_t)columns[c].width + 2;
		shown |= 1U << c;
	}
	for (size_t k = 0; width && taken > width && k < ELEMENTSOF(order); k++) {
		for (size_t c = 0; c < ELEMENTSOF(columns); c++) {
			if (!strcmp(columns[c].key, order[k])) {
				taken -= (size_t)columns[c].width + 2;
				shown &= ~(1U << c);
			}
		}
	}
	return shown;
}

/* Bytes of UTF-8 that take no place. */
static int extra_bytes(const char *s)
{
	int n = 0;

	for (; *s; s++)
		n += ((unsigned char)*s & 0xc0) == 0x80;
	return n;
}

void bench_print(const json_t *results)
{
	const json_t *fixtures = json_object_get(results, "fixtures");
	unsigned shown;
	int name = 8;

	for (size_t k = 0; k < json_array_size(fixtures); k++) {
		int n = (int)strlen(ctl_string(json_array_get(fixtures, k), "name"));

		name = n > name ? n : name;
	}
	shown = shown_columns(name);
	printf("%s%-*s", BOLD, name, "fixture");
	for (size_t c = 0; c < ELEMENTSOF(columns); c++) {
		if (shown & 1U << c)
			printf("  %*s", columns[c].width + extra_bytes(columns[c].title), columns[c].title);
	}
	printf("%s\n", PLAIN);
	for (size_t k = 0; k < json_array_size(fixtures); k++) {
		const json_t *f = json_array_get(fixtures, k);

		printf("%-*s", name, ctl_string(f, "name"));
		if (ctl_int(f, "runs") == 0) {
			printf("  %s%s%s\n", RED, ctl_string(f, "status"), PLAIN);
			continue;
		}
		for (size_t c = 0; c < ELEMENTSOF(columns); c++) {
			if (shown & 1U << c)
				put_measure(json_object_get(f, columns[c].key), columns[c].scale, columns[c].decimals, columns[c].width);
		}
		if (strcmp(ctl_string(f, "status"), "Success") != 0)
			printf("  %s%s%s", RED, ctl_string(f, "status"), PLAIN);
		putchar('\n');
	}
	printf("Medians of %lld run%s, \302\261 half the spread; \316\224: over a builder that does nothing.%s\n",
	       (long long)ctl_int(results, "runs"), ctl_int(results, "runs") == 1 ? "" : "s",
	       json_is_true(json_object_get(results, "interrupted")) ? " Interrupted: not all were measured." : "");
	if (shown + 1 != 1U << ELEMENTSOF(columns))
		puts("A wider terminal shows more columns, --json all that was measured.");
}

static const json_t *table_fixture_named(const json_t *results, const char *name)
{
	const json_t *fixtures = json_object_get(results, "fixtures");

	for (size_t k = 0; k < json_array_size(fixtures); k++) {
		if (!strcmp(ctl_string(json_array_get(fixtures, k), "name"), name))
			return json_array_get(fixtures, k);
	}
	return NULL;
}

static double spread(const json_t *v)
{
	return json_is_object(v) ? (ctl_real(v, "max") - ctl_real(v, "min")) / 2 : 0;
}

static double middle(const json_t *v)
{
	return json_is_object(v) ? ctl_real(v, "median") : json_number_value(v);
}

static size_t table_compare_one(const char *name, const struct column *c, const json_t *fresh, const json_t *old, double threshold)
{
	double now = middle(fresh), then = middle(old), difference = now - then;

	if (json_is_null(fresh) || json_is_null(old) || !fresh || !old)
		return 0;
	if (fabs(difference) <= threshold * then || fabs(difference) <= spread(fresh) + spread(old))
		return 0;
	printf("%s: %s %.*f, was %.*f: ", name, c->title, c->decimals, now * c->scale, c->decimals, then * c->scale);
	if (then > 0)
		printf("%+.0f%% ", difference / then * 100);
	printf("%s%s%s\n", difference > 0 ? RED : GREEN, difference > 0 ? "worse" : "better", PLAIN);
	return difference > 0;
}

size_t bench_compare(const json_t *fresh, const json_t *old, double threshold)
{
	static const struct column compared[] = {
		{ "wall s", "wall_s", 1, 3, 0 },	   { "cpu s", "cpu_s", 1, 3, 0 },
		{ "peak MB", "peak_bytes", 1 / MB, 1, 0 }, { "size MB", "size_bytes", 1 / MB, 1, 0 },
		{ "page-in ms", "page_in_s", 1e3, 3, 0 },  { "attach \302\265s", "attach_s", 1e6, 1, 0 },
		{ "reset ms", "reset_s", 1e3, 3, 0 },
	};
	const json_t *fixtures = json_object_get(fresh, "fixtures");
	size_t worse = 0;

	for (size_t k = 0; k < json_array_size(fixtures); k++) {
		const json_t *f = json_array_get(fixtures, k), *was = table_fixture_named(old, ctl_string(f, "name"));

		if (!was) {
			printf("%s: was not measured before\n", ctl_string(f, "name"));
			continue;
		}
		if (ctl_int(f, "runs") == 0 && ctl_int(was, "runs") > 0) {
			printf("%s: %sfails%s now: %s\n", ctl_string(f, "name"), RED, PLAIN, ctl_string(f, "status"));
			worse++;
		}
		for (size_t c = 0; c < ELEMENTSOF(compared); c++)
			worse += table_compare_one(ctl_string(f, "name"), &compared[c], json_object_get(f, compared[c].key),
						   json_object_get(was, compared[c].key), threshold);
	}
	printf("%zu regression%s of more than %.0f%% and the noise\n", worse, worse == 1 ? "" : "s", threshold * 100);
	return worse;
}
