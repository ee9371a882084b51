/* SPDX-License-Identifier: MIT */
/* fixd-remote put: stores the pieces of an image that are new, then what is signed of it. */
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "remote/remote.h"
#include "remote/signed.h"

#define TRIES 3

/* What is on its way is packed piece by piece: memory is that of so many pieces. */
struct upload {
	struct remote *r;
	struct image_manifest *m;
	struct packer *packer;
	char *buf;
	size_t room;	    /* of m->chunks */
	uint64_t head;	    /* bytes that come before the image */
	uint64_t cut, sent; /* bytes of both */
	int err;
};

static struct chunk *add_chunk(struct upload *u)
{
	if (u->m->n_chunks == u->room) {
		u->room = u->room ? 2 * u->room : 16;
		u->m->chunks = xrealloc(u->m->chunks, u->room * sizeof *u->m->chunks);
	}
	return &u->m->chunks[u->m->n_chunks++];
}

/* What comes before the image, then the image. Bytes read, or -errno. */
static ssize_t read_at(const struct upload *u, char *buf, size_t n, uint64_t at)
{
	size_t first = at >= u->head ? 0 : u->head - at < n ? (size_t)(u->head - at) : n;
	ssize_t before = first ? fd_pread_all(u->r->head, buf, first, (off_t)at) : 0, behind;

	if (before != (ssize_t)first || first == n)
		return before;
	behind = fd_pread_all(u->r->image, buf + first, n - first, (off_t)(at + first - u->head));
	return behind < 0 ? behind : before + behind;
}

/* The next piece; job->data is it, packed. */
static int pack_next(struct upload *u, struct http_job *job)
{
	uint64_t left = u->m->size - u->cut;
	size_t n = left < CHUNK_MAX ? (size_t)left : CHUNK_MAX;
	ssize_t got = read_at(u, u->buf, n, u->cut);
	struct text packed = { 0 };
	struct chunk *c;
	int err;

	if (got != (ssize_t)n)
		return got < 0 ? (int)got : -EIO;
	job->number = u->m->n_chunks;
	c = add_chunk(u);
	err = chunk_pack(u->packer, u->buf, chunk_cut(u->buf, n), &packed, c);
	if (err < 0)
		return err;
	u->cut += c->size;
	job->data = packed.data;
	job->body = packed.data;
	job->size = packed.size;
	memcpy(job->hash, c->hash, sizeof job->hash);
	return 0;
}

/* First whether it is there already: of an image before, or of an upload that broke. */
static bool put_ask_next(void *arg, struct http_job *job)
{
	struct upload *u = arg;

	if (u->err || u->cut == u->m->size)
		return false;
	*job = (struct http_job){ .method = u->r->anew ? HTTP_PUT : HTTP_HEAD };
	u->err = pack_next(u, job);
	if (u->err)
		return false;
	job->url = remote_blob_url(u->r, job->hash);
	return true;
}

static int take_answer(void *arg, struct http_job *job)
{
	struct upload *u = arg;

	if (job->broke && ++job->tries < TRIES)
		return HTTP_AGAIN;
	/* Or half of it, from a server that was ended. */
	if (job->method == HTTP_HEAD && (job->err == -ENOENT || (job->err == 0 && job->length >= 0 && (size_t)job->length != job->size))) {
		job->method = HTTP_PUT;
		return HTTP_AGAIN;
	}
	if (job->err < 0)
		return job->err;
	u->sent += u->m->chunks[job->number].size;
	tell_progress(&u->r->tell, u->sent);
	return 0;
}

/* What is there can be had from one that takes nothing. */
static int give_up(struct remote *r, int err)
{
	return remote_give_up(r, err == -EPROTO || err == -ENOTDIR ? REST_UPLOADS : REST_ALL, http_error(r->http));
}

/* Last, so that nobody finds one without its pieces. */
static int put_manifest(struct remote *r, const struct image_manifest *m, const struct signer *signer)
{
	_cleanup_text_ struct text text = { 0 };
	struct http_job job = { .method = HTTP_PUT };
	int err = signed_write(m, signer, &text);

	if (err < 0) {
		remote_say(r, xasprintf("the image cannot be signed: %s", strerror(-err)));
		return EXIT_FAILURE;
	}
	job.url = remote_manifest_url(r, m->namespace);
	job.body = text.data;
	job.size = text.size;
	hash_of(text.data, text.size, job.hash);
	err = http_do(r->http, &job);
	if (err == -ENOTDIR) {
		remote_make_directories(r);
		err = http_do(r->http, &job);
	}
	http_job_deinit(&job);
	return err < 0 ? give_up(r, err) : 0;
}

static int upload(struct remote *r, struct image_manifest *m, uint64_t head, const struct signer *signer)
{
	struct upload u = { .r = r, .m = m, .head = head, .packer = packer_new(), .buf = xcalloc(1, CHUNK_MAX) };
	const struct http_work work = { .next = put_ask_next, .done = take_answer, .arg = &u };
	int err;

	tell_begin(&r->tell, m->size);
	err = http_do_all(r->http, &work);
	if (err == -ENOTDIR) {
		remote_make_directories(r);
		u.cut = u.sent = m->n_chunks = 0;
		err = http_do_all(r->http, &work);
	}
	packer_free(u.packer);
	free(u.buf);
	if (u.err) {
		remote_say(r, xasprintf("the image cannot be packed: %s", strerror(-u.err)));
		return EXIT_FAILURE;
	}
	return err < 0 ? give_up(r, err) : put_manifest(r, m, signer);
}

int remote_put(struct remote *r)
{
	unsigned char secret[crypto_sign_SECRETKEYBYTES];
	struct signer signer = { .secret = r->key_file ? secret : NULL };
	struct image_manifest m = { 0 };
	struct stat image, head = { 0 };
	int code;

	memcpy(m.key, r->key, sizeof m.key);
	snprintf(m.namespace, sizeof m.namespace, "%s", r->write);
	if ((r->key_file ? remote_secret(r, secret) : remote_shared(r, &signer)) < 0)
		return EXIT_FAILURE;
	if (fstat(r->image, &image) < 0 || (r->head >= 0 && fstat(r->head, &head) < 0)) {
		remote_say(r, xasprintf("the image cannot be read: %s", strerror(errno)));
		return EXIT_FAILURE;
	}
	m.size = (uint64_t)head.st_size + (uint64_t)image.st_size;
	code = upload(r, &m, (uint64_t)head.st_size, &signer);
	sodium_memzero(secret, sizeof secret);
	image_manifest_deinit(&m);
	return code;
}
