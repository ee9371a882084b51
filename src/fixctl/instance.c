/* SPDX-License-Identifier: MIT */
#include "fixctl/instance.h"

#include <string.h>

#include "fixctl/fixctl.h"

const char *instance_color(const char *state)
{
	if (!strcmp(state, "ready"))
		return GREEN;
	if (!strcmp(state, "failed"))
		return RED;
	return YELLOW;
}

char *instance_title(const json_t *i)
{
	const char *param = ctl_string(i, "param"), *key = ctl_string(i, "scope_key"), *clone = ctl_string(i, "clone");
	_cleanup_free_ char *name = xasprintf("%s%s%s%s", ctl_string(i, "name"), *param ? "[" : "", param, *param ? "]" : "");
	bool own = !strncmp(clone, name, strlen(name)) && clone[strlen(name)] == '/';

	return xasprintf("%s%s%s%s%s", own ? clone : name, *clone && !own ? " in " : "", own ? "" : clone, *key ? " @ " : "", key);
}

bool instance_is_clone(const json_t *i)
{
	return *ctl_string(i, "clone");
}

bool instance_is_active(const json_t *i)
{
	const char *state = ctl_string(i, "state");

	return !strcmp(state, "ready") || !strcmp(state, "building") || !strcmp(state, "held");
}

char *instance_why(const json_t *i)
{
	const char *error = ctl_string(i, "error"), *cause = ctl_string(i, "stale_cause"), *teardown = ctl_string(i, "teardown_error");
	const char *why = *error ? error : *cause ? cause : "";
	int n = (int)strcspn(why, "\n");

	return *teardown ? xasprintf("%.*s%sTeardown failed: %.*s", n, why, n ? "; " : "", (int)strcspn(teardown, "\n"), teardown)
			 : xasprintf("%.*s", n, why);
}

/* A name may have in it what begins a param, and what begins the number of a clone. */
json_t *instance_fixture(const json_t *known, const char *title)
{
	_cleanup_free_ char *name = xstrndup(title, strcspn(title, "[ "));
	json_t *found = json_object_get(known, title);
	char *number = strrchr(name, '/');

	if (!found)
		found = json_object_get(known, name);
	if (found || !number || number[1] == '\0' || number[1 + strspn(number + 1, "0123456789")] != '\0')
		return found;
	*number = '\0';
	return json_object_get(known, name);
}
