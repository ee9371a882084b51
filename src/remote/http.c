/* SPDX-License-Identifier: MIT */
#include "remote/http.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"

#define CONNECT_MS 1000L
#define NOTHING "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" /* the hash of no bytes */
#define HEADERS_MAX (64 << 10)
#define SLOWEST 1024L /* bytes in a second: less is silence */

struct http {
	CURL *curl;
	unsigned seconds;
	char error[CURL_ERROR_SIZE + 128];
	char curl_error[CURL_ERROR_SIZE];
	/* of the transfer at hand */
	http_sink sink;
	void *arg;
	uint64_t most, got;
	size_t headers;
	int err;
	int fd;
	off_t sent;
	void (*on_sent)(void *arg, uint64_t bytes);
	void *on_sent_arg;
	/* of S3; or NULL */
	const char *id, *secret, *token;
	char *provider;
	struct curl_slist *signed_headers;
};

struct http *http_open(unsigned seconds)
{
	struct http *h = xcalloc(1, sizeof *h);

	h->seconds = seconds;
	if (curl_global_init(CURL_GLOBAL_DEFAULT) == 0 && (h->curl = curl_easy_init()))
		return h;
	fprintf(stderr, "fixd-remote: libcurl cannot be set up\n");
	free(h);
	return NULL;
}

void http_close(struct http *h)
{
	if (!h)
		return;
	curl_easy_cleanup(h->curl);
	curl_slist_free_all(h->signed_headers);
	free(h->provider);
	curl_global_cleanup();
	free(h);
}

const char *http_error(const struct http *h)
{
	return h->error;
}

static long status_of(const struct http *h)
{
	long status = 0;

	curl_easy_getinfo(h->curl, CURLINFO_RESPONSE_CODE, &status);
	return status;
}

static int stop(struct http *h, int err)
{
	h->err = err;
	return 0; /* fewer than were given: libcurl ends it */
}

static size_t on_body(char *data, size_t one, size_t n, void *arg)
{
	struct http *h = arg;
	int r;

	/* That of an error is not looked at. */
	if (status_of(h) != 200)
		return n * one;
	if (n * one > h->most - h->got)
		return (size_t)stop(h, -EFBIG);
	h->got += n * one;
	r = h->sink ? h->sink(h->arg, data, n * one) : 0;
	return r < 0 ? (size_t)stop(h, r) : n * one;
}

static size_t on_header(char *data, size_t one, size_t n, void *arg)
{
	struct http *h = arg;

	(void)data;
	h->headers += n * one;
	return h->headers > HEADERS_MAX ? (size_t)stop(h, -EFBIG) : n * one;
}

static size_t on_upload(char *data, size_t one, size_t n, void *arg)
{
	struct http *h = arg;
	ssize_t got = fd_pread_all(h->fd, data, n * one, h->sent);

	if (got < 0)
		return CURL_READFUNC_ABORT;
	h->sent += got;
	if (h->on_sent)
		h->on_sent(h->on_sent_arg, (uint64_t)h->sent);
	return (size_t)got;
}

static int fail(struct http *h, int err, const char *what)
{
	snprintf(h->error, sizeof h->error, "%s", what);
	return err;
}

static int judge(struct http *h, CURLcode code)
{
	long status = status_of(h);
	char sentence[64];

	if (h->err == -EFBIG)
		return fail(h, h->err, "it sends more than it should");
	if (h->err < 0)
		return h->err;
	if (code != CURLE_OK)
		return fail(h, code == CURLE_OPERATION_TIMEDOUT ? -ETIMEDOUT : -EIO,
			    *h->curl_error ? h->curl_error : curl_easy_strerror(code));
	if (status == 404 || status == 410)
		return fail(h, -ENOENT, "it is not there");
	if (status == 200 || status == 201 || status == 204)
		return 0;
	snprintf(sentence, sizeof sentence, "it answers with status %ld", status);
	return fail(h, -EPROTO, sentence);
}

void http_sign(struct http *h, const char *region, const char *id, const char *secret, const char *token)
{
	h->provider = xasprintf("aws:amz:%s:s3", region);
	h->id = id;
	h->secret = secret;
	h->token = token;
}

/* The hash of the body goes along, and is part of what is signed. */
static void sign(struct http *h, const char *hash)
{
	_cleanup_free_ char *content = xasprintf("x-amz-content-sha256: %s", hash),
			    *token = h->token ? xasprintf("x-amz-security-token: %s", h->token) : NULL;

	if (!h->provider)
		return;
	curl_slist_free_all(h->signed_headers);
	h->signed_headers = curl_slist_append(NULL, content);
	if (token)
		h->signed_headers = curl_slist_append(h->signed_headers, token);
	curl_easy_setopt(h->curl, CURLOPT_AWS_SIGV4, h->provider);
	curl_easy_setopt(h->curl, CURLOPT_USERNAME, h->id);
	curl_easy_setopt(h->curl, CURLOPT_PASSWORD, h->secret);
	curl_easy_setopt(h->curl, CURLOPT_HTTPHEADER, h->signed_headers);
}

static void prepare(struct http *h, const char *url)
{
	CURL *c = h->curl;

	curl_easy_reset(c);
	h->err = 0;
	h->got = h->headers = 0;
	h->sink = NULL;
	h->most = 0;
	h->sent = 0;
	*h->curl_error = '\0';
	curl_easy_setopt(c, CURLOPT_URL, url);
	curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
	curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, SLOWEST);
	curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, (long)h->seconds);
	curl_easy_setopt(c, CURLOPT_SERVER_RESPONSE_TIMEOUT, (long)h->seconds);
	curl_easy_setopt(c, CURLOPT_USERAGENT, PACKAGE_NAME "/" PACKAGE_VERSION);
	curl_easy_setopt(c, CURLOPT_NETRC, (long)CURL_NETRC_OPTIONAL);
	curl_easy_setopt(c, CURLOPT_ERRORBUFFER, h->curl_error);
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, h);
	curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(c, CURLOPT_HEADERDATA, h);
}

int http_get(struct http *h, const char *url, uint64_t most, int soon, http_sink sink, void *arg)
{
	int r;

	prepare(h, url);
	sign(h, NOTHING);
	h->sink = sink;
	h->arg = arg;
	h->most = most;
	if (soon)
		curl_easy_setopt(h->curl, CURLOPT_TIMEOUT_MS, (long)h->seconds * 1000);
	r = judge(h, curl_easy_perform(h->curl));
	return r == 0 && status_of(h) != 200 ? fail(h, -EPROTO, "it answers without a body") : r;
}

int http_head(struct http *h, const char *url)
{
	prepare(h, url);
	sign(h, NOTHING);
	curl_easy_setopt(h->curl, CURLOPT_NOBODY, 1L);
	curl_easy_setopt(h->curl, CURLOPT_TIMEOUT_MS, (long)h->seconds * 1000);
	return judge(h, curl_easy_perform(h->curl));
}

void http_sent(struct http *h, void (*fn)(void *arg, uint64_t bytes), void *arg)
{
	h->on_sent = fn;
	h->on_sent_arg = arg;
}

int http_put(struct http *h, const char *url, int fd, uint64_t size, const char *hash)
{
	prepare(h, url);
	sign(h, hash);
	h->fd = fd;
	curl_easy_setopt(h->curl, CURLOPT_UPLOAD, 1L);
	curl_easy_setopt(h->curl, CURLOPT_READFUNCTION, on_upload);
	curl_easy_setopt(h->curl, CURLOPT_READDATA, h);
	curl_easy_setopt(h->curl, CURLOPT_INFILESIZE_LARGE, (curl_off_t)size);
	return judge(h, curl_easy_perform(h->curl));
}
