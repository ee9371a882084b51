/* SPDX-License-Identifier: MIT */
#include "remote/blob.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "image/memfd.h"

#define LEVEL 3
#define WINDOW_LOG_MAX 27 /* 128 MiB of memory for one frame, whatever it asks for */

struct packing {
	ZSTD_CCtx *context;
	char *in, *out;
	size_t in_size, out_size;
	crypto_hash_sha256_state hash;
	uint64_t written;
	int to;
};

static int pack_chunk(struct packing *p, size_t n, bool last)
{
	ZSTD_inBuffer in = { p->in, n, 0 };
	size_t left;

	do {
		ZSTD_outBuffer out = { p->out, p->out_size, 0 };
		int r;

		left = ZSTD_compressStream2(p->context, &out, &in, last ? ZSTD_e_end : ZSTD_e_continue);
		if (ZSTD_isError(left))
			return -EIO;
		crypto_hash_sha256_update(&p->hash, (const unsigned char *)p->out, out.pos);
		p->written += out.pos;
		r = fd_write_all(p->to, p->out, out.pos);
		if (r < 0)
			return r;
	} while (last ? left > 0 : in.pos < in.size);
	return 0;
}

static int pack_all(struct packing *p, int fd, uint64_t size)
{
	uint64_t at = 0;
	int r = 0;

	do {
		size_t n = size - at < p->in_size ? (size_t)(size - at) : p->in_size;
		ssize_t got = n ? fd_pread_all(fd, p->in, n, (off_t)at) : 0;

		if (got != (ssize_t)n)
			return got < 0 ? (int)got : -EIO;
		at += n;
		r = pack_chunk(p, n, at == size);
	} while (r == 0 && at < size);
	return r;
}

int blob_pack(int fd, uint64_t size, struct image_manifest *m, int *packed)
{
	struct packing p = { .context = ZSTD_createCCtx(),
			     .in_size = ZSTD_CStreamInSize(),
			     .out_size = ZSTD_CStreamOutSize(),
			     .to = memfd_new("fixd:blob") };
	int r = p.to < 0 ? p.to : !p.context ? -ENOMEM : 0;

	p.in = xcalloc(1, p.in_size);
	p.out = xcalloc(1, p.out_size);
	crypto_hash_sha256_init(&p.hash);
	if (r == 0 && (ZSTD_isError(ZSTD_CCtx_setParameter(p.context, ZSTD_c_compressionLevel, LEVEL)) ||
		       ZSTD_isError(ZSTD_CCtx_setPledgedSrcSize(p.context, size))))
		r = -EIO;
	if (r == 0)
		r = pack_all(&p, fd, size);
	if (r == 0) {
		hash_end(&p.hash, m->blob);
		m->blob_size = p.written;
		m->size = size;
		*packed = fd_steal(&p.to);
	} else {
		fprintf(stderr, "fixd-remote: the image cannot be packed: %s\n", strerror(-r));
	}
	fd_close(p.to);
	ZSTD_freeCCtx(p.context);
	free(p.in);
	free(p.out);
	return r;
}

struct blob_unpacking {
	const struct image_manifest *m;
	int out;
	ZSTD_DCtx *context;
	char *buf;
	size_t buf_size;
	crypto_hash_sha256_state hash;
	uint64_t taken, given;
	size_t left; /* what zstd says of the frame; 0: it is over */
};

struct blob_unpacking *blob_begin(const struct image_manifest *m, int out)
{
	struct blob_unpacking *b = xcalloc(1, sizeof *b);

	b->m = m;
	b->out = out;
	b->context = ZSTD_createDCtx();
	b->buf_size = ZSTD_DStreamOutSize();
	b->buf = xcalloc(1, b->buf_size);
	b->left = 1;
	if (b->context)
		ZSTD_DCtx_setParameter(b->context, ZSTD_d_windowLogMax, WINDOW_LOG_MAX);
	crypto_hash_sha256_init(&b->hash);
	return b;
}

/* As much of `in` as gives one buffer. *full: there may be more without any further input. */
static int unpack_some(struct blob_unpacking *b, ZSTD_inBuffer *in, bool *full)
{
	ZSTD_outBuffer out = { b->buf, b->buf_size, 0 };

	/* There is one frame, and nothing behind it. */
	if (b->left == 0)
		return -EBADMSG;
	b->left = ZSTD_decompressStream(b->context, &out, in);
	if (ZSTD_isError(b->left) || out.pos > b->m->size - b->given)
		return -EBADMSG;
	b->given += out.pos;
	*full = out.pos == out.size && b->left > 0;
	return fd_write_all(b->out, b->buf, out.pos);
}

int blob_take(void *arg, const void *data, size_t size)
{
	struct blob_unpacking *b = arg;
	ZSTD_inBuffer in = { data, size, 0 };
	bool full = false;
	int r = 0;

	crypto_hash_sha256_update(&b->hash, data, size);
	b->taken += size;
	if (!b->context || b->taken > b->m->blob_size)
		return b->context ? -EBADMSG : -ENOMEM;
	while (r == 0 && (in.pos < in.size || full))
		r = unpack_some(b, &in, &full);
	return r;
}

uint64_t blob_given(const struct blob_unpacking *b)
{
	return b->given;
}

int blob_end(struct blob_unpacking *b)
{
	char hash[HASH_HEX_SIZE];
	int r;

	hash_end(&b->hash, hash);
	r = b->left == 0 && b->given == b->m->size && b->taken == b->m->blob_size && !strcmp(hash, b->m->blob) ? 0 : -EBADMSG;
	ZSTD_freeDCtx(b->context);
	free(b->buf);
	free(b);
	return r;
}
