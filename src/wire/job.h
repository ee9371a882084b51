/* SPDX-License-Identifier: MIT */
/*
 * What the daemon and its helper process (fixd-builder) say to each other over a private socket pair:
 *
 *	daemon -> helper	the size of a job (size_t), with descriptors: a memfd of its records, the images of the
 *				dependencies, and what `kept`, `has_image` and `holds` of struct job say
 *	helper -> daemon	JOB_GRANT: may the image have this many bytes in all?
 *	daemon -> helper	job_granted
 *	helper -> daemon	JOB_PARTS, with a sealed memfd of what the key of the image is made from (remote/key.h)
 *	helper -> daemon	JOB_TRANSFER, with a socket over which fixd-remote tells how the image comes or goes (remote/tell.h); of one
 *				that goes, a byte from the daemon says over it that the image is right, and its end that it is not
 *	helper -> daemon	JOB_LOOKED: nothing comes from the remote any more
 *	helper -> daemon	JOB_AT_HOME: the objects of the image must not be relocated
 *	helper -> daemon	JOB_RESULT + a sentence, with the sealed image when it was built
 *
 * The helper of a job that is `kept` stays when it has built the image: it keeps what has to be torn down. It is told to do that
 * by the end of the channel, so that it also happens when the daemon dies:
 *
 *	helper -> daemon	JOB_RESULT, besides the image with the end of its hold
 *	helper -> daemon	JOB_DIED + a sentence: the service has ended by itself
 *	helper -> daemon	JOB_AWAY: its first process has ended, others go on
 *	helper -> daemon	JOB_USED: the bytes that the image takes now, in `size`
 *	helper -> daemon	JOB_UNCLEAN, when the service is ready: what tells that its data were left by a server that was killed
 *	helper -> daemon	JOB_UNTOUCHED, at its end: the service has opened no file of its data
 *	daemon -> helper	struct job_daemon: a daemon that was started later has it now, and reads its log
 *	daemon -> helper	shuts the channel down: tear it down
 *	helper -> daemon	JOB_ENDED + a sentence if that failed
 *
 * A hold is a pipe: whoever needs what a helper keeps has its other end open, and that helper tears nothing down before.
 *
 * Plugins run in the helper, so the daemon trusts nothing that comes from it and verifies the image.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/text.h"
#include "image/digest.h"
#include "image/space.h"

#define JOB_CHANNEL_FD 3 /* in the helper */
#define JOB_CUT_OFF 111	 /* the exit status of one that has lost it */

enum job_kind {
	JOB_FILE,
	JOB_DIRECTORY,
	JOB_COMMAND,
	JOB_TREE,
	JOB_PLUGIN,
	JOB_SERVICE,
	JOB_CHECK,  /* run `source`, a check or reset command */
	JOB_DIGEST, /* only the digest of the inputs */
	JOB_REAP,   /* do what a helper that was killed can do no more; its note is the job */
};

enum job_ready { JOB_READY_LINE, JOB_READY_PORT, JOB_READY_FILE, JOB_READY_COMMAND, JOB_READY_NOTIFY, JOB_READY_CHECKPOINT };

enum job_strays { JOB_STRAYS_ERROR, JOB_STRAYS_WARN, JOB_STRAYS_ALLOW };

struct job_dependency {
	char *name;
	char *path;  /* of a tree, or NULL */
	char *bytes; /* in a note, as in struct job */
	uint64_t address, size, root;
	uint64_t kind; /* enum wire_image_kind */
	bool direct;   /* named in `depends`, not just reached through one */
	struct digest digest;
};

struct job {
	enum job_kind kind;
	char *name, *param, *scope_key;
	char *source;		  /* path or command */
	char *symbol;		  /* of a plugin */
	char *verify;		  /* its function that is to find the image right in another process, or NULL */
	char *root;		  /* working directory */
	char *tree;		  /* empty directory to fill, or NULL */
	uint64_t address;	  /* 0: anywhere */
	uint64_t reserved, limit; /* reserved 0: there is no image */
	uint64_t huge;		  /* enum huge_pages */
	uint64_t stray;		  /* enum job_strays */
	bool malloc_arena;
	bool as_is;	/* a tree keeps its modes */
	char **exclude; /* patterns (base/glob) of what is no part of a tree */

	char *dir;	   /* private directory of a service, or NULL */
	uint64_t port;	   /* for a service */
	uint64_t ready_by; /* enum job_ready */
	char *ready;	   /* its file (a template) or command */
	char *value;	   /* of a service: a template, or NULL */
	char *prewarm;	   /* command that is run when it is ready, or NULL */
	char *data;	   /* a sealed tree that it has a writable view of, or NULL */
	char *view;	   /* an empty directory for that */
	bool touch;	   /* whether it uses its data, and what is odd about them, is to be told */
	bool sandboxed;	   /* it runs in a sandbox, where there can be one */
	char *teardown;	   /* command, or NULL */
	uint64_t teardown_ms;
	bool kept;	/* the helper stays; its note, a writable file, comes behind the dependencies */
	bool has_image; /* the image that is checked, reset or torn down comes next */
	uint64_t holds; /* and so many ends of pipes */

	/* In the note: what of the job there is. */
	char *token;	/* in the environment of all its processes, as JOB_TOKEN */
	uint64_t group; /* of the processes of a service, or 0 */
	bool built;	/* the teardown command is to be run */
	char *bytes;	/* of the image, if they are few and no byte is zero */

	char **leavings; /* see builder/leavings.h */

	char **audit;	      /* rules of a template for what does not survive a fork (wire/fork.h), or NULL */
	char **remote;	      /* options of fixd-remote for the image; NULL: it has none */
	bool anew;	      /* what is there is not to be taken */
	char *user;	      /* as whom it is built, or NULL: as the daemon */
	char *socket;	      /* of the daemon, for a template that attaches; or NULL */
	uint64_t stop_signal; /* that asks a service to end; 0: SIGTERM */
	char **env;	      /* NAME=value */
	char **inputs;	      /* files whose digest is wanted with the result */
	struct job_dependency *dependencies;
	size_t n_dependencies;
};

void job_encode(const struct job *j, struct text *out);
/* 0 or -EBADMSG. The caller owns what *j points at: job_deinit(). */
int job_decode(const void *data, size_t size, struct job *j);
void job_deinit(struct job *j);

#define JOB_TOKEN "FIXD_KEEPER"
#define JOB_NOTE_BYTES_MAX (64 << 10)
#define JOB_NOTE_MAX (16 << 20)

struct job_daemon {
	pid_t pid;
};

enum job_message {
	JOB_GRANT = 1,
	JOB_RESULT = 2,
	JOB_DIED = 3,
	JOB_ENDED = 4,
	JOB_AWAY = 5,
	JOB_USED = 6,
	JOB_PARTS = 7,
	JOB_TRANSFER = 8,
	JOB_LOOKED = 9,
	JOB_AT_HOME = 10,
	JOB_UNTOUCHED = 11,
	JOB_UNCLEAN = 12
};

struct job_grant {
	uint32_t message;
	uint32_t reserved;
	uint64_t total;
};

/* A descriptor comes along: JOB_PARTS, JOB_TRANSFER. And JOB_LOOKED and JOB_AT_HOME, without one. */
struct job_handover {
	uint32_t message;
	uint32_t up; /* of a transfer: it goes to the remote */
};

struct job_granted {
	int32_t error;
};

/* Also of JOB_DIED and JOB_ENDED. Without an error the sentence of JOB_RESULT is why a service has no sandbox that should have one. */
struct job_result {
	uint32_t message;
	int32_t error; /* 0, or negative errno with a sentence */
	uint64_t size; /* of the image */
	uint64_t root; /* offset of the root object */
	uint64_t tree_bytes;
	uint64_t cpu_ns, peak_bytes; /* of the helper and what it has started and waited for; the most that one of them had at once */
	struct digest digest, inputs;
	uint32_t sentence; /* length of the text that follows */
	uint32_t service;  /* pid of the process whose end is that of the service, or 0 */
};

#define JOB_SENTENCE_MAX 2048
