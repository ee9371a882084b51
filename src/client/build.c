/* SPDX-License-Identifier: MIT */
#include "client/build.h"
#include "client/extend.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "client/local.h"
#include "client/view.h"
#include "image/memfd.h"
#include "image/space.h"
#include "wire/offer.h"
#include "wire/socket.h"

#define ANSWER_MS 30000
#define LOCAL_MAX (UINT64_C(1) << 40)
/* Of struct fixd_teardown, as it was first. */
#define TEARDOWN_SIZE_0 (offsetof(struct fixd_teardown, flags) + sizeof(unsigned))
#define MEMFD_LABEL 128 /* the kernel takes 249 bytes */

struct fixd_build {
	struct fixd *fixd;
	int channel; /* -1: nobody is asked */
	struct space space;
	char *name, *scope_key;
	unsigned flags;
	int64_t answer_ms; /* for the daemon to answer a commit: it may have to make room first */
};

static int view_local_image(struct fixd *f, struct local_image *l, bool writable, struct fixd_view **out)
{
	int fd = fcntl(l->fd, F_DUPFD_CLOEXEC, 0), r;

	if (fd < 0)
		return fixd_fail_with(f, -errno, "no descriptor: %s", strerror(errno));
	r = view_of_local(f, fd, l->size, writable, out);
	if (r == 0)
		(*out)->local = l;
	return r;
}

int local_image_release(struct fixd_view *v, void **note, size_t *note_size)
{
	struct local_image *l = v->local;

	if (l->released)
		return 0;
	l->released = true;
	*note = l->note;
	*note_size = l->note_size;
	l->note = NULL;
	return 1;
}

int view_local(struct fixd *f, const char *name, const struct fixd_options *o, struct fixd_view **out)
{
	struct local_image *l = local_image_find(f->local_images, name, o->scope_key);

	*out = NULL;
	return l ? view_local_image(f, l, o->flags & FIXD_COW, out) : 0;
}

static void build_free(struct fixd_build *b)
{
	space_deinit(&b->space);
	fd_close(b->channel);
	fixd_unref(b->fixd);
	free(b->name);
	free(b->scope_key);
	free(b);
}

/* Takes `channel`. */
static int build_new(struct fixd *f, const char *name, const struct fixd_options *o, const struct wire_offer *offer, int channel,
		     struct fixd_build **out)
{
	struct fixd_build *b = calloc(1, sizeof *b);
	uint64_t limit = offer->limit < LOCAL_MAX ? offer->limit : LOCAL_MAX, reserved;
	char label[MEMFD_LABEL];
	int r = -ENOMEM;

	if (!b) {
		fd_close(channel);
		return fixd_fail_with(f, r, "no memory");
	}
	b->space.fd = -1;
	b->fixd = f;
	__atomic_add_fetch(&f->refs, 1, __ATOMIC_RELAXED);
	b->channel = channel;
	b->flags = o->flags;
	b->answer_ms = ANSWER_MS + (int64_t)offer->timeout_ms;
	b->name = strdup(name);
	b->scope_key = strdup(o->scope_key ? o->scope_key : "");
	snprintf(label, sizeof label, "fixd:%s", name);
	/* As much address space as there may be bytes; where that is limited, less. */
	for (reserved = (limit + SPACE_STEP - 1) / SPACE_STEP * SPACE_STEP; b->name && b->scope_key && reserved; reserved /= 2) {
		reserved = reserved / SPACE_STEP * SPACE_STEP;
		r = space_init(&b->space, label, 0, reserved, limit < reserved ? limit : reserved, (enum huge_pages)offer->huge);
		if (r != -ENOMEM)
			break;
	}
	if (r < 0) {
		fixd_fail_with(f, r, "there is no memory to build '%s' in: %s", name, strerror(-r));
		b->space = (struct space){ .fd = -1 };
		build_free(b);
		return r;
	}
	*out = b;
	return 1;
}

int fixd_build_begin(struct fixd *f, const char *name, const struct fixd_options *options, struct fixd_view **view,
		     struct fixd_build **build)
{
	struct wire_offer offer = { .limit = LOCAL_MAX };
	struct fixd_options o;
	int channel = -1, r = options_take(f, options, FIXD_COW, &o);

	*view = NULL;
	*build = NULL;
	if (r < 0)
		return r;
	if (f->local)
		r = (r = view_local(f, name, &o, view)) < 0 ? r : !*view;
	else
		r = view_attach(f, name, &o, WIRE_ATTACH_BUILD, view, &offer, &channel);
	return r == 1 ? build_new(f, name, &o, &offer, channel, build) : r;
}

void *fixd_build_memory(struct fixd_build *b, size_t size)
{
	int err = 0;

	if (size > b->space.used) {
		if (b->space.used == 0)
			space_expect(&b->space, size);
		if (!space_extend(&b->space, size - b->space.used, &err)) {
			fixd_fail_with(b->fixd, err, "'%s' cannot have %zu bytes: %s", b->name, size,
				       err == -EDQUOT ? "its memory-max, or that of the daemon, is less" : strerror(-err));
			return NULL;
		}
	}
	return b->space.base;
}

/* It was published, and this client has a lease of it that is of no use. */
static void build_give_back(struct fixd *f, const struct wire_image *im)
{
	connection_tell(f, WIRE_TYPE_detach, &(struct wire_detach){ .serial = im->serial }, sizeof(struct wire_detach));
}

/* *fd: of the image that was published; -1 when none was. */
static int build_take_answer(struct fixd_build *b, struct wire_image *im, int *fd)
{
	char message[sizeof(struct offer_answer) + OFFER_SENTENCE_MAX];
	struct pollfd p = { .fd = b->channel, .events = POLLIN };
	int64_t deadline = connection_now_ms() + b->answer_ms;
	struct offer_answer a = { 0 };
	size_t n_fds = 1;
	int64_t left;
	ssize_t n;

	*fd = -1;
	do {
		left = deadline - connection_now_ms();
		n = poll(&p, 1, left <= 0 ? 0 : left < INT_MAX ? (int)left : INT_MAX);
	} while (n < 0 && errno == EINTR && left > 0);
	if (n == 0 || (n < 0 && errno == EINTR))
		return fixd_fail_with(b->fixd, -ETIMEDOUT, "the daemon at %s has not answered within %lld s", b->fixd->path,
				      (long long)b->answer_ms / 1000);
	n = socket_receive(b->channel, message, sizeof message, fd, &n_fds, MSG_DONTWAIT);
	if (n_fds == 0)
		*fd = -1;
	if (n == -EMFILE) {
		memcpy(&a, message, sizeof a);
		build_give_back(b->fixd, &a.image);
		return fixd_fail_with(b->fixd, -EMFILE, "this process has no descriptor left for '%s'", b->name);
	}
	if (n < (ssize_t)sizeof a)
		return fixd_fail_with(b->fixd, -EAGAIN, "'%s' was not wanted any more when it was built; begin again", b->name);
	memcpy(&a, message, sizeof a);
	*im = a.image;
	if (a.sentence > (size_t)n - sizeof a || a.error > 0 || a.error < -ERRNO_MAX)
		return fixd_fail_with(b->fixd, -EPROTO, "the daemon at %s sent a malformed answer", b->fixd->path);
	if (a.error == -EAGAIN)
		return fixd_fail_with(b->fixd, -EAGAIN, "while '%s' was built %.*s; begin again", b->name, (int)a.sentence,
				      message + sizeof a);
	return a.error ? fixd_fail_with(b->fixd, a.error, "%.*s", (int)a.sentence, message + sizeof a) : 0;
}

static int send_to_daemon(struct fixd_build *b, const void *message, size_t size, const int *fds, size_t n_fds)
{
	int r = socket_send(b->channel, message, size, fds, n_fds, 0);

	if (r == -EPIPE || r == -ECONNRESET)
		return fixd_fail_with(b->fixd, -EAGAIN, "'%s' was not wanted any more when it was built; begin again", b->name);
	return r < 0 ? fixd_fail_with(b->fixd, r, "'%s' cannot be published: %s", b->name, strerror(-r)) : 0;
}

static int publish(struct fixd_build *b, size_t size, const struct fixd_teardown *t, struct fixd_view **out)
{
	struct offer_commit c = { .message = OFFER_COMMIT, .size = size };
	struct wire_image im;
	int fds[2] = { -1, -1 }, published = -1, r;
	size_t n_fds = 1;

	c.digest = digest_bytes(b->space.base, size);
	r = space_seal(&b->space, &fds[0]);
	if (r == 0 && t && t->note) {
		fds[1] = memfd_from_bytes("fixd:note", t->note, t->note_size);
		r = fds[1] < 0 ? fds[1] : 0;
		c.flags |= OFFER_COMMIT_NOTE;
		n_fds = 2;
	}
	if (t)
		c.flags |= OFFER_COMMIT_TEARDOWN | (t->flags & FIXD_KEEPER ? OFFER_COMMIT_KEEPER : 0);
	if (r < 0)
		fixd_fail_with(b->fixd, r, "'%s' cannot be sealed: %s", b->name, strerror(-r));
	else if ((r = send_to_daemon(b, &c, sizeof c, fds, n_fds)) == 0)
		r = build_take_answer(b, &im, &published);
	fd_close(fds[0]);
	fd_close(fds[1]);
	if (r == 0 && published < 0) {
		build_give_back(b->fixd, &im);
		r = fixd_fail_with(b->fixd, -EPROTO, "the daemon at %s sent a malformed answer", b->fixd->path);
	}
	if (r < 0) {
		fd_close(published);
		return r;
	}
	return view_of_published(b->fixd, b->name, &im, published, b->flags & FIXD_COW, out);
}

static int keep_local(struct fixd_build *b, size_t size, const struct fixd_teardown *t, struct fixd_view **out)
{
	struct local_image *l = calloc(1, sizeof *l);
	bool noted = t && t->note;
	int r = -ENOMEM;

	if (l && noted && (l->note = malloc(t->note_size + 1))) {
		memcpy(l->note, t->note, t->note_size);
		((char *)l->note)[t->note_size] = '\0';
		l->note_size = t->note_size;
	}
	if (l) {
		l->fd = -1;
		l->size = size;
		l->name = strdup(b->name);
		l->scope_key = strdup(b->scope_key);
	}
	if (l && l->name && l->scope_key && (!noted || l->note))
		r = space_seal(&b->space, &l->fd);
	if (r == 0)
		r = view_local_image(b->fixd, l, b->flags & FIXD_COW, out);
	else
		fixd_fail_with(b->fixd, r, "'%s' cannot be kept: %s", b->name, strerror(-r));
	if (r < 0) {
		if (l)
			local_image_free(l);
		return r;
	}
	l->next = b->fixd->local_images;
	b->fixd->local_images = l;
	return 0;
}

static int teardown_take(struct fixd_build *b, const struct fixd_teardown *given, struct fixd_teardown *t)
{
	int r = struct_extend(t, sizeof *t, TEARDOWN_SIZE_0, given);

	if (r == -EINVAL)
		return fixd_fail_with(b->fixd, r, "fixd_teardown.size is %zu: expected sizeof(struct fixd_teardown), at least %zu",
				      given->size, TEARDOWN_SIZE_0);
	if (r < 0)
		return fixd_fail_with(b->fixd, r, "fixd_teardown has fields that this libfixd (%s) does not know", PACKAGE_VERSION);
	if (t->flags & ~(unsigned)FIXD_KEEPER)
		return fixd_fail_with(b->fixd, -EINVAL, "fixd_teardown.flags has bits that are not known here: 0x%x", t->flags);
	if (t->note_size > OFFER_NOTE_MAX)
		return fixd_fail_with(b->fixd, -EINVAL, "a note has at most %llu bytes", (unsigned long long)OFFER_NOTE_MAX);
	return 0;
}

int fixd_build_commit(struct fixd_build *b, size_t size, const struct fixd_teardown *teardown, struct fixd_view **out)
{
	struct fixd_teardown copy, *t = teardown ? &copy : NULL;
	int r = t ? teardown_take(b, teardown, t) : 0;

	*out = NULL;
	if (r == 0 && size > b->space.used && !fixd_build_memory(b, size))
		r = -EDQUOT;
	if (r == 0 && size < b->space.used) {
		memset(b->space.base + size, 0, b->space.used - size);
		space_give_back(&b->space, b->space.used - size);
	}
	if (r == 0 && b->channel < 0)
		r = keep_local(b, size, t, out);
	else if (r == 0)
		r = publish(b, size, t, out);
	if (r == 0)
		(*out)->flags |= FIXD_VIEW_BUILT;
	build_free(b);
	return r;
}

int fixd_build_abort(struct fixd_build *b, const char *sentence)
{
	char message[sizeof(struct offer_abort) + OFFER_SENTENCE_MAX];
	struct offer_abort a = { .message = OFFER_ABORT, .sentence = sentence ? (uint32_t)strnlen(sentence, OFFER_SENTENCE_MAX) : 0 };
	struct wire_image im;
	int r = 0, fd = -1;

	memcpy(message, &a, sizeof a);
	if (sentence)
		memcpy(message + sizeof a, sentence, a.sentence);
	if (b->channel >= 0 && sentence && (r = send_to_daemon(b, message, sizeof a + a.sentence, NULL, 0)) == 0)
		r = build_take_answer(b, &im, &fd);
	fd_close(fd);
	build_free(b);
	return r;
}
