/* SPDX-License-Identifier: MIT */
/*
 * A session: the namespace of the fixtures of one (uid, root directory), its instances and its runs. The ini file's fixtures
 * are one session; what clients build is in sessions of their users, so no user sees what another one published.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/link.h"
#include "base/text.h"
#include "base/vector.h"

struct config;
struct model;
struct fixture;
struct image;
struct image_owner;
struct instance;
struct orphan;
struct instance_lookup;
struct recent;
struct run;
struct user;
struct viewer;

struct session {
	struct link link; /* model::sessions */
	struct model *model;
	const struct session_calls *calls;
	struct user *user; /* a reference */
	size_t n_conns;	   /* that joined */
	uint64_t number;   /* of all sessions of the daemon, later ones have greater ones */
	char id[16];
	char *root;
	struct viewer *viewer; /* with whose rights the root is looked at; NULL: the daemon's */
	bool root_seen;	       /* was it there when the session began? */
	uid_t uid;
	int64_t created_real;
	int64_t last_run_real; /* 0: there was none */
	uint64_t total_runs;
	struct link runs;
	struct link past; /* runs that have ended, oldest first */
	size_t n_past;
	struct link images;	   /* that clients built: image::in_session */
	struct link orphans;	   /* oldest first */
	size_t n_orphans;	   /* with those that somebody is being told of */
	struct fixture **fixtures; /* registered by clients, by name */
	size_t n_fixtures;
	struct vector instances; /* by key */
	struct link loose;	 /* edge::in_dependency of those whose dependency is not there */
	uint64_t changes;	 /* instances that went, definitions that were read again: pointers from before are not to be used */
	struct recent *recents;	 /* what requests have meant (serve/attach); NULL: none was kept */
};

/* What the rest of the model asks of its session. */
struct session_calls {
	int (*instance)(struct session *s, const struct fixture *f, const struct instance_lookup *p, struct instance **out);
	void (*run_begins)(struct session *s);
	void (*run_ended)(struct session *s, struct run *r);
};

#define SESSION_INSTANCES_MAX 16384

#define SESSION_FIXTURES_MAX 4096
#define SESSION_ORPHANS_MAX 1024
#define USER_SESSIONS_MAX 64

struct session *session_new(struct model *m, const char *root, uid_t uid);
struct session *session_free(struct session *s);
/* NULL: it has gone. */
struct session *session_by_number(const struct model *m, uint64_t number);

/* The session of (uid, root), made when it is not there yet. NULL: the user has too many that are in use. */
struct session *session_get(struct model *m, const char *root, uid_t uid);
/* Of another user: whether its root is there, that user may know. Takes the viewer; NULL: there is none. */
bool session_wants_viewer(const struct session *s);
void session_take_viewer(struct session *s, struct viewer *v);

/*
 * Registers a fixture that clients build; a definition that says something else replaces the one of that name, and makes its
 * images stale. 0, or -EINVAL or -ENOSPC and `problems`.
 */
int session_define(struct session *s, const char *name, char *const *settings, struct text *problems);
const struct fixture *session_fixture(const struct session *s, const char *name);

/* Whom images tell: their instances, and their sessions of orphans. */
extern const struct image_owner session_images;
/* orphan_take(), also of what only the run `run` could use, and no member of it could any more. */
struct orphan *session_adopt(struct session *s, const char *pattern, const struct run *run);

/* Who asks, and for which instance of a fixture. */
struct instance_lookup {
	const char *param;     /* or NULL */
	const char *node;      /* "pkg/mod.py::Class::test", of which the scope of the fixture takes its part */
	char *const *env;      /* NAME=value of the asker */
	const struct run *run; /* or NULL */
	const char *clone;     /* the clone, see instance::clone; or NULL */
};

/*
 * The instance of a fixture; made when it is not there yet. -ENOKEY: variables are missing. -ENOTCONN: it lives as long as a
 * run, and there is none. -ENOSPC: too many.
 */
/*
 * For who only wants to look: the instance itself, or the only one of that fixture, parameter and scope key that has an image, whatever
 * variables and run it is of. NULL: there is none, or several.
 */
struct instance *session_peek(struct session *s, const struct fixture *f, const struct instance_lookup *p);
int session_instance(struct session *s, const struct fixture *f, const struct instance_lookup *p, struct instance **out);

/* One that there was in another process: `env` is taken. NULL: its variables are not those of the definition any more. */
struct instance *session_resume_instance(struct session *s, const struct fixture *f, const char *param, const char *scope_key, char **env,
					 const struct run *run, const char *clone);

/* The same, but none is made: NULL. */
struct instance *session_find(struct session *s, const struct fixture *f, const struct instance_lookup *p);
/* Edges to all of its dependencies that are there. */
void session_find_dependencies(struct instance *i);

/* The part of a place that a scope distinguishes; to be freed. */
char *session_scope_key(int scope, const char *node);

/* NULL: it has gone. */
struct instance *session_by_key(const struct session *s, const char *key);
/* The first instance whose key stands behind `key` (NULL: the first of all), or NULL. */
struct instance *session_next(const struct session *s, const char *key);
/* Calls `fn` for every instance; it must neither make nor free any. */
void session_each(struct session *s, void (*fn)(struct instance *i, void *arg), void *arg);

/* Builds have been given up for nobody's sake: whoever waits for one gets another. */
void session_requeue(struct session *s);
/* New definitions: instances get them, or end. */
void session_redefine(struct session *s, const struct config *c);
/*
 * From time to time: images of a root directory that is gone are retired, and what nobody has asked about for long is forgotten.
 * False: nobody would miss the session.
 */
bool session_sweep(struct session *s);
/* If there are too many instances: gives up what was used longest ago, and frees what is idle. */
void session_make_room(struct session *s);

/* What session.c, registry.c, definition.c and sweep.c share. */

/* 0, or -errno: also that its user may not look. */
int session_look_at_root(const struct session *s);
/* Can it have no more instances? */
bool session_is_full(const struct session *s);
void session_remove_instance(struct session *s, struct instance *i);
/* For session_each(): into a vector, so that they may go meanwhile. */
void session_collect(struct instance *i, void *vector);
void session_retire_all(struct session *s, const char *cause);
/* Nobody would miss it, but for its history. */
bool session_is_idle(struct session *s);
/* Nobody is there, and what it has was only kept for later. */
bool session_is_unused(struct session *s);
