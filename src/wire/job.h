/* SPDX-License-Identifier: MIT */
/*
 * What the daemon and its helper process (fixd-builder) say to each other over a private socket pair:
 *
 *	daemon -> helper	the size of a job (size_t), with a memfd of its records and the images of the dependencies
 *	helper -> daemon	JOB_GRANT: may the image have this many bytes in all?
 *	daemon -> helper	job_granted
 *	helper -> daemon	JOB_RESULT + a sentence, with the sealed image when it was built
 *
 * Plugins run in the helper, so the daemon trusts nothing that comes from it and verifies the image.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/text.h"
#include "image/digest.h"
#include "image/space.h"

#define JOB_CHANNEL_FD 3 /* in the helper */

enum job_kind {
	JOB_FILE,
	JOB_DIRECTORY,
	JOB_COMMAND,
	JOB_TREE,
	JOB_PLUGIN,
	JOB_CHECK,   /* run `source`; success says the outside state still fits */
	JOB_DIGEST,  /* only the digest of the inputs */
};

enum job_strays { JOB_STRAYS_ERROR, JOB_STRAYS_WARN, JOB_STRAYS_ALLOW };

struct job_dependency {
	char *name;
	char *path; /* of a tree, or NULL */
	uint64_t address, size, root;
	uint64_t kind; /* enum wire_image_kind */
	bool direct;   /* named in `depends`, not just reached through one */
};

struct job {
	enum job_kind kind;
	char *name, *param, *scope_key;
	char *source; /* path or command */
	char *symbol; /* of a plugin */
	char *root;   /* working directory */
	char *tree;   /* empty directory to fill, or NULL */
	uint64_t address; /* 0: anywhere */
	uint64_t reserved, limit; /* reserved 0: there is no image */
	uint64_t huge;	/* enum huge_pages */
	uint64_t stray; /* enum job_strays */
	bool malloc_arena;
	char **env;    /* NAME=value */
	char **inputs; /* files whose digest is wanted with the result */
	struct job_dependency *dependencies;
	size_t n_dependencies;
};

void job_encode(const struct job *j, struct text *out);
/* 0 or -EBADMSG. The caller owns what *j points at: job_deinit(). */
int job_decode(const void *data, size_t size, struct job *j);
void job_deinit(struct job *j);

enum job_message { JOB_GRANT = 1, JOB_RESULT = 2 };

struct job_grant {
	uint32_t message;
	uint32_t reserved;
	uint64_t total;
};

struct job_granted {
	int32_t error;
};

struct job_result {
	uint32_t message;
	int32_t error; /* 0, or negative errno with a sentence */
	uint64_t size; /* of the image */
	uint64_t root; /* offset of the root object */
	uint64_t tree_bytes;
	struct digest digest, inputs;
	uint32_t sentence; /* length of the text that follows */
	uint32_t reserved;
};

#define JOB_SENTENCE_MAX 2048
