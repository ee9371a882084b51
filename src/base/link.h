/* SPDX-License-Identifier: MIT */
/* Intrusive doubly linked lists. A head is a link that points at itself; an unlinked link does too. */
#pragma once

#include <stdbool.h>

#include "base/alloc.h"

struct link {
	struct link *prev, *next;
};

/* clang-format off */
#define LINK_INIT(name) { &(name), &(name) }
/* clang-format on */

static inline void link_init(struct link *l)
{
	l->prev = l->next = l;
}

static inline bool link_empty(const struct link *l)
{
	return l->next == l;
}

/* Puts `l` before `at`; before the head is the end of the list. */
static inline void link_insert(struct link *at, struct link *l)
{
	l->prev = at->prev;
	l->next = at;
	at->prev->next = l;
	at->prev = l;
}

static inline void link_remove(struct link *l)
{
	l->prev->next = l->next;
	l->next->prev = l->prev;
	link_init(l);
}

#define link_entry(l, type, member) container_of(l, type, member)

#define link_for_each(pos, head) for (struct link *pos = (head)->next; pos != (head); pos = pos->next)

/* The body may remove `pos` (and nothing else). */
#define link_for_each_safe(pos, head) \
	for (struct link *pos = (head)->next, *pos##_next = pos->next; pos != (head); pos = pos##_next, pos##_next = pos->next)
