/* SPDX-License-Identifier: MIT */
#include "fixctl/key_parts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "client/connection.h"
#include "fixctl/fixctl.h"
#include "fixctl/instance.h"
#include "fixctl/terminal.h"
#include "fixd.h"
#include "image/memfd.h"

#define REPLY_MS 30000
#define FILES_MAX 8
#define DIGITS 16 /* of a hash, in a line */

/* Strings that each end with a NUL: "=NAME" or "#NAME", VALUE. */
static json_t *take_parts(const char *data, size_t size)
{
	const char *end = data + size, *value;
	json_t *list = json_array();

	for (const char *name = data; name < end; name = value + strlen(value) + 1) {
		value = name + strlen(name) + 1;
		if (value >= end || !*name)
			break;
		json_array_append_new(list, json_pack("{s:o, s:o, s:b}", "name", ctl_text(name + 1, strlen(name + 1)), "value",
						      ctl_text(value, strlen(value)), "file", *name == '#'));
	}
	return list;
}

json_t *key_parts(struct fixd *f, const char *title)
{
	char body[sizeof(struct wire_query) + WIRE_NAME_MAX];
	struct wire_query q = { .pattern = (uint16_t)strlen(title) };
	struct reply reply;
	uint64_t size = 0;
	json_t *parts = NULL;
	_cleanup_free_ char *data = NULL;

	if (strlen(title) > WIRE_NAME_MAX)
		return NULL;
	memcpy(body, &q, sizeof q);
	memcpy(body + sizeof q, title, q.pattern);
	if (connection_request(f, WIRE_TYPE_key, body, sizeof q + q.pattern, REPLY_MS, &reply) < 0)
		return NULL;
	if (reply.n_fds == 1 && memfd_verify(reply.fds[0], &size) == 0) {
		data = xcalloc(1, size + 1);
		if (fd_pread_all(reply.fds[0], data, size, 0) == (ssize_t)size)
			parts = take_parts(data, size);
	}
	reply_close(&reply);
	return parts;
}

static bool is_file(const json_t *part)
{
	return json_is_true(json_object_get(part, "file"));
}

static void print_value(const json_t *part)
{
	const char *value = part ? ctl_string(part, "value") : "none";
	_cleanup_free_ char *plain = terminal_plain(value, strcspn(value, "\n"), false);

	printf("%.*s%s", is_file(part) ? DIGITS : (int)strlen(plain), plain, is_file(part) || strchr(value, '\n') ? "..." : "");
}

static void print_name(const char *name, const char *behind)
{
	_cleanup_free_ char *plain = terminal_plain(name, strlen(name), false);

	printf("    %s%s", plain, behind);
}

void key_parts_print(const json_t *parts)
{
	size_t files = 0;

	puts("  Key         the same on each machine where these are:");
	for (size_t k = 0; k < json_array_size(parts); k++) {
		const json_t *part = json_array_get(parts, k);

		if (is_file(part) && ++files > FILES_MAX)
			continue;
		print_name(ctl_string(part, "name"), " = ");
		print_value(part);
		putchar('\n');
	}
	if (files > FILES_MAX)
		printf("    and %zu more files\n", files - FILES_MAX);
}

/* The parts of the same instance in what explain --json has printed. */
static const json_t *parts_of(const json_t *explained, const char *title)
{
	const json_t *instances = json_object_get(explained, "instances");

	for (size_t k = 0; k < json_array_size(instances); k++) {
		const json_t *i = json_array_get(instances, k);
		_cleanup_free_ char *other = instance_title(i);

		if (!strcmp(other, title))
			return json_object_get(i, "key_parts");
	}
	return NULL;
}

/* Names may be there several times: env is. */
static json_t *counted(const json_t *parts)
{
	json_t *by_name = json_object();

	for (size_t k = 0; k < json_array_size(parts); k++) {
		const json_t *part = json_array_get(parts, k);
		_cleanup_free_ char *name = xstrdup(ctl_string(part, "name"));

		for (int n = 2; json_object_get(by_name, name); n++) {
			free(name);
			name = xasprintf("%s (%d)", ctl_string(part, "name"), n);
		}
		json_object_set(by_name, name, (json_t *)part);
	}
	return by_name;
}

static bool is_same(const json_t *a, const json_t *b)
{
	return a && b && !strcmp(ctl_string(a, "value"), ctl_string(b, "value"));
}

static void print_difference(const char *name, const json_t *here, const json_t *there)
{
	print_name(name, ": ");
	print_value(here);
	fputs(" here, ", stdout);
	print_value(there);
	puts(" there");
}

static void print_title(const char *title)
{
	_cleanup_free_ char *plain = terminal_plain(title, strlen(title), false);

	printf("%s: what differs between the keys here and there:\n", plain);
}

static int compare(const json_t *here, const json_t *there)
{
	json_t *a = counted(here), *b = counted(there), *part;
	const char *name;
	int differ = 0;

	json_object_foreach(a, name, part) {
		if (!is_same(part, json_object_get(b, name)))
			print_difference(name, part, json_object_get(b, name)), differ++;
	}
	json_object_foreach(b, name, part) {
		if (!json_object_get(a, name))
			print_difference(name, NULL, part), differ++;
	}
	json_decref(a);
	json_decref(b);
	return differ;
}

int key_parts_compare(const json_t *parts, const char *title, const char *file)
{
	json_error_t error;
	json_t *explained = json_load_file(file, 0, &error);
	const json_t *there = explained ? parts_of(explained, title) : NULL;
	int differ = -1;

	if (!explained)
		fprintf(stderr, "fixctl: %s: %s\n", file, access(file, R_OK) < 0 ? strerror(errno) : error.text);
	else if (!parts)
		fprintf(stderr, "fixctl: no image of '%s' is here that has a key on a remote\n", title);
	else if (!json_is_array(there))
		fprintf(stderr, "fixctl: %s has no key of '%s': expected what 'fixctl explain --json %s' prints on the other machine\n",
			file, title, title);
	else
		print_title(title), differ = compare(parts, there);
	if (differ == 0)
		puts("    nothing: they are the same");
	json_decref(explained);
	return differ;
}
