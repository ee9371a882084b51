/* SPDX-License-Identifier: MIT */
/* A session: the namespace of the fixtures of one (uid, root directory), and its instances. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

struct config;
struct daemon;
struct fixture;
struct instance;

struct session {
	struct daemon *daemon;
	char id[16];
	char *root;
	uid_t uid;
	int64_t created_real;
	uint64_t total_runs;
	void *instances; /* tree, by key */
	size_t n_instances;
	uint64_t changes; /* instances that went, definitions that were read again: pointers from before are not to be used */
};

#define SESSION_INSTANCES_MAX 16384

struct session *session_new(struct daemon *d, const char *root, uid_t uid);
struct session *session_free(struct session *s);

/*
 * The instance of a fixture; made when it is not there yet. `node` is the asker's place ("pkg/mod.py::Class::test"), of which
 * the scope of the fixture takes its part. `env` are NAME=value of the asker; with -ENOKEY some are missing. -ENOSPC: too many.
 */
int session_instance(struct session *s, const struct fixture *f, const char *param, const char *node, char *const *env,
		     struct instance **out);

/* The same, but none is made: NULL. */
struct instance *session_find(struct session *s, const struct fixture *f, const char *param, const char *node, char *const *env);

/* The part of a place that a scope distinguishes; to be freed. */
char *session_scope_key(int scope, const char *node);

/* Calls `fn` for every instance; it must neither make nor free any. */
void session_each(struct session *s, void (*fn)(struct instance *i, void *arg), void *arg);

/* The instance whose image is held by nothing but the table and was used longest ago, or NULL. */
struct instance *session_least_used(struct session *s);

/* New definitions: instances get them, or end. */
void session_redefine(struct session *s, const struct config *c);
/* If there are too many instances: gives up what was used longest ago, and frees what is idle. */
void session_make_room(struct session *s);
