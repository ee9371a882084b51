/* SPDX-License-Identifier: MIT */
#include "fixctl/transfers.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/units.h"
#include "fixctl/fixctl.h"
#include "fixd.h"
#include "wire/wire.h"

#define WAIT_MS 10000

char *transfer_words(const json_t *t)
{
	const char *doing = json_is_true(json_object_get(t, "up")) ? "uploading" : "downloading";
	char done[32], size[32];

	if (!ctl_int(t, "size"))
		return xasprintf("%s %s", doing, ctl_string(t, "name"));
	return xasprintf("%s %s, %s of %s", doing, ctl_string(t, "name"), format_size(done, sizeof done, (uint64_t)ctl_int(t, "done")),
			 format_size(size, sizeof size, (uint64_t)ctl_int(t, "size")));
}

const json_t *transfers_of(const json_t *status)
{
	return json_object_get(json_object_get(json_object_get(status, "daemon"), "remote"), "transfers");
}

static bool is_up(const json_t *t)
{
	return json_is_true(json_object_get(t, "up"));
}

char *transfers_of_build(const json_t *status, const char *title)
{
	const json_t *all = transfers_of(status);

	for (size_t k = 0; k < json_array_size(all); k++) {
		const json_t *t = json_array_get(all, k);

		if (!is_up(t) && !strcmp(ctl_string(t, "name"), title))
			return transfer_words(t);
	}
	return NULL;
}

static bool any_goes_up(const json_t *status)
{
	const json_t *all = transfers_of(status);

	for (size_t k = 0; k < json_array_size(all); k++) {
		if (is_up(json_array_get(all, k)))
			return true;
	}
	return false;
}

/* What has happened since; *failed: of that an upload. */
static int take_events(struct fixd *f, uint64_t *from, unsigned wait_ms, bool *failed)
{
	bool more = true;

	while (more) {
		json_t *report;
		int code = ctl_events(f, from, wait_ms, &report);
		const json_t *events;

		if (code)
			return code;
		events = json_object_get(report, "events");
		for (size_t k = 0; failed && k < json_array_size(events); k++) {
			const json_t *e = json_array_get(events, k);

			if (strcmp(ctl_string(e, "event"), "uploaded") != 0 || !*ctl_string(e, "error"))
				continue;
			*failed = true;
			fprintf(stderr, "fixctl: %s did not go to the remote: %s\n", ctl_string(e, "name"), ctl_string(e, "error"));
		}
		more = json_is_true(json_object_get(report, "more"));
		wait_ms = 0;
		json_decref(report);
	}
	return 0;
}

int transfers_begin(struct fixd *f, uint64_t *from)
{
	*from = 0;
	return take_events(f, from, 0, NULL);
}

int transfers_wait(struct fixd *f, uint64_t from)
{
	bool failed = false, waiting = true;
	int code = 0;

	while (code == 0 && waiting) {
		json_t *status;

		code = ctl_query(f, WIRE_TYPE_status, "", &status);
		if (code)
			return code;
		waiting = any_goes_up(status);
		json_decref(status);
		if (waiting)
			code = take_events(f, &from, WAIT_MS, &failed);
	}
	if (code == 0)
		code = take_events(f, &from, 0, &failed);
	return code ? code : failed ? EXIT_REFUSED : 0;
}
