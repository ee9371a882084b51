/* SPDX-License-Identifier: MIT */
#include "remote/http.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"

#define CONNECT_MS 1000L
#define EXPECT_MS 100L
#define BUFFER_SIZE (256L << 10)
#define WAIT_MS 100
#define NOTHING "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" /* the hash of no bytes */
#define HEADERS_MAX (64 << 10)
#define SLOWEST_PER_MS 128 /* bytes: less is silence */

/* Of a body that nobody wants. */
#define UNWANTED_MAX (16 << 10)

/* A transfer at hand. */
struct slot {
	CURL *curl;
	struct http_job job;
	struct http_job *of; /* that, or the caller's; NULL: it is idle */
	size_t headers, sent, unwanted;
	int err;
	struct curl_slist *headers_sent;
	char curl_error[CURL_ERROR_SIZE];
};

struct http {
	CURLM *multi;
	int64_t end;	  /* of everything; or 0 */
	long patience_ms; /* so long may nothing come any more */
	struct slot slots[HTTP_AT_ONCE];
	char error[CURL_ERROR_SIZE + 128];
	/* of S3; or NULL */
	const char *id, *secret, *token;
	char *provider;
};

struct http *http_open(unsigned patience_ms)
{
	struct http *h = xcalloc(1, sizeof *h);
	bool right = curl_global_init(CURL_GLOBAL_DEFAULT) == 0 && (h->multi = curl_multi_init());

	h->patience_ms = (long)patience_ms;
	for (size_t k = 0; right && k < HTTP_AT_ONCE; k++)
		right = (h->slots[k].curl = curl_easy_init()) != NULL;
	if (right)
		return h;
	fprintf(stderr, "fixd-remote: libcurl cannot be set up\n");
	http_close(h);
	return NULL;
}

void http_set_end(struct http *h, int64_t end)
{
	h->end = end;
}

static void slot_end(struct http *h, struct slot *s)
{
	if (s->of)
		curl_multi_remove_handle(h->multi, s->curl);
	s->of = NULL;
	curl_slist_free_all(s->headers_sent);
	s->headers_sent = NULL;
}

void http_close(struct http *h)
{
	if (!h)
		return;
	for (size_t k = 0; k < HTTP_AT_ONCE; k++) {
		slot_end(h, &h->slots[k]);
		http_job_deinit(&h->slots[k].job);
		curl_easy_cleanup(h->slots[k].curl);
	}
	curl_multi_cleanup(h->multi);
	curl_global_cleanup();
	free(h->provider);
	free(h);
}

void http_job_deinit(struct http_job *job)
{
	free(job->url);
	free(job->data);
	text_deinit(&job->got);
	*job = (struct http_job){ 0 };
}

const char *http_error(const struct http *h)
{
	return h->error;
}

void http_sign(struct http *h, const char *region, const char *id, const char *secret, const char *token)
{
	h->provider = xasprintf("aws:amz:%s:s3", region);
	h->id = id;
	h->secret = secret;
	h->token = token;
}

static long status_of(const struct slot *s)
{
	long status = 0;

	curl_easy_getinfo(s->curl, CURLINFO_RESPONSE_CODE, &status);
	return status;
}

static int stop(struct slot *s, int err)
{
	s->err = err;
	return 0; /* fewer than were given: libcurl ends it */
}

static size_t on_body(char *data, size_t one, size_t n, void *arg)
{
	struct slot *s = arg;
	struct http_job *j = s->of;

	/* That of an error is not looked at; what has no end is cut off, and the answer stands. */
	if (status_of(s) != 200 || j->method != HTTP_GET) {
		s->unwanted += n * one;
		return s->unwanted > UNWANTED_MAX ? 0 : n * one;
	}
	if (n * one > j->most - j->got.size)
		return (size_t)stop(s, -EFBIG);
	text_add(&j->got, data, n * one);
	return n * one;
}

static size_t on_header(char *data, size_t one, size_t n, void *arg)
{
	struct slot *s = arg;

	(void)data;
	s->headers += n * one;
	return s->headers > HEADERS_MAX ? (size_t)stop(s, -EFBIG) : n * one;
}

static size_t on_upload(char *data, size_t one, size_t n, void *arg)
{
	struct slot *s = arg;
	size_t left = s->of->size - s->sent, size = n * one < left ? n * one : left;

	if (size)
		memcpy(data, (const char *)s->of->body + s->sent, size);
	s->sent += size;
	return size;
}

/* What was sent over a connection that the server had closed meanwhile is sent again. */
static int on_seek(void *arg, curl_off_t offset, int origin)
{
	struct slot *s = arg;

	if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > s->of->size)
		return CURL_SEEKFUNC_CANTSEEK;
	s->sent = (size_t)offset;
	return CURL_SEEKFUNC_OK;
}

static int fail(struct http *h, int err, const char *what)
{
	snprintf(h->error, sizeof h->error, "%s", what);
	return err;
}

static bool is_broken(CURLcode code)
{
	return code == CURLE_RECV_ERROR || code == CURLE_SEND_ERROR || code == CURLE_PARTIAL_FILE || code == CURLE_GOT_NOTHING;
}

static int judge(struct http *h, const struct slot *s, CURLcode code)
{
	long status = status_of(s);
	char sentence[64];

	if (s->err == -EFBIG)
		return fail(h, s->err, "it sends more than it should");
	if (code == CURLE_ABORTED_BY_CALLBACK && h->end && clock_now() > h->end)
		return fail(h, -ECANCELED, "it has not come in its time");
	if (code != CURLE_OK && s->unwanted <= UNWANTED_MAX)
		return fail(h, code == CURLE_OPERATION_TIMEDOUT ? -ETIMEDOUT : -EIO,
			    *s->curl_error ? s->curl_error : curl_easy_strerror(code));
	if (status == 404 || status == 410)
		return fail(h, -ENOENT, "it is not there");
	if (status == 409)
		return fail(h, -ENOTDIR, "it has no directory for that");
	if (status == 200 || (s->of->method != HTTP_GET && (status == 201 || status == 204)))
		return 0;
	snprintf(sentence, sizeof sentence, "it answers with status %ld", status);
	return fail(h, -EPROTO, sentence);
}

/* The hash of the body goes along, and is part of what is signed. */
static void sign(const struct http *h, struct slot *s)
{
	const char *hash = s->of->method == HTTP_PUT ? s->of->hash : NOTHING;
	_cleanup_free_ char *content = xasprintf("x-amz-content-sha256: %s", hash),
			    *token = h->token ? xasprintf("x-amz-security-token: %s", h->token) : NULL;

	s->headers_sent = curl_slist_append(s->headers_sent, content);
	if (token)
		s->headers_sent = curl_slist_append(s->headers_sent, token);
	curl_easy_setopt(s->curl, CURLOPT_AWS_SIGV4, h->provider);
	curl_easy_setopt(s->curl, CURLOPT_USERNAME, h->id);
	curl_easy_setopt(s->curl, CURLOPT_PASSWORD, h->secret);
}

static void set_method(struct slot *s)
{
	CURL *c = s->curl;

	if (s->of->method == HTTP_HEAD || s->of->method == HTTP_MKCOL)
		curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
	if (s->of->method == HTTP_MKCOL)
		curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, "MKCOL");
	if (s->of->method != HTTP_PUT)
		return;
	curl_easy_setopt(c, CURLOPT_UPLOAD, 1L);
	curl_easy_setopt(c, CURLOPT_READFUNCTION, on_upload);
	curl_easy_setopt(c, CURLOPT_READDATA, s);
	curl_easy_setopt(c, CURLOPT_SEEKFUNCTION, on_seek);
	curl_easy_setopt(c, CURLOPT_SEEKDATA, s);
	curl_easy_setopt(c, CURLOPT_INFILESIZE_LARGE, (curl_off_t)s->of->size);
	/* A server that does not say that it wants it gets it all the same, and not only after a second. */
	curl_easy_setopt(c, CURLOPT_EXPECT_100_TIMEOUT_MS, EXPECT_MS);
}

static void slot_begin(struct http *h, struct slot *s, struct http_job *job)
{
	CURL *c = s->curl;

	curl_easy_reset(c);
	s->of = job;
	s->headers = s->sent = s->unwanted = 0;
	s->err = 0;
	*s->curl_error = '\0';
	job->got.size = 0;
	curl_easy_setopt(c, CURLOPT_PRIVATE, s);
	curl_easy_setopt(c, CURLOPT_BUFFERSIZE, BUFFER_SIZE);
	curl_easy_setopt(c, CURLOPT_URL, job->url);
	curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	/* A name server that does not answer is waited for by nobody. */
	curl_easy_setopt(c, CURLOPT_QUICK_EXIT, 1L);
	curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
	curl_easy_setopt(c, CURLOPT_USERAGENT, PACKAGE_NAME "/" PACKAGE_VERSION);
	curl_easy_setopt(c, CURLOPT_NETRC, (long)CURL_NETRC_OPTIONAL);
	curl_easy_setopt(c, CURLOPT_ERRORBUFFER, s->curl_error);
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, s);
	curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(c, CURLOPT_HEADERDATA, s);
	if (job->soon)
		curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, h->patience_ms);
	set_method(s);
	if (h->provider)
		sign(h, s);
	curl_easy_setopt(c, CURLOPT_HTTPHEADER, s->headers_sent);
	curl_multi_add_handle(h->multi, c);
}

static struct slot *first_busy(struct http *h)
{
	size_t k = 0;

	while (k < HTTP_AT_ONCE && !h->slots[k].of)
		k++;
	return k < HTTP_AT_ONCE ? &h->slots[k] : NULL;
}

/* Bytes of what is under way. */
static curl_off_t bytes_moved(const struct http *h)
{
	curl_off_t all = 0, up = 0, down = 0;

	for (size_t k = 0; k < HTTP_AT_ONCE; k++) {
		if (!h->slots[k].of)
			continue;
		curl_easy_getinfo(h->slots[k].curl, CURLINFO_SIZE_UPLOAD_T, &up);
		curl_easy_getinfo(h->slots[k].curl, CURLINFO_SIZE_DOWNLOAD_T, &down);
		all += up + down;
	}
	return all;
}

/* The next one that has ended, and how; NULL: none is left. When too little has moved for too long, the first one has ended by that. */
static struct slot *wait_for_one(struct http *h, CURLcode *code)
{
	int64_t moved_at = clock_now();
	curl_off_t moved = bytes_moved(h), now_moved;
	int running = 1, left;

	while (running) {
		const CURLMsg *m;
		char *slot;

		if (curl_multi_perform(h->multi, &running) != CURLM_OK)
			return NULL;
		/* Also of what comes all the time, an answer after the other. */
		if (h->end && clock_now() > h->end) {
			*code = CURLE_ABORTED_BY_CALLBACK;
			return first_busy(h);
		}
		m = curl_multi_info_read(h->multi, &left);
		if (m) {
			*code = m->data.result;
			curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &slot);
			return (struct slot *)slot;
		}
		if (running)
			curl_multi_poll(h->multi, NULL, 0, WAIT_MS, NULL);
		now_moved = bytes_moved(h);
		if (now_moved - moved >= h->patience_ms * SLOWEST_PER_MS) {
			moved = now_moved;
			moved_at = clock_now();
		} else if (clock_now() - moved_at > h->patience_ms * NSEC_PER_MSEC) {
			*code = CURLE_OPERATION_TIMEDOUT;
			return first_busy(h);
		}
	}
	return NULL;
}

/* How it went is in its job then. */
static void take_end(struct http *h, struct slot *s, CURLcode code)
{
	struct http_job *job = s->of;
	curl_off_t length;

	job->err = judge(h, s, code);
	job->length = curl_easy_getinfo(s->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length) == CURLE_OK ? length : -1;
	job->broke = job->err && s->err == 0 && is_broken(code);
	slot_end(h, s);
}

/* What is lost to a server that is slow to say what it has is lost once. */
static void lose_patience(struct http *h, int64_t since)
{
	long left = h->patience_ms - (long)((clock_now() - since) / NSEC_PER_MSEC);

	h->patience_ms = left > PATIENCE_MIN_MS ? left : PATIENCE_MIN_MS;
}

int http_do(struct http *h, struct http_job *job)
{
	struct slot *s = &h->slots[0];
	int64_t began = clock_now();
	CURLcode code;

	slot_begin(h, s, job);
	if (wait_for_one(h, &code) != s) {
		slot_end(h, s);
		return job->err = fail(h, -EIO, "libcurl has failed");
	}
	take_end(h, s, code);
	if (job->soon)
		lose_patience(h, began);
	return job->err;
}

static bool slot_fill(struct http *h, struct slot *s, const struct http_work *w)
{
	http_job_deinit(&s->job);
	if (!w->next(w->arg, &s->job))
		return false;
	slot_begin(h, s, &s->job);
	return true;
}

static size_t fill(struct http *h, const struct http_work *w)
{
	size_t busy = 0;
	bool more = true;
	int running;

	for (size_t k = 0; k < HTTP_AT_ONCE; k++) {
		struct slot *s = &h->slots[k];

		if (!s->of && more) {
			more = slot_fill(h, s, w);
			/* What comes next may take a while to make: those before it go on. */
			curl_multi_perform(h->multi, &running);
		}
		busy += s->of != NULL;
	}
	return busy;
}

int http_do_all(struct http *h, const struct http_work *w)
{
	int r = 0;

	while (r == 0 && fill(h, w) > 0) {
		CURLcode code;
		struct slot *s = wait_for_one(h, &code);

		if (!s) {
			r = fail(h, -EIO, "libcurl has failed");
			break;
		}
		take_end(h, s, code);
		r = w->done(w->arg, &s->job);
		if (r == HTTP_AGAIN) {
			slot_begin(h, s, &s->job);
			r = 0;
		}
	}
	for (size_t k = 0; k < HTTP_AT_ONCE; k++)
		slot_end(h, &h->slots[k]);
	return r;
}
