/* SPDX-License-Identifier: MIT */
/*
 * What `fixctl run` is made of: the fixtures it shows, the scratch directory, the keeper that looks after it, the mounts and the
 * path table.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/text.h"
#include "fixctl/fixctl.h"
#include "fixctl/follow.h"
#include "wire/run_table.h"

/* Scratch: what a run writes to its fixtures, in a directory below $TMPDIR that nobody else can enter. */

struct scratch {
	char *path;
	char *inner;  /* in it, of what programs use: those that have given privileges up, too; nobody else can guess its name */
	char *copies; /* the same of what the shim has copied: `inner`, or a directory elsewhere (run_copies.c) */
	int lock;     /* a read lock, inherited by every process of the run; -1: given up */
};

/* 0 or -errno. Removes what killed runs have left behind, too. */
int scratch_make(struct scratch *s);
/*
 * A directory outside that the run needs. If it is not there it is made, and removed with the last run that needs it, for which
 * each of them keeps *lock open (-1: no need to); NULL for the directories above it.
 */
int scratch_make_directory(const struct scratch *s, const char *path, int *lock);
/* A lock of the keeper's own, so that nobody takes the directory for abandoned. */
int scratch_watch(const char *path);
/*
 * Makes that lock exclusive (-1: there is none yet), when no process of the run has one any more: waits for that, or returns
 * -EAGAIN at once.
 */
int scratch_wait(const char *path, bool others_may_stay, int *lock);
void scratch_free(struct scratch *s);
/* A name beside what the run has of the fixture with this number, which no link of a program can lead to by chance. To be freed. */
char *scratch_marker(const struct scratch *s, size_t i);
/* Chooses the directory of the copies, for those of this tree. */
void copies_place(struct scratch *s, const char *tree);
/* Where the run has the fixture with this number, once it has changed it; to be freed. */
char *copies_own(const struct scratch *s, size_t i);
/* With the scratch directory, before it. */
void copies_remove(const char *scratch);
/* The directory and what was noted down. 0 or -errno. */
int scratch_remove(const char *path);

/*
 * The keeper: a process of its own, in a session of its own, that outlives fixctl however that ends. Then it ends the run's
 * private daemon, waits for the last process of the run, and removes the scratch directory.
 */

struct keeper {
	pid_t pid; /* -1: there is none */
	int channel;
	bool has_daemon;
	off_t printed; /* of the daemon's words */
	struct scratch *scratch;
};

/* Starts it, and with `config` a daemon that listens at `socket`: 0 when that is ready, otherwise an exit code (printed). */
int keeper_start(struct keeper *k, struct scratch *s, const char *config, const char *socket);
/* What its daemon has said since, to standard error. */
void keeper_print_log(struct keeper *k);
/* It holds a copy of `fd` until the end. 0 or -errno. */
int keeper_hold(const struct keeper *k, int fd);
/* The same for an inotify descriptor that tells of the end of the run's mounts, which is that of its last process. */
int keeper_watch(const struct keeper *k, int fd);
/*
 * Returns when the daemon has ended and nothing is left of the run; or at once, when processes were left behind: they keep the
 * daemon and the scratch directory. `s` gives up its lock.
 */
void keeper_end(struct keeper *k, struct scratch *s);

/* The fixtures that the run shows. */

struct shown {
	bool links;	/* of RUN_TREE: there are symbolic links in it */
	bool names;	/* of RUN_TREE: files in it have several */
	bool foreign;	/* of RUN_TREE: something in it belongs to another user or group */
	char *name;	/* name or name[param] */
	char *variable; /* FIXD_FIXTURE_... */
	char *path;	/* where */
	bool has_path;	/* in fixd.ini; otherwise it is in the scratch directory */
	enum run_entry_kind kind;
	bool objects;	      /* of RUN_FILE: nobody reads its bytes as a file */
	int fd;		      /* of RUN_FILE: the image, at the number that it has in every process of the run */
	char *tree;	      /* of RUN_TREE */
	char *source, *input; /* what it is made from: the kind, and the path if it is one */
	struct stat looks;    /* of RUN_FILE: mode, owner and times that stat() should show */
	uint64_t size;
};

struct shown_list {
	struct shown *all;
	size_t n;
	char **aliases; /* from, to, from, to... */
	uint64_t region_start;
	char *root; /* of the session */
};

/* What is wanted of what the run has changed. */
struct changes_options {
	bool list, json;
	const char *file; /* where the list is written; NULL: to standard error */
	const char *keep; /* directory for what is new or changed, or NULL */
};

struct run_options {
	struct changes_options changes;
	bool dry;
	int isolate; /* enum run_isolate */
	bool fresh, reset_on_fork, blame, wait_upload;
	const char *config;
	char **only; /* names and globs, or NULL */
	int timeout_ms;
	int build_failed; /* exit status when a fixture cannot be built */
};

enum run_isolate { RUN_AUTO, RUN_MOUNT, RUN_SHIM };

struct fixd;

/* Which they are, and where. 0, or an exit code (printed). */
int shown_select(struct fixd *f, const struct run_options *o, const struct scratch *s, struct shown_list *out);
/* Builds what is not fresh and attaches all of it: 0, or an exit code (printed). */
int shown_attach(struct fixd *f, const struct run_options *o, const struct scratch *s, struct shown_list *out);
void shown_free(struct shown_list *l);

/* One of them: attaches the fixture `name`, until the connection ends. 0, or an exit code (printed). */
int shown_hold(struct fixd *f, const char *scope_key, int timeout_ms, struct shown *x);
void shown_deinit(struct shown *x);
/* FIXD_FIXTURE_ and the name, in which everything that cannot stand there is '_'; to be freed. */
char *shown_variable(const char *name);

/* The lowest number of the descriptors that every process of the run has: out of the way of programs that count theirs. */
int shown_first_fd(void);
/* As many as there may be, or as many as we were given. */
void shown_allow_descriptors(bool many);

/*
 * Gives this process a mount namespace of its own in which the trees lie at their paths: 0, or -errno and *why (to be freed).
 * After a failure the process is of no use any more. *ends: an inotify descriptor, which tells when nobody has them any more.
 */
int mounts_make(const struct shown_list *l, const struct scratch *s, int *ends, char **why);

/* From now on, for this process and what it starts: files cannot be given to anybody but that user and group (EPERM). */
void owners_refuse(uid_t uid, gid_t gid);
/* In that namespace: a descriptor of each tree as the run has it, -1 for files; `l->n` of them, to be freed. */
int *mounts_open(const struct shown_list *l);
/* Can this machine do it at all? NULL, or why not, to be freed. */
char *mounts_refused(void);

/* What programs find the run by, in our environment, and with us that of the command. */
void environment_set(const struct shown_list *l, const char *id, const char *socket, const struct run_options *o);
/* Without the shim of a run that this one is in. */
void environment_drop_shim(void);
/* The program that is started cannot have the shim; what it starts finds the run nevertheless. */
void environment_drop_preload(void);

/* Writes the table for the shim, after environment_set(), and has it preloaded: the descriptor of the table, or -errno. */
int table_write(const struct shown_list *l, const struct scratch *s, const char *shim, unsigned flags);
/* Has somebody changed the fixture? With mounts: only of files. */
bool table_is_private(const struct scratch *s, size_t i);

/* After the command. `trees`: of mounts_open(), or NULL. 0, or -errno (printed). */
int changes_tell(const struct shown_list *l, const struct scratch *s, const int *trees, const struct changes_options *o);
