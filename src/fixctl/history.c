/* SPDX-License-Identifier: MIT */
#include "fixctl/history.h"

#include <string.h>

#include "base/clock.h"
#include "base/units.h"
#include "fixctl/fixctl.h"
#include "fixctl/instance.h"
#include "fixd.h"

static bool is_of_interest(const json_t *e)
{
	const char *event = ctl_string(e, "event");

	if (!strcmp(event, "attach"))
		return json_is_true(json_object_get(e, "built"));
	return strcmp(event, "detach") != 0 && strcmp(event, "changed") != 0 && *ctl_string(e, "name");
}

int history_read(struct history *h, struct fixd *f)
{
	bool more = true;

	if (!h->events)
		h->events = json_array();
	while (more) {
		const json_t *events;
		json_t *report;
		int code = ctl_events(f, &h->next, 0, &report);

		if (code)
			return code;
		events = json_object_get(report, "events");
		for (size_t k = 0; k < json_array_size(events); k++) {
			json_t *e = json_array_get(events, k);

			if (is_of_interest(e))
				json_array_append(h->events, e);
		}
		h->lost |= json_is_true(json_object_get(report, "lost"));
		more = json_is_true(json_object_get(report, "more"));
		json_decref(report);
	}
	return 0;
}

void history_deinit(struct history *h)
{
	json_decref(h->events);
}

static bool is_of(const json_t *e, const char *session, const char *title)
{
	return !strcmp(ctl_string(e, "name"), title) && (!session || !strcmp(ctl_string(e, "session"), session));
}

json_t *history_of(const struct history *h, const char *session, const char *title)
{
	json_t *list = json_array();

	for (size_t k = 0; k < json_array_size(h->events); k++) {
		json_t *e = json_array_get(h->events, k);

		if (is_of(e, session, title))
			json_array_append(list, e);
	}
	return list;
}

double history_began(const struct history *h, const char *session, const char *title)
{
	for (size_t k = json_array_size(h->events); k > 0; k--) {
		const json_t *e = json_array_get(h->events, k - 1);
		const char *event = ctl_string(e, "event");

		if (!is_of(e, session, title))
			continue;
		if (!strcmp(event, "build"))
			return ctl_real(e, "time");
		if (!strcmp(event, "ready") || !strcmp(event, "failed"))
			return 0;
	}
	return 0;
}

double history_took(const struct history *h, const char *session, const char *title)
{
	for (size_t k = json_array_size(h->events); k > 0; k--) {
		const json_t *e = json_array_get(h->events, k - 1);

		if (!strcmp(ctl_string(e, "event"), "ready") && is_of(e, session, title))
			return ctl_real(e, "build_s");
	}
	return -1;
}

char *history_outlook(const struct history *h, const char *session, const char *title)
{
	double began = history_began(h, session, title), took = history_took(h, session, title);
	double now = (double)clock_real() / NSEC_PER_SEC, for_s = now > began ? now - began : 0;
	char since[32], left[32];

	if (began <= 0)
		return xstrdup(h->lost ? "" : "when its turn comes");
	ctl_span(since, sizeof since, for_s);
	if (took < 0)
		return xasprintf("for %s", since);
	if (took < for_s)
		return xasprintf("for %s, the last time it took %s", since,
				 format_duration(left, sizeof left, (int64_t)(took * NSEC_PER_SEC)));
	return xasprintf("for %s, some %s to go", since, ctl_span(left, sizeof left, took - for_s + 1));
}

static size_t annotate(const struct history *h, json_t *status, bool count_only)
{
	const json_t *sessions = json_object_get(status, "sessions");
	size_t building = 0;

	for (size_t s = 0; s < json_array_size(sessions); s++) {
		const json_t *session = json_array_get(sessions, s), *instances = json_object_get(session, "instances");

		for (size_t k = 0; k < json_array_size(instances); k++) {
			json_t *i = json_array_get(instances, k);
			_cleanup_free_ char *title = NULL, *words = NULL;

			if (strcmp(ctl_string(i, "state"), "building") != 0 || (building++, count_only) || json_object_get(i, "clones"))
				continue;
			title = instance_title(i);
			words = history_outlook(h, ctl_string(session, "id"), title);
			json_object_set_new(i, "outlook", json_string(words));
		}
	}
	return building;
}

int history_annotate(struct history *h, struct fixd *f, json_t *status)
{
	int code = annotate(h, status, true) ? history_read(h, f) : 0;

	if (code == 0)
		annotate(h, status, false);
	return code;
}
