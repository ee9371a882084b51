/* SPDX-License-Identifier: MIT */
/* What fixctl remote has fixd-remote do: `remote` is the object of a status. Each is 0, or an exit code, and says why. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct fixd;

struct remote_request {
	bool json;
	char **names;	      /* NULL-terminated */
	int64_t older_than_s; /* prune: */
	bool dry;
	bool anew; /* push: whatever is there */
};

/* For so many seconds it is left alone. */
int remote_rests(const json_t *remote, long *seconds, long *uploads);
/* Prints what is right with it and what is wrong. */
int remote_check(const json_t *remote, bool json);
/* Removes what nobody uses from the directory that a server gives out. */
int remote_prune(const struct remote_request *q);
/* Makes a key pair: a file, which must not be there, and a line. */
int remote_keygen(const struct remote_request *q);
/* The image that is current; *words, to be freed, say what became of it. */
int remote_push(struct fixd *f, const json_t *remote, const char *name, bool anew, char **words);
