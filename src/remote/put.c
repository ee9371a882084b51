/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "image/memfd.h"
#include "remote/blob.h"
#include "remote/remote.h"
#include "remote/signed.h"

static void tell_sent(void *tell, uint64_t bytes)
{
	tell_progress(tell, bytes);
}

static int upload(struct remote *r, const struct image_manifest *m, int packed, const char *signed_, size_t size)
{
	_cleanup_free_ char *blob = remote_blob_url(r, m->blob), *manifest = remote_manifest_url(r, m->namespace);
	_cleanup_fd_ int text = memfd_from_bytes("fixd:manifest", signed_, size);
	char hash[HASH_HEX_SIZE];
	int err = http_head(r->http, blob);

	hash_of(signed_, size, hash);
	tell_begin(&r->tell, m->blob_size);
	http_sent(r->http, tell_sent, &r->tell);
	if (err == -ENOENT)
		err = http_put(r->http, blob, packed, m->blob_size, m->blob);
	/* Last, so that nobody finds one without its blob. */
	if (err == 0)
		err = text < 0 ? text : http_put(r->http, manifest, text, size, hash);
	return err < 0 ? remote_give_up(r, http_error(r->http)) : 0;
}

int remote_put(struct remote *r)
{
	unsigned char secret[crypto_sign_SECRETKEYBYTES];
	char text[MANIFEST_MAX];
	struct image_manifest m = { 0 };
	struct signer signer = { .secret = r->key_file ? secret : NULL };
	_cleanup_fd_ int packed = -1;
	struct stat st;
	int n;

	memcpy(m.key, r->key, sizeof m.key);
	snprintf(m.namespace, sizeof m.namespace, "%s", r->write);
	if ((r->key_file ? remote_secret(r, secret) : remote_shared(r, &signer)) < 0)
		return EXIT_FAILURE;
	if (fstat(r->image, &st) < 0 || blob_pack(r->image, (uint64_t)st.st_size, &m, &packed) < 0)
		return EXIT_FAILURE;
	n = signed_write(&m, &signer, text);
	sodium_memzero(secret, sizeof secret);
	if (n < 0) {
		fprintf(stderr, "fixd-remote: the image cannot be signed: %s\n", strerror(-n));
		return EXIT_FAILURE;
	}
	return upload(r, &m, packed, text, (size_t)n);
}
