/* SPDX-License-Identifier: MIT */
/* Sessions and runs: join, define, and giving images up. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/process.h"
#include "client/build.h"
#include "client/connection.h"
#include "client/view.h"
#include "fixd.h"
#include "image/memfd.h"

#define ANSWER_MS 10000

int fixd_join(struct fixd *f, const char *root, const char *run, unsigned flags)
{
	char body[WIRE_MESSAGE_MAX], real[PATH_MAX];
	struct wire_join q = { .flags = flags & FIXD_OBSERVER ? WIRE_JOIN_OBSERVER : 0 };
	struct reply reply;
	struct stat st;
	int r;

	if (flags & ~(unsigned)FIXD_OBSERVER)
		return fixd_fail_with(f, -EINVAL, "fixd_join() was given flags that are not known here: 0x%x",
				      flags & ~(unsigned)FIXD_OBSERVER);
	if (!realpath(root, real) || stat(real, &st) < 0)
		return fixd_fail_with(f, -errno, "'%s' cannot be the root of a session: %s", root, strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return fixd_fail_with(f, -ENOTDIR, "'%s' cannot be the root of a session: it is no directory", root);
	if (run && strlen(run) > WIRE_RUN_MAX)
		return fixd_fail_with(f, -EINVAL, "the name of a run has at most %d bytes", WIRE_RUN_MAX);
	if (f->local)
		return 0;
	q.root = (uint16_t)strlen(real);
	q.run = (uint16_t)(run ? strlen(run) : 0);
	memcpy(body, &q, sizeof q);
	memcpy(body + sizeof q, real, q.root);
	if (run)
		memcpy(body + sizeof q + q.root, run, q.run);
	r = connection_establish(f, WIRE_TYPE_join, "", body, sizeof q + q.root + q.run, &reply);
	if (r == 0)
		reply_close(&reply);
	return r;
}

int fixd_define(struct fixd *f, const char *name, const char *const *settings)
{
	char body[WIRE_MESSAGE_MAX];
	struct wire_define q = { .name = (uint16_t)strnlen(name, WIRE_NAME_MAX + 1) };
	size_t n = sizeof q + q.name;
	struct reply reply;
	int r;

	if (f->local)
		return 0;
	if (q.name == 0 || q.name > WIRE_NAME_MAX)
		return fixd_fail_with(f, -EINVAL, "the name of a fixture has 1 to %d bytes", WIRE_NAME_MAX);
	memcpy(body + sizeof q, name, q.name);
	for (size_t i = 0; settings && settings[i]; i++) {
		size_t size = strlen(settings[i]) + 1;

		if (size > WIRE_SETTINGS_MAX || q.settings + size > WIRE_SETTINGS_MAX)
			return fixd_fail_with(f, -EINVAL, "the settings of '%s' have more than %d bytes", name, WIRE_SETTINGS_MAX);
		memcpy(body + n + q.settings, settings[i], size);
		q.settings = (uint16_t)(q.settings + size);
	}
	memcpy(body, &q, sizeof q);
	r = connection_establish(f, WIRE_TYPE_define, name, body, n + q.settings, &reply);
	if (r == 0)
		reply_close(&reply);
	return r;
}

void fixd_run_done(struct fixd *f)
{
	f->closing = true;
	if (!f->local)
		connection_tell(f, WIRE_TYPE_closing, &(struct wire_closing){ 0 }, sizeof(struct wire_closing));
}

/* A note is sealed, so its size stays. */
static int read_note(struct fixd *f, struct reply *r, size_t size, void **note, size_t *note_size)
{
	uint64_t real;
	int err = r->n_fds == 1 ? memfd_verify(r->fds[0], &real) : -EPROTO;

	*note = NULL;
	*note_size = 0;
	if (err == 0 && real != size)
		err = -EPROTO;
	if (err == 0) {
		*note = malloc(size + 1);
		if (!*note || fd_pread_all(r->fds[0], *note, size, 0) != (ssize_t)size)
			err = -ENOMEM;
	}
	reply_close(r);
	if (err < 0) {
		free(*note);
		*note = NULL;
		return fixd_fail_with(f, err, "the note of the image cannot be read: %s", strerror(-err));
	}
	((char *)*note)[size] = '\0';
	*note_size = size;
	return 0;
}

int fixd_release(struct fixd_view *v, int timeout_ms, void **note, size_t *note_size)
{
	int ms = timeout_ms == FIXD_TIMEOUT_NONE ? TIMEOUT_MAX_MS : timeout_ms;
	struct wire_release q = { .serial = v->serial, .flags = ms ? WIRE_RELEASE_WAIT : 0, .timeout_ms = (uint32_t)ms };
	struct wire_released released;
	struct fixd *f = v->fixd;
	struct reply reply;
	int r;

	*note = NULL;
	*note_size = 0;
	if (ms < 0)
		return fixd_fail_with(f, -EINVAL, "fixd_release() was given %d ms: expected 0, a number of ms or FIXD_TIMEOUT_NONE",
				      timeout_ms);
	if (f->local)
		return local_image_release(v, note, note_size);
	if (v->attached_by != process_id() || v->epoch != f->epoch || f->fd < 0)
		return fixd_fail_with(f, -ENOTCONN, "the connection that the view came from is gone");
	do
		r = connection_request_once(f, WIRE_TYPE_release, &q, sizeof q, ms ? ms : ANSWER_MS, &reply);
	while (r == -ETIMEDOUT && timeout_ms == FIXD_TIMEOUT_NONE);
	if (r < 0)
		return r;
	if (reply.size < sizeof released) {
		reply_close(&reply);
		return fixd_fail_with(f, -EPROTO, "the daemon at %s sent a malformed answer", f->path);
	}
	memcpy(&released, reply.body, sizeof released);
	if (released.last && reply.n_fds)
		r = read_note(f, &reply, released.note, note, note_size);
	else
		reply_close(&reply);
	return r < 0 ? r : released.last != 0;
}

int fixd_claim_teardown(struct fixd *f, const char *pattern, char **title, void **note, size_t *note_size)
{
	char body[sizeof(struct wire_adopt) + WIRE_NAME_MAX + WIRE_KEY_MAX];
	struct wire_adopt q = { .pattern = (uint16_t)(pattern ? strnlen(pattern, sizeof body) : 0) };
	struct wire_orphan orphan;
	struct reply reply;
	int r;

	*title = NULL;
	*note = NULL;
	*note_size = 0;
	if (f->local)
		return 0;
	if (q.pattern > sizeof body - sizeof q)
		return fixd_fail_with(f, -EINVAL, "a pattern has at most %zu bytes", sizeof body - sizeof q);
	memcpy(body, &q, sizeof q);
	if (q.pattern)
		memcpy(body + sizeof q, pattern, q.pattern);
	r = connection_request_once(f, WIRE_TYPE_adopt, body, sizeof q + q.pattern, ANSWER_MS, &reply);
	if (r < 0)
		return r;
	if (reply.size >= sizeof orphan)
		memcpy(&orphan, reply.body, sizeof orphan);
	if (reply.size < sizeof orphan || reply.size != sizeof orphan + orphan.title) {
		reply_close(&reply);
		return fixd_fail_with(f, -EPROTO, "the daemon at %s sent a malformed answer", f->path);
	}
	if (orphan.title == 0) {
		reply_close(&reply);
		return 0;
	}
	*title = strndup(reply.body + sizeof orphan, orphan.title);
	if (!*title) {
		reply_close(&reply);
		return fixd_fail_with(f, -ENOMEM, "no memory");
	}
	r = read_note(f, &reply, orphan.note, note, note_size);
	if (r < 0) {
		free(*title);
		*title = NULL;
		return r;
	}
	return 1;
}
