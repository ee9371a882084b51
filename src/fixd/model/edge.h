/* SPDX-License-Identifier: MIT */
/*
 * Dependency edges: which instance an instance depends on, and which ones depend on it, without searching. An edge leads from a dependent
 * to what its definition names, once that is there; it goes with either end. A definition that is read anew takes its instance's edges
 * along, and they are looked for again.
 */
#pragma once

#include <stddef.h>

#include "base/link.h"

struct fixture;
struct instance;

struct edge {
	struct link in_dependency;  /* instance::dependents; session::loose while `to` is not there */
	struct instance *from, *to; /* `to`: NULL while it is not there */
};

/* The dependency `k`, or NULL if there is no edge to it. */
struct instance *edge_to(const struct instance *i, size_t k);
/* Which clone of `to` the instance has as its own: see instance::clone. NULL: it shares it with others. */
const char *edge_clone(const struct instance *from, const struct fixture *to);
/* Which of its dependencies an edge leads to. */
size_t edge_index(const struct edge *e);

/* `to`: what the definition of `from` names as its dependency `k`. */
void edge_set(struct instance *from, size_t k, struct instance *to);
/* Those to its dependencies go. */
void edges_drop(struct instance *i);
/* Those from its dependents, too: it is about to go, or is another one now. */
void edges_drop_all(struct instance *i);
