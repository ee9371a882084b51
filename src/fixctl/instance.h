/* SPDX-License-Identifier: MIT */
/* What the commands that show instances have in common: each is an object of `fixctl status --json`. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

const char *instance_color(const char *state);
/* "name[param] @ key", or as a clone "name[param]/3 @ key" or "name[param] in other/3 @ key"; to be freed. */
char *instance_title(const json_t *i);
/* Of what a title, or the name of an event, is an instance: `known` has fixtures by name; NULL: of none of them. */
json_t *instance_fixture(const json_t *known, const char *title);
/* It is counted where what is asked for is shown. */
bool instance_is_clone(const json_t *i);
/* What can be had. */
bool instance_is_active(const json_t *i);
/* Why it cannot be had: one line; to be freed. */
char *instance_why(const json_t *i);
