/* SPDX-License-Identifier: MIT */
#include "config/service.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/template.h"
#include "base/text.h"
#include "config/config.h"
#include "wire/fork.h"
#include "wire/job.h"

static const struct {
	const char *word;
	enum job_ready by;
} ways[] = {
	{ "line", JOB_READY_LINE },  { "port", JOB_READY_PORT },	{ "notify", JOB_READY_NOTIFY },
	{ "file:", JOB_READY_FILE }, { "command:", JOB_READY_COMMAND },
};

#define VARIABLE "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_"

static char *take_apart(struct fixture *f)
{
	for (size_t i = 0; i < ELEMENTSOF(ways); i++) {
		size_t n = strlen(ways[i].word);
		bool has_more = ways[i].word[n - 1] == ':';

		if (strncmp(f->ready, ways[i].word, n) != 0 || has_more == !f->ready[n])
			continue;
		f->ready_by = ways[i].by;
		f->ready_what = has_more ? xstrdup(f->ready + n) : NULL;
		return NULL;
	}
	return xasprintf("ready = %s: expected one of line, port, notify, file:PATH, command:COMMAND", f->ready);
}

/* What it will be is not known yet. */
static const char *known(const char *name, void *arg)
{
	static const char *const names[] = { "FIXD_PORT", "FIXD_DIR", "FIXD_FIXTURE", "FIXD_PARAM", "FIXD_SCOPE_KEY" };
	const struct fixture *f = arg;

	if (f->data && !strcmp(name, "FIXD_DATA"))
		return "";
	for (size_t i = 0; i < ELEMENTSOF(names); i++) {
		if (!strcmp(name, names[i]))
			return "";
	}
	return f->env && list_has(f->env, name) ? "" : NULL;
}

static char *check_template(const char *key, const char *template, struct fixture *f)
{
	_cleanup_free_ char *wrong = NULL, *trial = template_expand(template, known, f, &wrong);
	const char *bare = strstr(template, "$FIXD_");

	/* It is no shell that reads it. */
	if (bare)
		return xasprintf("%s = %s: a variable is written ${%.*s} here", key, template, (int)strspn(bare + 1, VARIABLE), bare + 1);
	if (trial)
		return NULL;
	return xasprintf("%s = %s: %s; expected one of ${FIXD_PORT}, ${FIXD_DIR}, ${FIXD_FIXTURE}, ${FIXD_PARAM}, ${FIXD_SCOPE_KEY} "
			 "and what is named in env",
			 key, template, wrong);
}

static int service_index_of(const char *const *names, size_t n, const char *word, size_t length)
{
	for (size_t i = 0; i < n; i++) {
		if (strlen(names[i]) == length && !strncmp(names[i], word, length))
			return (int)i;
	}
	return -1;
}

static char *service_joined(const char *const *names, size_t n)
{
	struct text t = { 0 };

	for (size_t i = 0; i < n; i++)
		text_printf(&t, "%s%s", i ? ", " : "", names[i]);
	return text_steal(&t);
}

/* RULE, or KIND:RULE. */
static char *check_audit(const char *entry)
{
	static const char *const kinds[] = HAZARD_NAMES, *const rules[] = HAZARD_RULE_NAMES;
	const char *colon = strchr(entry, ':'), *rule = colon ? colon + 1 : entry;
	_cleanup_free_ char *all = NULL;

	if (service_index_of(rules, ELEMENTSOF(rules), rule, strlen(rule)) < 0)
		return xasprintf("audit = %s: expected error, warn or allow, or one of them behind a kind and ':' (socket:allow)", entry);
	if (!colon || service_index_of(kinds, ELEMENTSOF(kinds), entry, (size_t)(colon - entry)) >= 0)
		return NULL;
	all = service_joined(kinds, ELEMENTSOF(kinds));
	return xasprintf("audit = %s: expected one of %s", entry, all);
}

static char *say_of(const char **out, const char *keys, const char *sentence)
{
	*out = keys;
	return xstrdup(sentence);
}

static char *template_complete(struct fixture *f, const char **keys)
{
	char *wrong = NULL;

	f->ready_by = JOB_READY_CHECKPOINT;
	if (f->ready || f->value || f->prewarm)
		return say_of(keys, "ready value prewarm", "ready, value and prewarm are not for a process: it is ready at its checkpoint");
	if (f->data || f->clones || f->exclusive || f->reset)
		return say_of(keys, "data clones exclusive reset",
			      "data, clones, exclusive and reset are not for a process: everybody has a fork of its own");
	*keys = "audit";
	for (size_t i = 0; !wrong && f->audit && f->audit[i]; i++)
		wrong = check_audit(f->audit[i]);
	return wrong;
}

/* Of what is run beside the service, and not by it. */
static char *check_commands(const struct fixture *f, const char **keys)
{
	const struct {
		const char *key, *command;
	} all[] = { { "ready", f->ready_by == JOB_READY_COMMAND ? f->ready : NULL },
		    { "prewarm", f->prewarm },
		    { "teardown", f->teardown } };

	for (size_t i = 0; i < ELEMENTSOF(all); i++) {
		*keys = all[i].key;
		if (all[i].command && strstr(all[i].command, "FIXD_DATA"))
			return xasprintf("%s = %s: only the service itself sees what is in FIXD_DATA; expected FIXD_DIR, which is shared",
					 all[i].key, all[i].command);
	}
	return NULL;
}

/* Of keys that are for a service only. */
static char *check_no_service(const struct fixture *f, const char **keys)
{
	if (f->ready || f->value)
		return say_of(keys, "ready value", "ready and value are for services");
	if (f->stop_signal || f->prewarm)
		return say_of(keys, "stop-signal prewarm", "stop-signal and prewarm are for services");
	if (f->data)
		return say_of(keys, "data", "data is for services");
	if (f->clones)
		return say_of(keys, "clones", "clones is for services; what depends on one that has clones has them, too");
	return NULL;
}

char *service_complete(struct fixture *f, const char **keys)
{
	char *wrong = NULL;

	*keys = "";
	if (f->source == SOURCE_PROCESS)
		return template_complete(f, keys);
	if (f->audit)
		return say_of(keys, "audit", "audit is for a process");
	if (f->source != SOURCE_SERVICE)
		return check_no_service(f, keys);
	if ((f->data || f->clones) && f->stop_signal)
		return say_of(keys, "stop-signal",
			      "stop-signal is not for a service with data or clones: it is killed, since what it has written is dropped");
	if (f->clones && (f->exclusive || f->reset))
		return say_of(keys, "exclusive reset",
			      "exclusive and reset are not for a service with clones: each holder has one that nobody has used");
	*keys = "ready";
	if (f->ready)
		wrong = take_apart(f);
	if (!wrong && f->ready_by == JOB_READY_FILE)
		wrong = check_template("ready", f->ready, f);
	if (wrong)
		return wrong;
	*keys = "value";
	if (f->value)
		wrong = check_template("value", f->value, f);
	return wrong ? wrong : check_commands(f, keys);
}
