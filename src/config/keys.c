/* SPDX-License-Identifier: MIT */
#include "config/keys.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/glob.h"
#include "base/nearest.h"
#include "base/units.h"
#include "config/config.h"
#include "image/region.h"

static const char *const io_values[] = { "auto", "io_uring", "epoll", NULL };
static const char *const log_level_values[] = { "error", "warn", "info", "debug", NULL };
static const char *const age_from_values[] = { "creation", "last-use", NULL };
static const char *const watch_by_values[] = { "mtime", "content", NULL };
static const char *const rebuild_values[] = { "lazy", "eager", NULL };
static const char *const scope_values[] = { "session", "package", "module", "class", "definition", "function", NULL };
static const char *const huge_values[] = { "auto", "yes", "no", NULL };
static const char *const stray_values[] = { "error", "warn", "allow", NULL };
static const char *const malloc_values[] = { "heap", "arena", NULL };
static const char *const bool_values[] = { "no", "yes", NULL };
/* The same order as in config_stop_signal(). */
static const char *const signal_values[] = { "TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "KILL", NULL };
static const char *const restart_values[] = { "keep", "drop", NULL };

#define IN_CONFIG(field) offsetof(struct config, field)
#define IN_POLICY(field) offsetof(struct policy, field)
#define IN_FIXTURE(field) offsetof(struct fixture, field)
#define BOTH (KEY_POLICY | KEY_FIXTURE)
#define CLIENTS KEY_REGISTERED

/* Keys of [policy] that also stand in [fixture]: the offset is that in struct policy. */
const struct key key_table[] = {
	{ "socket", KEY_FIXD, KEY_PATH, IN_CONFIG(socket), NULL, 0, 0 },
	{ "root", KEY_FIXD, KEY_PATH, IN_CONFIG(root), NULL, 0, 0 },
	{ "jobs", KEY_FIXD, KEY_U64, IN_CONFIG(jobs), NULL, 1, 1024 },
	{ "memory-max", KEY_FIXD, KEY_SIZE, IN_CONFIG(memory_max), NULL, 0, 0 },
	{ "address-base", KEY_FIXD, KEY_ADDRESS, IN_CONFIG(address_base), NULL, 0x10000, 0x7fc000000000 },
	{ "io", KEY_FIXD, KEY_ENUM, IN_CONFIG(io), io_values, 0, 0 },
	{ "log-level", KEY_FIXD, KEY_ENUM, IN_CONFIG(log_level), log_level_values, 0, 0 },
	{ "allow-users", KEY_FIXD, KEY_LIST, IN_CONFIG(allow_user_names), NULL, 0, 0 },
	{ "allow-groups", KEY_FIXD, KEY_LIST, IN_CONFIG(allow_group_names), NULL, 0, 0 },
	{ "idle-exit", KEY_FIXD, KEY_DURATION_OR_NONE, IN_CONFIG(idle_exit), NULL, 0, 0 },
	{ "user-memory-max", KEY_FIXD, KEY_SIZE, IN_CONFIG(user_memory_max), NULL, 0, 0 },
	{ "user-images-max", KEY_FIXD, KEY_U64, IN_CONFIG(user_images_max), NULL, 1, 1000000 },
	{ "user-builds-max", KEY_FIXD, KEY_U64, IN_CONFIG(user_builds_max), NULL, 1, 1000000 },
	{ "user-connections-max", KEY_FIXD, KEY_U64, IN_CONFIG(user_connections_max), NULL, 1, 1000000 },

	{ "url", KEY_REMOTE, KEY_STRING, IN_CONFIG(remote_url), NULL, 0, 0 },
	{ "read", KEY_REMOTE, KEY_LIST, IN_CONFIG(remote_read), NULL, 0, 0 },
	{ "write", KEY_REMOTE, KEY_ENUM, IN_CONFIG(remote_write), bool_values, 0, 0 },
	{ "namespace", KEY_REMOTE, KEY_STRING, IN_CONFIG(remote_namespace), NULL, 0, 0 },
	{ "public-keys", KEY_REMOTE, KEY_LIST, IN_CONFIG(remote_public_keys), NULL, 0, 0 },
	{ "key-file", KEY_REMOTE, KEY_PATH, IN_CONFIG(remote_key_file), NULL, 0, 0 },
	{ "hmac-file", KEY_REMOTE, KEY_PATH, IN_CONFIG(remote_hmac_file), NULL, 0, 0 },
	{ "region", KEY_REMOTE, KEY_STRING, IN_CONFIG(remote_region), NULL, 0, 0 },
	{ "credentials-file", KEY_REMOTE, KEY_PATH, IN_CONFIG(remote_credentials), NULL, 0, 0 },
	{ "timeout", KEY_REMOTE, KEY_DURATION, IN_CONFIG(remote_timeout), NULL, 0, 0 },

	{ "max-age", BOTH | CLIENTS, KEY_DURATION_OR_NONE, IN_POLICY(max_age), NULL, 0, 0 },
	{ "age-from", BOTH | CLIENTS, KEY_ENUM, IN_POLICY(age_from), age_from_values, 0, 0 },
	{ "watch", BOTH | CLIENTS, KEY_PATH_LIST, IN_POLICY(watch), NULL, 0, 0 },
	{ "watch-by", BOTH, KEY_ENUM, IN_POLICY(watch_by), watch_by_values, 0, 0 },
	{ "check", BOTH, KEY_COMMAND, IN_POLICY(check), NULL, 0, 0 },
	{ "on-restart", BOTH, KEY_ENUM, IN_POLICY(on_restart), restart_values, 0, 0 },
	{ "timeout", BOTH | CLIENTS, KEY_DURATION, IN_POLICY(timeout), NULL, 0, 0 },
	{ "check-timeout", BOTH, KEY_DURATION, IN_POLICY(check_timeout), NULL, 0, 0 },
	{ "teardown-timeout", BOTH, KEY_DURATION, IN_POLICY(teardown_timeout), NULL, 0, 0 },
	{ "retry-after", BOTH | CLIENTS, KEY_DURATION_OR_NONE, IN_POLICY(retry_after), NULL, 0, 0 },
	{ "rebuild", BOTH, KEY_ENUM, IN_POLICY(rebuild), rebuild_values, 0, 0 },
	{ "memory-max", BOTH | CLIENTS, KEY_SIZE, IN_POLICY(memory_max), NULL, 0, 0 },

	{ "doc", KEY_FIXTURE | CLIENTS, KEY_STRING, IN_FIXTURE(doc), NULL, 0, 0 },
	{ "category", KEY_FIXTURE | CLIENTS, KEY_STRING, IN_FIXTURE(category), NULL, 0, 0 },
	{ "scope", KEY_FIXTURE | CLIENTS, KEY_ENUM, IN_FIXTURE(scope), scope_values, 0, 0 },
	{ "params", KEY_FIXTURE, KEY_LIST, IN_FIXTURE(params), NULL, 0, 0 },
	{ "huge-pages", KEY_FIXTURE | CLIENTS, KEY_ENUM, IN_FIXTURE(huge_pages), huge_values, 0, 0 },
	{ "stray-pointers", KEY_FIXTURE, KEY_ENUM, IN_FIXTURE(stray), stray_values, 0, 0 },
	{ "verify", KEY_FIXTURE, KEY_STRING, IN_FIXTURE(verify), NULL, 0, 0 },
	{ "exclude", KEY_FIXTURE, KEY_LIST, IN_FIXTURE(exclude), NULL, 0, 0 },
	{ "malloc", KEY_FIXTURE, KEY_ENUM, IN_FIXTURE(malloc_from), malloc_values, 0, 0 },
	{ "relocate", KEY_FIXTURE, KEY_ENUM, IN_FIXTURE(relocate), bool_values, 0, 0 },
	{ "warm", KEY_FIXTURE, KEY_ENUM, IN_FIXTURE(warm), bool_values, 0, 0 },
	{ "env", KEY_FIXTURE | CLIENTS, KEY_LIST, IN_FIXTURE(env), NULL, 0, 0 },
	{ "user", KEY_FIXTURE, KEY_STRING, IN_FIXTURE(user), NULL, 0, 0 },
	{ "remote", KEY_FIXTURE, KEY_ENUM, IN_FIXTURE(remote), bool_values, 0, 0 },
	{ "version", KEY_FIXTURE | CLIENTS, KEY_STRING, IN_FIXTURE(version), NULL, 0, 0 },
	{ "reuse", KEY_FIXTURE | CLIENTS, KEY_ENUM, IN_FIXTURE(reuse), bool_values, 0, 0 },

	{ "path", KEY_FIXTURE, KEY_PATH, IN_FIXTURE(path), NULL, 0, 0 },
	{ "teardown", KEY_FIXTURE, KEY_COMMAND, IN_FIXTURE(teardown), NULL, 0, 0 },
	{ "reset", KEY_FIXTURE, KEY_COMMAND, IN_FIXTURE(reset), NULL, 0, 0 },
	{ "exclusive", KEY_FIXTURE, KEY_ENUM, IN_FIXTURE(exclusive), bool_values, 0, 0 },
	{ "ready", KEY_FIXTURE, KEY_COMMAND, IN_FIXTURE(ready), NULL, 0, 0 },
	{ "value", KEY_FIXTURE, KEY_STRING, IN_FIXTURE(value), NULL, 0, 0 },
	{ "prewarm", KEY_FIXTURE, KEY_COMMAND, IN_FIXTURE(prewarm), NULL, 0, 0 },
	{ "data", KEY_FIXTURE, KEY_STRING, IN_FIXTURE(data), NULL, 0, 0 },
	{ "clones", KEY_FIXTURE, KEY_U64, IN_FIXTURE(clones), NULL, 1, 256 },
	{ "audit", KEY_FIXTURE, KEY_LIST, IN_FIXTURE(audit), NULL, 0, 0 },
	{ "stop-signal", KEY_FIXTURE, KEY_ENUM, IN_FIXTURE(stop_signal), signal_values, 0, 0 },
};

int config_stop_signal(const struct fixture *f)
{
	static const int numbers[] = { SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGKILL };

	/* Nothing that it could write in the end would be kept. */
	return f->data || f->clones ? SIGKILL : numbers[f->stop_signal];
}

const size_t key_count = ELEMENTSOF(key_table);

const char *scope_name(int scope)
{
	return scope_values[scope];
}

const struct key *key_find(enum key_section section, const char *name)
{
	for (size_t i = 0; i < key_count; i++) {
		if ((key_table[i].sections & section) && !strcmp(key_table[i].name, name))
			return &key_table[i];
	}
	return NULL;
}

char *key_names(enum key_section section)
{
	struct text t = { 0 };

	for (size_t i = 0; i < key_count; i++) {
		if (key_table[i].sections & section)
			text_printf(&t, "%s%s", t.size ? ", " : "", key_table[i].name);
	}
	return text_steal(&t);
}

static char *absolute(const char *root, const char *path)
{
	return *path == '/' ? xstrdup(path) : xasprintf("%s/%s", root, path);
}

static char *keys_joined(const char *const *values)
{
	struct text t = { 0 };

	for (; *values; values++)
		text_printf(&t, "%s%s", t.size ? ", " : "", *values);
	return text_steal(&t);
}

static char *parse_enum(const struct key *k, const char *value, int *field)
{
	_cleanup_free_ char *allowed = NULL, *question = NULL;

	for (int i = 0; k->values[i]; i++) {
		if (!strcmp(value, k->values[i])) {
			*field = i;
			return NULL;
		}
	}
	allowed = keys_joined(k->values);
	question = nearest_question(value, allowed);
	return xasprintf("%s = %s: expected one of %s%s", k->name, value, allowed, question);
}

static char *parse_number(const struct key *k, const char *value, uint64_t *field)
{
	bool hex = k->type == KEY_ADDRESS;

	if (parse_u64(value, hex ? 0 : 10, k->max, field) == 0 && *field >= k->min && !(hex && *field % REGION_ALIGN))
		return NULL;
	if (hex)
		return xasprintf("%s = %s: expected a multiple of 2 MiB from 0x%llx to 0x%llx", k->name, value, k->min, k->max);
	return xasprintf("%s = %s: expected a number from %llu to %llu", k->name, value, k->min, k->max);
}

static char *parse_amount(const struct key *k, const char *value, void *field)
{
	if (k->type == KEY_SIZE) {
		if (!strcmp(value, "none"))
			*(uint64_t *)field = SIZE_NONE;
		else if (parse_size(value, field) < 0 || *(uint64_t *)field == 0)
			return xasprintf("%s = %s: expected a number of bytes with K, M or G (64M), or none", k->name, value);
		return NULL;
	}
	if (k->type == KEY_DURATION_OR_NONE && !strcmp(value, "none"))
		*(int64_t *)field = DURATION_NONE;
	else if (parse_duration(value, field) < 0)
		return xasprintf("%s = %s: expected a number with ms, s, m or h (90s)%s", k->name, value,
				 k->type == KEY_DURATION ? "" : ", or none");
	return NULL;
}

static void set_string(char **field, char *value)
{
	free(*field);
	*field = value;
}

static void set_list(char ***field, const char *value, const char *root)
{
	_cleanup_free_ char *literal = root ? glob_literal(root) : NULL;

	list_free(*field);
	*field = list_split(value);
	for (size_t i = 0; root && (*field)[i]; i++)
		set_string(&(*field)[i], absolute(literal, (*field)[i]));
}

/* What others understand, and would be taken here for something else. */
static char *check_patterns(const struct key *k, const char *value)
{
	if (strstr(value, "**"))
		return xasprintf("%s = %s: '**' is no wildcard; a directory is watched with everything below it", k->name, value);
	if (strstr(value, " #"))
		return xasprintf("%s = %s: ' #' begins no comment behind a value; ' ;' does, and '\\#' is that sign in a path", k->name,
				 value);
	return NULL;
}

char *key_parse(const struct key *k, const char *value, const char *root, void *object)
{
	void *field = (char *)object + k->offset;

	if (*value == '\0' && k->type != KEY_STRING)
		return xasprintf("%s has no value", k->name);
	switch (k->type) {
	case KEY_STRING:
	case KEY_COMMAND:
		set_string(field, xstrdup(value));
		return NULL;
	case KEY_PATH:
		set_string(field, absolute(root, value));
		return NULL;
	case KEY_LIST:
		set_list(field, value, NULL);
		return NULL;
	case KEY_PATH_LIST:
		set_list(field, value, root);
		return check_patterns(k, value);
	case KEY_ENUM:
		return parse_enum(k, value, field);
	case KEY_U64:
	case KEY_ADDRESS:
		return parse_number(k, value, field);
	case KEY_SIZE:
	case KEY_DURATION:
	case KEY_DURATION_OR_NONE:
		return parse_amount(k, value, field);
	}
	return NULL;
}

void key_free_fields(enum key_section section, void *object)
{
	for (size_t i = 0; i < key_count; i++) {
		const struct key *k = &key_table[i];
		void *field = (char *)object + k->offset;

		/* A policy key of a fixture is freed with its policy. */
		if (!(k->sections & section) || (section == KEY_FIXTURE && (k->sections & KEY_POLICY)))
			continue;
		if (k->type == KEY_STRING || k->type == KEY_COMMAND || k->type == KEY_PATH)
			free(*(char **)field);
		else if (k->type == KEY_LIST || k->type == KEY_PATH_LIST)
			list_free(*(char ***)field);
	}
}

static void print_list(char *const *list, struct text *out)
{
	for (size_t i = 0; list && list[i]; i++)
		text_printf(out, "%s%s", i ? ", " : "", list[i]);
}

void key_print(const struct key *k, const void *object, struct text *out)
{
	const void *field = (const char *)object + k->offset;
	char buf[32];

	switch (k->type) {
	case KEY_STRING:
	case KEY_COMMAND:
	case KEY_PATH:
		text_puts(out, *(char *const *)field ? *(char *const *)field : "");
		break;
	case KEY_LIST:
	case KEY_PATH_LIST:
		print_list(*(char **const *)field, out);
		break;
	case KEY_ENUM:
		text_puts(out, k->values[*(const int *)field]);
		break;
	case KEY_U64:
		text_printf(out, "%" PRIu64, *(const uint64_t *)field);
		break;
	case KEY_ADDRESS:
		text_printf(out, "0x%" PRIx64, *(const uint64_t *)field);
		break;
	case KEY_SIZE:
		if (*(const uint64_t *)field == SIZE_NONE)
			text_puts(out, "none");
		else
			text_puts(out, write_size(buf, sizeof buf, *(const uint64_t *)field));
		break;
	case KEY_DURATION:
	case KEY_DURATION_OR_NONE:
		if (*(const int64_t *)field == DURATION_NONE)
			text_puts(out, "none");
		else
			text_puts(out, write_duration(buf, sizeof buf, *(const int64_t *)field));
		break;
	}
}
