/* SPDX-License-Identifier: MIT */
/* What the helper process of a build or check is told: the job, and the images of the dependencies. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "wire/job.h"

struct image;
struct instance;
struct keeper;
struct watchset;

struct job_request {
	const struct instance *instance;
	enum job_kind kind;
	const char *command;	      /* of a check or reset */
	const struct image *image;    /* that is checked or reset, or NULL */
	const struct keeper *keeper;  /* that the helper becomes, or NULL */
	const struct watchset *watch; /* the inputs whose digest is wanted, with watch-by = content */
	struct image *const *depends; /* in the order of the definition */
	size_t n_depends;
	char *tree;		/* directory to be filled, or NULL */
	uint64_t address, most; /* where objects go; how much may be mapped (0: there is no image) */
	uint64_t limit_bytes;
};

/* Over the non-blocking channel to the helper. 0 or -errno. */
int job_request_send(const struct job_request *b, int channel);
