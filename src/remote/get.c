/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/text.h"
#include "remote/blob.h"
#include "remote/remote.h"
#include "remote/signed.h"

static int take_text(void *text, const void *data, size_t size)
{
	text_add(text, data, size);
	return 0;
}

/* Of the namespace: 0 and *m; EXIT_MISS, also for one that is not believed; EXIT_REMOTE. */
static int find(struct remote *r, const char *namespace, const struct signer *shared, struct image_manifest *m)
{
	_cleanup_free_ char *url = remote_manifest_url(r, namespace);
	_cleanup_text_ struct text text = { 0 };
	const char *wrong;
	int err = http_get(r->http, url, MANIFEST_MAX, 1, take_text, &text);

	if (err == -ENOENT)
		return EXIT_MISS;
	if (err < 0 && err != -EFBIG)
		return remote_give_up(r, http_error(r->http));
	wrong = err < 0 ? http_error(r->http) : signed_take(text.data ? text.data : "", text.size, r->key, namespace, r->keys, shared, m);
	if (!wrong && m->size > r->limit)
		wrong = "it is larger than memory-max allows";
	if (!wrong)
		return 0;
	fprintf(stderr, "fixd-remote: %s is not taken: %s\n", url, wrong);
	return EXIT_MISS;
}

struct download {
	struct blob_unpacking *blob;
	struct tell *tell;
};

static int take_blob(void *arg, const void *data, size_t size)
{
	const struct download *d = arg;
	int err = blob_take(d->blob, data, size);

	tell_progress(d->tell, blob_given(d->blob));
	return err;
}

static int download(struct remote *r, const struct image_manifest *m)
{
	_cleanup_free_ char *url = remote_blob_url(r, m->blob), *size = xasprintf("%llu\n", (unsigned long long)m->size);
	struct download d = { blob_begin(m, STDOUT_FILENO), &r->tell };
	int err = fd_write_all(STDOUT_FILENO, size, strlen(size)), whole;

	tell_begin(&r->tell, m->size);
	if (err == 0)
		err = http_get(r->http, url, m->blob_size, 0, take_blob, &d);
	whole = blob_end(d.blob);
	if (err == 0 && whole == 0)
		return 0;
	if (err == -ENOENT || err == -EFBIG || err == -EBADMSG || (err == 0 && whole < 0)) {
		remote_say(r, xasprintf("%s is not taken: it is %s", url, err == -ENOENT ? "not there" : "not what was signed"));
		return EXIT_MISS;
	}
	return err == -EPIPE ? EXIT_MISS : remote_give_up(r, http_error(r->http));
}

int remote_get(struct remote *r)
{
	struct image_manifest m;
	struct signer shared = { 0 };
	int code = remote_shared(r, &shared) < 0 ? EXIT_FAILURE : EXIT_MISS;

	for (char **namespace = r->read; namespace && *namespace && code == EXIT_MISS; namespace ++)
		code = find(r, *namespace, &shared, &m);
	return code ? code : download(r, &m);
}
