/* SPDX-License-Identifier: MIT */
/* fixd-remote get: looks an image up, and gives its bytes, checked, to whoever reads. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "remote/remote.h"
#include "remote/signed.h"

/* Pieces that are there before it is their turn. */
#define AHEAD (2 * HTTP_AT_ONCE)
/* One that broke in the middle is asked for again. */
#define TRIES 3
/* What a server takes that is well, and far away, to say that a namespace has nothing: it is not lost. */
#define ANSWER_TIME (250 * NSEC_PER_MSEC)

/* Of the namespace: 0 and *m; EXIT_MISS, also for one that is not believed; EXIT_REMOTE. */
static int find(struct remote *r, const char *namespace, const struct signer *shared, struct image_manifest *m)
{
	struct http_job job = { .method = HTTP_GET, .url = remote_manifest_url(r, namespace), .most = MANIFEST_MAX, .soon = true };
	const char *wrong = NULL;
	int err = http_do(r->http, &job), code = EXIT_MISS;

	if (err < 0 && err != -ENOENT && err != -EFBIG)
		code = remote_give_up(r, err == -ECANCELED ? REST_LOOKUPS : REST_ALL, http_error(r->http));
	else if (err != -ENOENT)
		wrong = err < 0 ? http_error(r->http)
				: signed_take(job.got.data ? job.got.data : "", job.got.size, r->key, namespace, r->keys, shared, m);
	if (err == 0 && !wrong && m->size > r->limit) {
		image_manifest_deinit(m);
		wrong = "it is larger than memory-max allows";
	}
	if (wrong)
		remote_say(r, xasprintf("%s is not taken: %s", job.url, wrong));
	http_job_deinit(&job);
	return err == 0 && !wrong ? 0 : code;
}

struct download {
	struct remote *r;
	const struct image_manifest *m;
	struct packer *packer;
	char *buf;
	struct text ahead[AHEAD]; /* by number; what has no bytes is not there */
	size_t asked, written;	  /* so many pieces */
	uint64_t given;
	int64_t moved_at; /* when one was given */
};

static bool get_ask_next(void *arg, struct http_job *job)
{
	struct download *d = arg;
	const struct chunk *c = &d->m->chunks[d->asked];

	if (d->asked == d->m->n_chunks || d->asked == d->written + AHEAD)
		return false;
	*job = (struct http_job){ .method = HTTP_GET, .url = remote_blob_url(d->r, c->hash), .most = c->stored, .number = d->asked++ };
	return true;
}

/* Those whose turn it is. */
static int write_ready(struct download *d)
{
	while (d->written < d->asked && d->ahead[d->written % AHEAD].size) {
		const struct chunk *c = &d->m->chunks[d->written];
		struct text *t = &d->ahead[d->written % AHEAD];
		int err = chunk_unpack(d->packer, c, t->data, t->size, d->buf);

		t->size = 0;
		if (err == 0)
			err = fd_write_all(STDOUT_FILENO, d->buf, c->size);
		if (err < 0)
			return err;
		d->written++;
		d->given += c->size;
		d->moved_at = clock_now();
		tell_progress(&d->r->tell, d->given);
	}
	return 0;
}

/* Another try may take as long as the last one. */
static bool waited_long(const struct download *d)
{
	return clock_now() - d->moved_at > remote_half_patience(d->r);
}

static int take_one(void *arg, struct http_job *job)
{
	struct download *d = arg;
	struct text *t = &d->ahead[job->number % AHEAD], empty = *t;

	if (job->broke && ++job->tries < TRIES && !waited_long(d))
		return HTTP_AGAIN;
	if (job->err < 0)
		return job->err;
	if (job->got.size == 0)
		return -EBADMSG;
	*t = job->got;
	job->got = empty;
	return write_ready(d);
}

static int download(struct remote *r, const struct image_manifest *m)
{
	struct download d = { .r = r, .m = m, .packer = packer_new(), .buf = xcalloc(1, CHUNK_MAX), .moved_at = clock_now() };
	const struct http_work work = { .next = get_ask_next, .done = take_one, .arg = &d };
	_cleanup_free_ char *size = xasprintf("%llu\n", (unsigned long long)m->size);
	int err = fd_write_all(STDOUT_FILENO, size, strlen(size));

	tell_begin(&r->tell, m->size);
	if (err == 0)
		err = http_do_all(r->http, &work);
	for (size_t k = 0; k < AHEAD; k++)
		text_deinit(&d.ahead[k]);
	packer_free(d.packer);
	free(d.buf);
	if (err == 0)
		return 0;
	/* Who reads does not want it: that is not the server's fault. */
	if (err == -EPIPE)
		return EXIT_FAILURE;
	if (err == -ECANCELED)
		return remote_give_up(r, REST_LOOKUPS, http_error(r->http));
	if (err != -ENOENT && err != -EFBIG && err != -EBADMSG)
		return remote_give_up(r, REST_ALL, http_error(r->http));
	remote_say(r, xasprintf("%s/%s: a piece of %s is not taken: it is %s", r->url, m->namespace, m->key,
				err == -ENOENT ? "not there" : "not what was signed"));
	return EXIT_WRONG;
}

int remote_get(struct remote *r)
{
	struct image_manifest m = { 0 };
	struct signer shared = { 0 };
	int64_t began = clock_now(), lost;
	int code = remote_shared(r, &shared) < 0 ? EXIT_FAILURE : EXIT_MISS;

	http_set_end(r->http, r->within_ms ? began + (int64_t)r->within_ms * NSEC_PER_MSEC : 0);
	for (char **namespace = r->read; namespace && *namespace && code == EXIT_MISS; namespace ++)
		code = find(r, *namespace, &shared, &m);
	/* It would be as slow to say of the next one that it has nothing. */
	if (code == EXIT_MISS && clock_now() - began > remote_half_patience(r))
		code = remote_give_up(r, REST_LOOKUPS, "it is slow to say that there is nothing");
	if (code == 0)
		code = download(r, &m);
	image_manifest_deinit(&m);
	lost = clock_now() - began - (int64_t)list_count(r->read) * ANSWER_TIME;
	if (code == 0)
		rest_gained(r->state, r->url);
	else if ((code == EXIT_MISS || code == EXIT_WRONG) && lost > 0 && rest_lost(r->state, r->url, lost) > r->silence_ms * NSEC_PER_MSEC)
		remote_give_up(r, REST_LOOKUPS, "it has cost more time than it may, and given nothing for that");
	return code;
}
