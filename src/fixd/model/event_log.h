/* SPDX-License-Identifier: MIT */
/* The log of events from inside: how one lies in it; events.c writes, serve/event_stream.c reads. */
#pragma once

#include "fixd/model/events.h"

#define EVENT_FOR_ALL UINT32_MAX

/* The strings behind an event, in this order, without NUL. */
enum event_word { EVENT_TITLE, EVENT_SESSION, EVENT_RUN, EVENT_TEST, EVENT_TEXT, EVENT_WORDS };

struct event {
	uint32_t size; /* with its strings; a multiple of 8 */
	uint16_t kind;
	uint8_t scope;
	uint8_t built; /* the attach waited for a build */
	uint64_t number;
	int64_t at;   /* ns since 1970 */
	int64_t took; /* ns */
	uint64_t bytes, cpu, peak;
	uint64_t of;		/* a detach, or a change: the number of the attach, or 0 */
	uint64_t pages;		/* that were put back; of a detach, in resets that no change has told */
	uint32_t resets, dirty; /* those, and how many of them put anything back */
	uint32_t uid;		/* who may see it, or EVENT_FOR_ALL */
	uint32_t pid, generation;
	uint16_t words[EVENT_WORDS]; /* lengths */
};

/* The position of the event with that number, or of the next that is there; *lost: it was there, and is not any more. */
uint64_t events_find(const struct events *e, uint64_t number, bool *lost);
/* The position behind the newest. */
uint64_t events_end_at(const struct events *e);
/* At a position that was found, or behind an event. */
const struct event *event_at(const struct events *e, uint64_t position);
