/* SPDX-License-Identifier: MIT */
/*
 * One job in the helper process: the space the image grows in, its dependencies mapped where they belong, and what is to be
 * reported. Each source is one function: it fills the space and the result, or says why not.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "image/manifest.h"
#include "image/space.h"
#include "wire/job.h"

/* What a descriptor was when it was noted. */
struct descriptor {
	int fd;
	dev_t dev;
	ino_t ino;
};

#define WORK_DESCRIPTORS 3

struct work {
	struct job job;
	mode_t umask; /* before a plugin may have changed it */
	int channel;
	struct space space;
	uint64_t other_bytes; /* asked for besides the space (a tree, a service) */
	uint64_t root;	      /* offset of the root object */
	struct digest digest;
	int error;
	char *sentence;	   /* why it failed */
	char *unsandboxed; /* why a service has no sandbox that should have one; or NULL */
	int *dep_fds;
	bool anew;	  /* what is on the remote for it has wrong pieces: all of them are put there again */
	bool packed;	  /* its objects have addresses that cannot be found again, and moved */
	int *canonical;	  /* of each dependency: its objects or its tree as a key has them, or -1; NULL: not asked for yet */
	bool sealed;	  /* `image` is what was built */
	bool taken;	  /* from its remote */
	int image;	  /* that, or that which is checked, reset or torn down; -1 */
	int note;	  /* of a job that is kept */
	int parts;	  /* of the key on its remote; -1 */
	void *plugin;	  /* loaded; or NULL */
	char **libraries; /* paths of it and of what it has loaded; NULL-terminated */
	int *holds;	  /* open until we end */
	struct descriptor own[WORK_DESCRIPTORS]; /* its channel first */
	struct keep *keep;
	pid_t service; /* whose end is that of the service, or 0 */
};

/* Sets the error and the sentence, unless there is one already. Returns `err`. */
int work_fail(struct work *w, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* For space_extend() and manifest_copy_tree(). */
int work_grant(void *work, uint64_t total);
/* The sentence for an error of space_extend(), in `buf`, and failing with it. */
#define WORK_SPACE_SENTENCE 128
const char *work_space_sentence(const struct work *w, int err, char *buf);
int work_fail_space(struct work *w, int err);

/* Streams what can be read from `fd` into the space and the digest. `pipe`: it may be silent while somebody works, the child `writer` (0: nobody). */
int work_fill(struct work *w, int fd, bool pipe, pid_t writer);

/* Copies a tree into an empty directory, within the budget, and writes its manifest. */
int work_copy_tree(struct work *w, const char *from, const char *to, enum manifest_modes how, struct text *manifest);

/* A finished tree below that of the job becomes that, and its manifest the image. */
int work_take_draft(struct work *w, const char *draft);
/* The space for the image, empty. 0, or what work_fail() returned. */
int work_make_space(struct work *w);

/* A program with standard output to `out`, also where a filter that does not know clone3(2) refuses it to posix_spawn(3). Its pid, or -errno. */
pid_t work_spawn(const char *path, char **argv, int out);
/* A shell command with standard output to `out` (or to the log: -1). Returns its pid. */
pid_t work_shell(struct work *w, const char *command, int out);
/* Waits for it; a sentence if it failed. */
int work_wait(struct work *w, pid_t pid, const char *what);
/* What a status of wait() says, after a subject; to be freed. */
char *work_describe_end(int status);

/*
 * Sets the variable `prefix` + `name`, in which everything that cannot stand there becomes '_', to `path`, or else to one of the
 * descriptor, which is inherited.
 */
void work_export(const char *name, const char *prefix, const char *path, int fd);
/* What every command sees of a job. */
void work_set_environment(const struct job *j);

int source_file(struct work *w);
/* Before its space is made: addresses for all of the file, whose holes take no memory. */
void source_file_reserve(struct work *w);
int source_command(struct work *w);
int source_directory(struct work *w);
int source_tree(struct work *w);
int source_plugin(struct work *w);
/* Before that: w->plugin and w->libraries. 0, or what work_fail() returned. */
int plugin_load(struct work *w);
/* When the image is sealed: the plugin's own function finds it right in another process. 0, or the failure of the job. */
int plugin_verify(struct work *w);
/* That process. */
_Noreturn void plugin_verify_here(char **argv);
int source_service(struct work *w);
int source_check(struct work *w);
