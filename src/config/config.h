/* SPDX-License-Identifier: MIT */
/*
 * fixd.ini, read and checked: what a struct config holds is complete and consistent. Relative paths are absolute, every
 * dependency exists, is no cycle and no narrower scope, defaults are filled in. fixd.ini(5) is the reference.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/text.h"
#include "image/digest.h"

/* pytest's scopes, widest first; a definition is a test function with all its parameters. */
enum scope { SCOPE_SESSION, SCOPE_PACKAGE, SCOPE_MODULE, SCOPE_CLASS, SCOPE_DEFINITION, SCOPE_FUNCTION, SCOPE_COUNT };

enum source_kind {
	SOURCE_NONE,
	SOURCE_FILE,
	SOURCE_DIRECTORY,
	SOURCE_COMMAND,
	SOURCE_PLUGIN,
	SOURCE_TREE,
	SOURCE_SERVICE,
	SOURCE_PROCESS,
	SOURCE_CLIENT,
	SOURCE_COUNT,
};

enum age_from { AGE_FROM_CREATION, AGE_FROM_LAST_USE };
enum watch_by { WATCH_BY_MTIME, WATCH_BY_CONTENT };
enum rebuild { REBUILD_LAZY, REBUILD_EAGER };
enum on_restart { RESTART_KEEP, RESTART_DROP };
enum io_kind { IO_AUTO, IO_URING, IO_EPOLL };

#define DURATION_NONE INT64_C(-1)
#define SIZE_NONE UINT64_MAX

struct policy {
	int64_t max_age; /* ns, or DURATION_NONE */
	int age_from;	 /* enum age_from */
	char **watch;	 /* absolute files, directories and globs */
	int watch_by;	 /* enum watch_by */
	char *check;	 /* shell command, or NULL */
	int64_t timeout;
	int64_t check_timeout;	  /* of check and reset */
	int64_t teardown_timeout; /* of the teardown command, and again for the processes of a service to end */
	int64_t retry_after;
	int rebuild;	     /* enum rebuild */
	int on_restart;	     /* enum on_restart */
	uint64_t memory_max; /* bytes of one image, or SIZE_NONE */
};

struct depend {
	char *name;
	char *param; /* or NULL */
	const struct fixture *fixture;
};

struct fixture {
	char *name;
	char *doc, *category, *path;
	int line;		       /* of the section */
	int source_line, depends_line; /* of these keys, or 0 */
	int scope;		       /* enum scope */
	char **params;
	struct depend *depends;
	size_t n_depends;
	int source;	       /* enum source_kind */
	bool as_is;	       /* its tree keeps the modes of its files */
	char *what;	       /* its path or command */
	char *symbol, *verify; /* functions of a plugin, or NULL */
	char **exclude;	       /* of a directory: what is no part of it */
	char **inputs;	       /* what its source reads: files that are watched besides policy.watch */
	struct policy policy;
	int huge_pages;	 /* enum huge_pages */
	int stray;	 /* enum job_strays */
	int malloc_from; /* 1: the arena */
	int relocate;	 /* 0: its objects are right at their own address only */
	int warm;
	char **env;	/* names */
	char **all_env; /* and those of its dependencies, each once */
	char *user;
	int remote;		/* its images go to other machines, and come from there */
	char *teardown, *reset; /* shell commands, or NULL */
	int exclusive;		/* one holder at a time */
	char *ready;		/* as written; of a service: */
	int ready_by;		/* enum job_ready */
	int stop_signal;	/* an index: config_stop_signal() */
	char *ready_what;	/* file or command, or NULL */
	char *value;		/* template, or NULL */
	char *prewarm;		/* shell command, or NULL */
	char **audit;		/* of a process: rules for what does not survive a fork, as written; or NULL */
	char *data;		/* the tree that it has a writable view of, or NULL */
	size_t data_at;		/* that one in `depends` */
	uint64_t clones;	/* at most so many, each for one holder; 0: it is shared. Also of what depends on such a service. */
	char *version;		/* of what clients build: another one makes it stale */
	int reuse;		/* 0: its images live no longer than the run they were built in */
	char **registered_as;	/* the settings of a registered one */
	bool registered;	/* by a client, not in the ini file: any param */
	struct digest section;	/* of its keys and values; of a registered one, only of what is built */
	struct digest settings; /* of a registered one: all of them */
};

struct config {
	char *file; /* absolute */
	char *socket;
	char *root;
	uint64_t jobs;
	uint64_t memory_max;
	uint64_t address_base;
	int io; /* enum io_kind */
	int log_level;
	char **allow_user_names, **allow_group_names;
	uid_t *allow_users;
	size_t n_allow_users;
	gid_t *allow_groups;
	size_t n_allow_groups;
	int64_t idle_exit;
	uint64_t user_memory_max, user_images_max, user_builds_max, user_connections_max; /* of each other user */
	char *remote_url, *remote_namespace, *remote_key_file, *remote_hmac_file, *remote_region,
		*remote_credentials; /* [remote]; NULL: not given */
	char **remote_read, **remote_public_keys;
	int remote_write;
	int64_t remote_timeout;
	char **remote_reads;	   /* namespaces that are looked into */
	char **remote_options;	   /* of fixd-remote, made of these; NULL: there is no remote */
	struct policy policy;	   /* [policy]: the defaults */
	struct fixture **fixtures; /* by name */
	size_t n_fixtures;
};

/*
 * Reads `path`. On success *out is the configuration (config_free() it) and `problems` may hold warnings; on -EINVAL
 * `problems` holds a line "FILE:LINE: what is wrong and what is allowed" for each mistake.
 */
int config_load(const char *path, struct config **out, struct text *problems);
struct config *config_free(struct config *c);
/* The number of the signal that asks a service to end. */
int config_stop_signal(const struct fixture *f);

/*
 * A definition that a client registers: `settings` are key=value, with the keys that suit what clients build; relative paths
 * start at `root`, the defaults are those of [policy] in `c`. 0 and *out (fixture_free() it), or -EINVAL and `problems`.
 */
int config_define(const struct config *c, const char *root, const char *name, char *const *settings, struct fixture **out,
		  struct text *problems);
struct fixture *fixture_free(struct fixture *f);

const struct fixture *config_find(const struct config *c, const char *name);
/* Which one was meant by a name that is not there: the end of a sentence, or nothing; to be freed. */
char *config_question(const struct config *c, const char *name);
const char *scope_name(int scope);
const char *source_name(int source);
/* What it makes is a process that goes on: it is kept, and has a directory. */
bool source_keeps_running(int source);
/* It is a shell command. */
bool source_is_command(int source);

/* Sources that cannot be read right now, a line each as above: their builds will fail. Returns how many. */
size_t config_check_sources(const struct config *c, struct text *problems);

/* The settings of a fixture that differ from the built-in defaults, as "key = value" lines. */
char *config_describe(const struct fixture *f);
