/* SPDX-License-Identifier: MIT */
/* fixd-remote check: asks a server for all that will be needed of it. */
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "remote/remote.h"
#include "remote/rest.h"
#include "remote/signed.h"

#define NO_KEY "0000000000000000000000000000000000000000000000000000000000000000"
#define PROBE "fixd-remote check\n"

static int tell_check(const char *name, bool ok, const char *sentence)
{
	printf("%s\t%s\t%s\n", name, ok ? "ok" : "wrong", sentence);
	return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int check_answer(struct remote *r)
{
	_cleanup_free_ char *sentence = NULL;
	struct http_job job = { .method = HTTP_GET, .most = MANIFEST_MAX, .soon = true };
	int64_t began = clock_now();
	int err;

	memcpy(r->key, NO_KEY, sizeof r->key);
	job.url = remote_manifest_url(r, r->read ? r->read[0] : r->write);
	err = http_do(r->http, &job);
	http_job_deinit(&job);
	if (err < 0 && err != -ENOENT)
		return tell_check("server", false, http_error(r->http));
	sentence = xasprintf("it answers in %.1f ms", (double)(clock_now() - began) / NSEC_PER_MSEC);
	return tell_check("server", true, sentence);
}

static int check_shared(struct remote *r)
{
	struct signer signer = { 0 };
	bool ok = remote_shared(r, &signer) == 0;

	return tell_check("hmac-file", ok, ok ? "it has a secret, which those who read must have, too" : r->wrong);
}

/* Who signs with it must be believed by those who read, and be it here. */
static int check_key(struct remote *r)
{
	unsigned char secret[crypto_sign_SECRETKEYBYTES], public[crypto_sign_PUBLICKEYBYTES];
	char hex[2 * sizeof public + 1];
	_cleanup_free_ char *sentence = NULL;
	bool trusted;

	if (!r->key_file)
		return check_shared(r);
	if (remote_secret(r, secret) < 0)
		return tell_check("key-file", false, r->wrong);
	crypto_sign_ed25519_sk_to_pk(public, secret);
	sodium_memzero(secret, sizeof secret);
	sodium_bin2hex(hex, sizeof hex, public, sizeof public);
	trusted = r->keys && signed_is_trusted(hex, r->write, r->keys);
	sentence =
		xasprintf("its public key is %s%s", hex,
			  trusted ? "" : ", which public-keys does not trust for this namespace: nobody takes what is signed with it here");
	return tell_check("key-file", trusted || !r->keys, sentence);
}

/* Always the same bytes: it leaves them on the server, once, however often it is asked. Takes the URL. */
static int check_place(struct remote *r, char *url)
{
	struct http_job put = { .method = HTTP_PUT, .url = url, .body = PROBE, .size = strlen(PROBE) },
			get = { .method = HTTP_GET, .url = xstrdup(url), .most = strlen(PROBE), .soon = true };
	int err;
	bool same;

	hash_of(PROBE, strlen(PROBE), put.hash);
	err = http_do(r->http, &put);
	if (err == -ENOTDIR) {
		remote_make_directories(r);
		err = http_do(r->http, &put);
	}
	if (err == 0)
		err = http_do(r->http, &get);
	same = err == 0 && get.got.size == strlen(PROBE) && memcmp(get.got.data, PROBE, get.got.size) == 0;
	http_job_deinit(&put);
	http_job_deinit(&get);
	if (same)
		return 0;
	return tell_check("write", false, err < 0 ? http_error(r->http) : "what it gives back is not what it was given");
}

/* A piece, and what is signed of one, lie in different places, which a server may keep apart. */
static int check_store(struct remote *r)
{
	char hash[HASH_HEX_SIZE];

	hash_of(PROBE, strlen(PROBE), hash);
	memcpy(r->key, NO_KEY, sizeof r->key);
	if (check_place(r, remote_blob_url(r, hash)) || check_place(r, remote_manifest_url(r, r->write)))
		return EXIT_FAILURE;
	return tell_check("write", true, "it keeps what it is given");
}

int remote_check(struct remote *r)
{
	int code;

	if (remote_open(r) != 0)
		code = tell_check("server", false, r->wrong ? r->wrong : "libcurl cannot be set up");
	else
		code = check_answer(r);
	if (r->write && code == EXIT_SUCCESS) {
		code |= check_key(r);
		code |= check_store(r);
	}
	remote_close(r);
	/* It was repaired. */
	if (code == EXIT_SUCCESS)
		rest_end(r->state, r->url);
	return code;
}
