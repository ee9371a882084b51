/* SPDX-License-Identifier: MIT */
/* What the commands of fixd-remote share. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/alloc.h"
#include "remote/hash.h"
#include "remote/http.h"
#include "remote/rest.h"
#include "remote/tell.h"

enum remote_exit {
	EXIT_USAGE = 2,
	EXIT_MISS = 3,
	EXIT_REMOTE = 4,
	EXIT_WRONG = 5, /* a piece of it is not what was signed: it stays so until somebody puts all pieces anew */
};

struct remote {
	const char *url, *key_file, *hmac_file, *state;
	const char *region, *credentials; /* of S3 */
	struct {
		char *id, *secret, *token;
	} s3;
	char *base;			     /* the URL by which it is asked */
	char **read, **keys;		     /* namespaces; keys that are trusted */
	const char *write;		     /* namespace */
	int description, parts, head, image; /* -1: none was given */
	uint64_t limit;
	bool anew;	      /* pieces are put without looking whether they are there */
	uint64_t within_ms;   /* the image is to have come; 0: for as long as it flows */
	unsigned silence_ms;  /* so much time may bring nothing */
	unsigned patience_ms; /* what is left of that */
	char key[HASH_HEX_SIZE];
	struct http *http;
	struct tell tell;
	char *shared; /* the bytes of hmac_file */
	char *wrong;  /* what was said last */
};

/* r->http, ready to ask. 0, or an exit status. */
int remote_open(struct remote *r);
void remote_close(struct remote *r);
/* On standard error, and at the end to whoever is told. Takes the sentence. */
void remote_say(struct remote *r, char *sentence);
/* It, or only its uploads, is left alone from now on. EXIT_REMOTE. */
int remote_give_up(struct remote *r, enum rest what, const char *why);
/* Half of the time, in ns, that the server may be silent for: what took longer is not asked for once more. */
int64_t remote_half_patience(const struct remote *r);
/* To be freed. */
char *remote_manifest_url(const struct remote *r, const char *namespace);
char *remote_blob_url(const struct remote *r, const char *hash);
/* The directories that what is written goes to, on a server that answered -ENOTDIR. */
void remote_make_directories(struct remote *r);
/* Of crypto_sign_SECRETKEYBYTES, from its file. 0, or -errno and it was said. */
int remote_secret(struct remote *r, unsigned char *secret);
/* What all share, if there is a file; the same. */
struct signer;
int remote_shared(struct remote *r, struct signer *signer);

/* The commands. An exit status. */
int remote_get(struct remote *r);
int remote_put(struct remote *r);
int remote_check(struct remote *r);
