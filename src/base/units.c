/* SPDX-License-Identifier: MIT */
#include "base/units.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"

struct unit {
	const char *name;
	uint64_t factor;
};

static const struct unit size_units[] = { { "", 1 }, { "K", 1ULL << 10 }, { "M", 1ULL << 20 }, { "G", 1ULL << 30 } };

/* Two of them still fit into an int64_t. */
#define DURATION_MAX (INT64_MAX / 4)

#define SECONDS_UP_TO (600 * NSEC_PER_SEC)

static const struct unit duration_units[] = {
	{ "", NSEC_PER_SEC }, { "ms", NSEC_PER_MSEC }, { "s", NSEC_PER_SEC }, { "m", 60 * NSEC_PER_SEC }, { "h", 3600 * NSEC_PER_SEC },
};

int parse_u64(const char *s, int base, uint64_t max, uint64_t *out)
{
	unsigned long long v;
	char *end;

	if (!isalnum((unsigned char)s[0]))
		return -EINVAL;
	errno = 0;
	v = strtoull(s, &end, base);
	if (*end != '\0' || end == s)
		return -EINVAL;
	if (errno == ERANGE || v > max)
		return -ERANGE;
	*out = v;
	return 0;
}

static int parse_with_unit(const char *s, const struct unit *units, size_t n_units, uint64_t max, uint64_t *out)
{
	size_t digits = strspn(s, "0123456789");
	const char *unit = s + digits;
	char number[24];
	uint64_t v;
	int r;

	if (digits == 0 || digits >= sizeof number)
		return digits ? -ERANGE : -EINVAL;
	memcpy(number, s, digits);
	number[digits] = '\0';
	while (*unit == ' ')
		unit++;
	r = parse_u64(number, 10, UINT64_MAX, &v);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n_units; i++) {
		if (strcasecmp(unit, units[i].name) != 0)
			continue;
		if (v > max / units[i].factor)
			return -ERANGE;
		*out = v * units[i].factor;
		return 0;
	}
	return -EINVAL;
}

int parse_size(const char *s, uint64_t *out)
{
	return parse_with_unit(s, size_units, ELEMENTSOF(size_units), INT64_MAX, out);
}

int parse_duration(const char *s, int64_t *out_ns)
{
	uint64_t v;
	int r = parse_with_unit(s, duration_units, ELEMENTSOF(duration_units), DURATION_MAX, &v);

	if (r == 0)
		*out_ns = (int64_t)v;
	return r;
}

/* In the largest unit that says it without a fraction. */
static char *format_exact(char *buf, size_t n, uint64_t v, const struct unit *units, size_t n_units)
{
	size_t i = n_units - 1;

	while (i > 0 && (v == 0 || v % units[i].factor))
		i--;
	snprintf(buf, n, "%" PRIu64 "%s", v / units[i].factor, units[i].name);
	return buf;
}

char *write_size(char *buf, size_t n, uint64_t bytes)
{
	return format_exact(buf, n, bytes, size_units, ELEMENTSOF(size_units));
}

char *write_duration(char *buf, size_t n, int64_t ns)
{
	/* A few minutes are written in seconds, as time-outs are; and without a unit it would be seconds. */
	size_t most = ns < SECONDS_UP_TO ? 2 : ELEMENTSOF(duration_units) - 1;

	return format_exact(buf, n, (uint64_t)ns, duration_units + 1, most);
}

char *format_size(char *buf, size_t n, uint64_t bytes)
{
	static const char *const names[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	double v = (double)bytes;
	size_t i = 0;

	for (; v >= 1024 && i + 1 < ELEMENTSOF(names); i++)
		v /= 1024;
	snprintf(buf, n, i ? "%.1f %s" : "%.0f %s", v, names[i]);
	return buf;
}

/* The two largest units, without one of which there are none. */
static void format_long(char *buf, size_t n, int64_t seconds)
{
	static const struct {
		int64_t seconds;
		const char *name, *next;
	} steps[] = { { 86400, "d", "h" }, { 3600, "h", "min" }, { 60, "min", "s" } };
	size_t i = 0;
	int64_t rest;

	while (seconds < steps[i].seconds && i + 1 < ELEMENTSOF(steps))
		i++;
	rest = seconds % steps[i].seconds / (i + 1 < ELEMENTSOF(steps) ? steps[i + 1].seconds : 1);
	if (rest)
		snprintf(buf, n, "%" PRId64 " %s %" PRId64 " %s", seconds / steps[i].seconds, steps[i].name, rest, steps[i].next);
	else
		snprintf(buf, n, "%" PRId64 " %s", seconds / steps[i].seconds, steps[i].name);
}

char *format_duration(char *buf, size_t n, int64_t ns)
{
	double s = (double)ns / NSEC_PER_SEC;

	if (ns < NSEC_PER_MSEC)
		snprintf(buf, n, "%.1f us", s * 1e6);
	else if (ns < NSEC_PER_SEC)
		snprintf(buf, n, "%.1f ms", s * 1e3);
	else if (ns < 60 * NSEC_PER_SEC)
		snprintf(buf, n, "%.2f s", s);
	else
		format_long(buf, n, ns / NSEC_PER_SEC);
	return buf;
}

char *format_age(char *buf, size_t n, int64_t ns)
{
	int64_t s = ns / NSEC_PER_SEC;
	static const struct {
		int64_t seconds;
		const char *name;
	} steps[] = { { 86400, "day" }, { 3600, "hour" }, { 60, "minute" }, { 1, "second" } };

	for (size_t i = 0; i < ELEMENTSOF(steps); i++) {
		int64_t count = s / steps[i].seconds;

		if (count == 0 && i + 1 < ELEMENTSOF(steps))
			continue;
		snprintf(buf, n, "%" PRId64 " %s%s", count, steps[i].name, count == 1 ? "" : "s");
		break;
	}
	return buf;
}
