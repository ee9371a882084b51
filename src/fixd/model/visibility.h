/* SPDX-License-Identifier: MIT */
/* Who may see what, and what a name means to a session. Nobody sees what another user's clients have published. */
#pragma once

#include <stdbool.h>

struct client;
struct fixture;
struct instance;
struct session;

/* Of a connection that joined a session, only that one. */
bool see_session(const struct client *c, const struct session *s);
bool see_fixture(const struct client *c, const struct session *s, const struct fixture *f);
bool see_instance(const struct client *c, const struct instance *i);

/* One of a list of them. */
bool see_named_any(char *const *patterns, const struct instance *i);
/* Is that its name, name[param] or title, or a glob of one of the first two? */
bool see_named(const char *pattern, const struct instance *i);
