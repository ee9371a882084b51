/* SPDX-License-Identifier: MIT */
#include "remote/remote.h"

#include "base/clock.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "remote/s3.h"
#include "remote/signed.h"

#define SHARED_MIN 32
#define SHARED_MAX ((size_t)64 << 10)

int remote_open(struct remote *r)
{
	r->http = http_open(r->patience_ms);
	r->base = s3_is_meant(r->url) ? s3_http_url(r->url) : xstrdup(r->url);
	if (!r->http || (s3_is_meant(r->url) && s3_open(r) < 0))
		return EXIT_FAILURE;
	return 0;
}

void remote_close(struct remote *r)
{
	http_close(r->http);
	free(r->base);
	free(r->s3.id);
	free(r->s3.secret);
	free(r->s3.token);
}

void remote_say(struct remote *r, char *sentence)
{
	fprintf(stderr, "fixd-remote: %s\n", sentence);
	free(r->wrong);
	r->wrong = sentence;
}

/* Said once in a minute: then it is left alone. */
int remote_give_up(struct remote *r, enum rest what, const char *why)
{
	/* First: of an upload nobody may read any more what is said. */
	rest_begin(r->state, r->url, what);
	remote_say(r,
		   xasprintf("%s: %s; %s for a minute", r->url, why, what == REST_UPLOADS ? "nothing is sent there" : "it is left alone"));
	return EXIT_REMOTE;
}

int64_t remote_half_patience(const struct remote *r)
{
	return (int64_t)r->patience_ms * NSEC_PER_MSEC / 2;
}

char *remote_manifest_url(const struct remote *r, const char *namespace)
{
	return xasprintf("%s/%s/ac/%s", r->base, namespace, r->key);
}

char *remote_blob_url(const struct remote *r, const char *hash)
{
	return xasprintf("%s/cas/%s", r->base, hash);
}

/* All that lead to it. That one is there already is no error, and what cannot be made is found out by who writes into it. */
static void make_parents(struct remote *r, const char *url)
{
	const char *host = strstr(url, "://");

	for (const char *slash = host ? strchr(host + 3, '/') : NULL; slash && (slash = strchr(slash + 1, '/'));) {
		struct http_job job = { .method = HTTP_MKCOL, .url = xstrndup(url, (size_t)(slash - url)) };

		http_do(r->http, &job);
		http_job_deinit(&job);
	}
}

void remote_make_directories(struct remote *r)
{
	_cleanup_free_ char *manifest = remote_manifest_url(r, r->write), *blob = remote_blob_url(r, "");

	make_parents(r, manifest);
	make_parents(r, blob);
}

int remote_secret(struct remote *r, unsigned char *secret)
{
	_cleanup_free_ char *hex = NULL;
	size_t n, size;
	int err = file_read_all(r->key_file, 4096, &hex, &size);

	if (err < 0) {
		remote_say(r, xasprintf("the key in %s cannot be read: %s", r->key_file, strerror(-err)));
		return err;
	}
	hex[strcspn(hex, "\n")] = '\0';
	if (sodium_hex2bin(secret, crypto_sign_SECRETKEYBYTES, hex, strlen(hex), NULL, &n, NULL) == 0 && n == crypto_sign_SECRETKEYBYTES)
		return 0;
	remote_say(r, xasprintf("%s is no secret key; expected one of 'fixctl remote keygen'", r->key_file));
	return -EINVAL;
}

int remote_shared(struct remote *r, struct signer *signer)
{
	size_t size = 0;
	int err = r->hmac_file && !r->shared ? file_read_all(r->hmac_file, SHARED_MAX, &r->shared, &size) : 0;

	if (!r->hmac_file)
		return 0;
	if (r->shared)
		size = strcspn(r->shared, "\n");
	if (err < 0)
		remote_say(r, xasprintf("the secret in %s cannot be read: %s", r->hmac_file, strerror(-err)));
	else if (size < SHARED_MIN)
		remote_say(r, xasprintf("the secret in %s is too short: expected a line of %d bytes at least", r->hmac_file, SHARED_MIN));
	if (err < 0 || size < SHARED_MIN)
		return err < 0 ? err : -EINVAL;
	signer->shared = r->shared;
	signer->shared_size = size;
	return 0;
}
