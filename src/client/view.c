/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/process.h"
#include "client/blame.h"
#include "client/build.h"
#include "client/extend.h"
#include "client/object.h"
#include "client/view.h"
#include "wire/fork.h"

/* Of struct fixd_options, as it was first. */
#define OPTIONS_SIZE_0 (offsetof(struct fixd_options, n_depends) + sizeof(size_t))

/* What a view without a slot on the board looks at: never current. */
static const uint64_t no_slot;
/* And one that no daemon can make stale: always current. */
static const uint64_t local_slot = 1;

extern inline bool fixd_view_current(const struct fixd_view *v);

/* The reply of an attach, checked. */
struct attached {
	struct wire_attached head;
	struct wire_image images[WIRE_FDS_MAX];
	const char *path;
};

/* Of a tree, or none. */
static bool is_path(const char *path, size_t n)
{
	return n == 0 || (*path == '/' && !memchr(path, 0, n));
}

static int parse_attached(struct fixd *f, const struct reply *r, struct attached *out)
{
	size_t images;

	if (r->size >= sizeof out->head) {
		memcpy(&out->head, r->body, sizeof out->head);
		images = out->head.n_images * sizeof *out->images;
		if (out->head.n_images >= 1 && out->head.n_images <= WIRE_FDS_MAX && out->head.n_images == r->n_fds &&
		    r->size == sizeof out->head + images + out->head.path && is_path(r->body + sizeof out->head + images, out->head.path)) {
			memcpy(out->images, r->body + sizeof out->head, images);
			out->path = r->body + sizeof out->head + images;
			return 0;
		}
	}
	return fixd_fail_with(f, -EPROTO, "the daemon at %s sent a malformed answer", f->path);
}

static int map_failed(struct fixd *f, int err, const struct wire_image *im, const char *name)
{
	if (err == -EBUSY)
		return fixd_fail_with(f, err,
				      "the objects of '%s', or what they point into, are mapped in this process already, in the "
				      "other mode (read-only or copy-on-write), or where this view is to be alone; detach that view first",
				      name);
	if (err == -EEXIST)
		return fixd_fail_with(f, err,
				      "the objects of '%s' belong at 0x%llx, where this process has something else, and one of them has "
				      "relocate = no, or a pointer in a packed struct; address-base in fixd.ini moves them",
				      name, (unsigned long long)im->address);
	if (err == -EPROTO)
		return fixd_fail_with(f, err, "the daemon at %s sent an image of '%s' that is not what it says of it", f->path, name);
	return fixd_fail_with(f, err, "'%s' cannot be mapped: %s", name, strerror(-err));
}

static enum mapping_need need_of(const struct wire_image *im, size_t index, unsigned flags)
{
	if (index == 0 && im->kind != WIRE_IMAGE_OBJECTS)
		return MAPPING_ANYWHERE;
	return flags & FIXD_COW && flags & FIXD_ALONE ? MAPPING_ALONE : MAPPING_FIXED;
}

/* Unless the program has closed it, and has something else under its number. */
static void release_tree(struct fixd_view *v)
{
	struct stat st;

	if (v->tree >= 0 && fstat(v->tree, &st) == 0 && st.st_ino == v->tree_inode && st.st_dev == v->tree_device)
		fd_close(v->tree);
}

/* Of which it is watched who changes them: at the end of the process the daemon hears of those that are left. */
static struct fixd_view *watched;
static pthread_mutex_t watched_lock = PTHREAD_MUTEX_INITIALIZER;

static void remember(struct fixd_view *v)
{
	if (!v->mappings[0]->blame)
		return;
	pthread_mutex_lock(&watched_lock);
	v->is_watched = true;
	v->next_watched = watched;
	watched = v;
	pthread_mutex_unlock(&watched_lock);
}

static void view_forget(struct fixd_view *v)
{
	struct fixd_view **at = &watched;

	if (!v->is_watched)
		return;
	pthread_mutex_lock(&watched_lock);
	while (*at != v)
		at = &(*at)->next_watched;
	*at = v->next_watched;
	pthread_mutex_unlock(&watched_lock);
}

static void view_free(struct fixd_view *v)
{
	view_forget(v);
	for (size_t i = 0; i < v->n_mappings; i++) {
		if (v->mappings[i])
			mapping_unref(v->mappings[i]);
	}
	board_map_unref(v->board);
	fixd_unref(v->fixd);
	release_tree(v);
	free(v->path);
	free(v);
}

static struct fixd_view *view_new(struct fixd *f, const struct attached *a)
{
	const struct wire_image *im = &a->images[0];
	struct fixd_view *v = calloc(1, sizeof *v + a->head.n_images * sizeof *v->mappings);

	if (!v)
		return NULL;
	v->path = a->head.path ? strndup(a->path, a->head.path) : NULL;
	if (a->head.path && !v->path) {
		free(v);
		return NULL;
	}
	v->tree = -1;
	v->fixd = f;
	__atomic_add_fetch(&f->refs, 1, __ATOMIC_RELAXED);
	v->epoch = f->epoch;
	v->attached_by = f->owner;
	v->board = f->board;
	if (f->local) {
		v->head.board = &local_slot;
		v->head.value = 1;
	} else {
		__atomic_add_fetch(&f->board->refs, 1, __ATOMIC_RELAXED);
		v->head.board = im->board_slot < f->board->slots ? &f->board->words[im->board_slot] : &no_slot;
		v->head.value = im->board_slot < f->board->slots ? im->board_value : 1;
	}
	v->serial = im->serial;
	v->root = im->root;
	v->generation = im->generation;
	v->flags = (a->head.flags & WIRE_ATTACHED_BUILT ? FIXD_VIEW_BUILT : 0) |
		   (!f->local && !(a->head.flags & WIRE_ATTACHED_OF_RUN) ? FIXD_VIEW_REUSED : 0);
	return v;
}

static int hold_tree(struct fixd_view *v)
{
	_cleanup_fd_ int fd = open(v->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || flock(fd, LOCK_SH | LOCK_NB) < 0 || fstat(fd, &st) < 0)
		return -errno;
	v->tree_device = st.st_dev;
	v->tree_inode = st.st_ino;
	v->tree = fd_steal(&fd);
	return 0;
}

/* The one with the lowest serial behind `last`: what is pointed into is older than what points into it. */
static size_t next_oldest(const struct attached *a, uint64_t last)
{
	size_t best = a->head.n_images;

	for (size_t i = 0; i < a->head.n_images; i++) {
		if (a->images[i].serial > last && (best == a->head.n_images || a->images[i].serial < a->images[best].serial))
			best = i;
	}
	return best;
}

/* So long it is waited for a copy that is shared; then this process makes its own. */
#define COPY_MS 5000

static int ask_for_copy(void *arg, uint64_t serial, const struct move *moves, size_t n)
{
	struct {
		struct wire_relocate head;
		struct wire_move moves[WIRE_FDS_MAX];
	} body = { .head = { .serial = serial, .moves = (uint16_t)n } };
	struct reply reply;
	int r;

	for (size_t i = 0; i < n; i++)
		body.moves[i] = (struct wire_move){ moves[i].from, moves[i].to };
	r = connection_request(arg, WIRE_TYPE_relocate, &body, sizeof body.head + n * sizeof *body.moves, COPY_MS, &reply);
	if (r < 0)
		return r;
	r = reply.n_fds == 1 ? fd_steal(&reply.fds[0]) : -EPROTO;
	reply_close(&reply);
	return r;
}

/* On error, *failed is the image with which it came. */
static int map_images(struct fixd_view *v, const struct attached *a, struct reply *reply, unsigned flags, size_t *failed)
{
	struct mapping_moves moves = { .shared_copy = v->fixd->local ? NULL : ask_for_copy, .arg = v->fixd };
	uint64_t last = 0;

	v->n_mappings = a->head.n_images;
	for (size_t n = 0; n < a->head.n_images; n++) {
		size_t i = next_oldest(a, last);
		int r;

		*failed = i < a->head.n_images ? i : 0;
		if (i == a->head.n_images)
			return -EPROTO; /* two of one serial, or one without */
		r = mapping_get(&a->images[i], v->fixd->daemon_pid, fd_steal(&reply->fds[i]), flags & FIXD_COW,
				need_of(&a->images[i], i, flags), &moves, &v->mappings[i]);
		if (r < 0)
			return r;
		mapping_add_move(v->mappings[i], &moves);
		last = a->images[i].serial;
	}
	return 0;
}

static int make_view(struct fixd *f, const char *name, const struct attached *a, struct reply *reply, unsigned flags,
		     struct fixd_view **out)
{
	struct fixd_view *v = view_new(f, a);
	size_t failed;
	int r = 0;

	if (!v)
		return fixd_fail_with(f, -ENOMEM, "no memory");
	v->flags |= flags & FIXD_COW ? FIXD_VIEW_COW : 0;
	if (v->path && (r = hold_tree(v)) < 0) {
		fixd_fail_with(f, r, "the tree of '%s' at %s cannot be opened: %s", name, v->path, strerror(-r));
		view_free(v);
		return r;
	}
	r = map_images(v, a, reply, flags, &failed);
	if (r < 0) {
		view_free(v);
		return map_failed(f, r, &a->images[failed], name);
	}
	for (size_t i = 0; i < v->n_mappings; i++)
		blame_watch(v->mappings[i], name, i > 0);
	remember(v);
	*out = v;
	return 0;
}

static int timeout_of(const struct fixd_options *o)
{
	return o->timeout_ms == FIXD_TIMEOUT_NONE ? TIMEOUT_MAX_MS : o->timeout_ms ? o->timeout_ms : connection_timeout();
}

/* A template that is being prepared would wait for itself. */
static bool is_prepared_here(const char *name)
{
	const char *template = getenv(FORK_TEMPLATE), *own = getenv("FIXD_FIXTURE");
	size_t n = own ? strlen(own) : 0;

	return template && *template && n && !strncmp(name, own, n) && (!name[n] || name[n] == '[');
}

static int request_attach(struct fixd *f, const char *name, const struct fixd_options *o, uint32_t flags, struct reply *reply)
{
	int timeout = timeout_of(o), r;
	uint64_t depends[WIRE_DEPENDS_MAX];
	size_t n = flags & WIRE_ATTACH_BUILD ? o->n_depends : 0;

	if (is_prepared_here(name))
		return fixd_fail_with(f, -EDEADLK, "'%s' is what this process prepares: it cannot attach itself", name);
	if (n > WIRE_DEPENDS_MAX)
		return fixd_fail_with(f, -EINVAL, "a fixture is built from at most %d others", WIRE_DEPENDS_MAX);
	for (size_t i = 0; i < n; i++)
		depends[i] = o->depends[i]->serial;
	do {
		char body[WIRE_MESSAGE_MAX];
		ssize_t size = connection_attach_body(f, body, name, o->scope_key, flags, timeout, depends, n);

		if (size < 0)
			return (int)size;
		r = connection_request(f, WIRE_TYPE_attach, body, (size_t)size, timeout, reply);
	} while ((r == -ENOKEY && variables_learn(&f->variables, name, f->error)) ||
		 (r == -ETIMEDOUT && o->timeout_ms == FIXD_TIMEOUT_NONE));
	return r;
}

static int ask_attach(struct fixd *f, const char *name, const struct fixd_options *o)
{
	char body[WIRE_MESSAGE_MAX];
	ssize_t size = connection_attach_body(f, body, name, o->scope_key, 0, timeout_of(o), NULL, 0);

	return size < 0 ? (int)size : connection_ask(f, WIRE_TYPE_attach, name, o->scope_key, body, (size_t)size);
}

/* FIXD_NOWAIT: asks, or looks for the answer to what was asked before. */
static int look_for_attach(struct fixd *f, const char *name, const struct fixd_options *o, struct reply *reply)
{
	const char *other = connection_question(f);
	bool asked = connection_has_asked(f, name, o->scope_key);
	int r;

	if (other && !asked)
		return fixd_fail_with(f, -EBUSY, "'%s' is asked for, and its answer has not come yet", other);
	r = asked ? 0 : ask_attach(f, name, o);
	while (r == 0) {
		r = connection_look(f, reply);
		if (r == 0)
			return 0;
		if (r == -EAGAIN)
			return fixd_fail_with(f, r, "'%s' is not ready yet", name);
		if ((r == -ENOKEY && variables_learn(&f->variables, name, f->error)) ||
		    (r == -ETIMEDOUT && o->timeout_ms == FIXD_TIMEOUT_NONE))
			r = ask_attach(f, name, o);
	}
	return r;
}

static bool parse_offer(struct reply *r, struct wire_offer *offer, int *channel)
{
	struct wire_attached head;

	if (r->size < sizeof head + sizeof *offer || r->n_fds != 1)
		return false;
	memcpy(&head, r->body, sizeof head);
	if (!(head.flags & WIRE_ATTACHED_OFFER))
		return false;
	memcpy(offer, r->body + sizeof head, sizeof *offer);
	*channel = fd_steal(&r->fds[0]);
	return true;
}

int options_take(struct fixd *f, const struct fixd_options *given, unsigned known, struct fixd_options *o)
{
	static const struct fixd_options none = { .size = sizeof none };
	int r = struct_extend(o, sizeof *o, OPTIONS_SIZE_0, given ? given : &none);

	if (r == -EINVAL)
		return fixd_fail_with(f, r, "fixd_options.size is %zu: expected sizeof(struct fixd_options), at least %zu", given->size,
				      OPTIONS_SIZE_0);
	if (r < 0)
		return fixd_fail_with(f, r, "fixd_options has fields that this libfixd (%s) does not know", PACKAGE_VERSION);
	if (o->flags & ~known)
		return fixd_fail_with(f, -EINVAL, "fixd_options.flags has bits that are not known here: 0x%x", o->flags & ~known);
	if (o->timeout_ms < FIXD_TIMEOUT_NONE)
		return fixd_fail_with(f, -EINVAL,
				      "fixd_options.timeout_ms is %d: expected a number of ms, FIXD_TIMEOUT_DEFAULT or FIXD_TIMEOUT_NONE",
				      o->timeout_ms);
	return 0;
}

int view_attach(struct fixd *f, const char *name, const struct fixd_options *o, uint32_t flags, struct fixd_view **out,
		struct wire_offer *offer, int *channel)
{
	struct reply reply;
	struct attached a;
	int r;

	*out = NULL;
	r = o->flags & FIXD_NOWAIT ? look_for_attach(f, name, o, &reply) : request_attach(f, name, o, flags, &reply);
	if (r < 0)
		return r;
	if ((flags & WIRE_ATTACH_BUILD) && parse_offer(&reply, offer, channel)) {
		r = 1;
	} else if ((r = parse_attached(f, &reply, &a)) == 0) {
		r = make_view(f, name, &a, &reply, o->flags, out);
		if (r < 0)
			connection_tell(f, WIRE_TYPE_detach, &(struct wire_detach){ .serial = a.images[0].serial },
					sizeof(struct wire_detach));
	}
	reply_close(&reply);
	return r;
}

int view_of_published(struct fixd *f, const char *name, const struct wire_image *im, int fd, bool writable, struct fixd_view **out)
{
	struct attached a = { .head = { .flags = WIRE_ATTACHED_BUILT | WIRE_ATTACHED_OF_RUN, .n_images = 1 }, .images[0] = *im };
	struct reply reply = { .fds[0] = fd };
	int r = make_view(f, name, &a, &reply, writable ? FIXD_COW : 0, out);

	if (r < 0)
		connection_tell(f, WIRE_TYPE_detach, &(struct wire_detach){ .serial = im->serial }, sizeof(struct wire_detach));
	fd_close(reply.fds[0]);
	return r;
}

int view_of_local(struct fixd *f, int fd, uint64_t size, bool writable, struct fixd_view **out)
{
	static uint64_t last_serial;
	struct attached a = { .head.n_images = 1, .images[0] = { .size = size, .generation = 1, .kind = WIRE_IMAGE_BLOB } };
	struct reply reply = { .fds[0] = fd };
	int r;

	a.images[0].serial = __atomic_add_fetch(&last_serial, 1, __ATOMIC_RELAXED);
	r = make_view(f, "", &a, &reply, writable ? FIXD_COW : 0, out);
	fd_close(reply.fds[0]);
	return r;
}

int fixd_attach(struct fixd *f, const char *name, const struct fixd_options *options, struct fixd_view **out)
{
	struct fixd_options o;
	int r = options_take(f, options, FIXD_COW | FIXD_NOWAIT | FIXD_ALONE, &o);

	*out = NULL;
	if (r == 0 && f->local)
		r = view_local(f, name, &o, out);
	return r < 0 || *out ? r : view_attach(f, name, &o, 0, out, NULL, NULL);
}

/* It belongs to the process and the connection that attached. */
static bool has_lease(const struct fixd_view *v)
{
	return v->attached_by == process_id() && v->epoch == v->fixd->epoch;
}

/*
 * What the test that runs has done with a view. The body, of that size, has room for the name of the test behind it, and `length` is
 * where that of the name is told: in a forked child it belongs to the message.
 */
static bool mention(struct fixd_view *v, uint16_t type, void *body, size_t size, uint16_t *length)
{
	const struct fixd *f = v->fixd;

	if (!*f->test)
		return false;
	if (has_lease(v))
		return connection_mention(v->fixd, type, body, size);
	if (v->attached_by == process_id() || f->version < WIRE_VERSION_CHILD)
		return false;
	*length = (uint16_t)strlen(f->test);
	memcpy((char *)body + size, f->test, *length);
	return connection_mention_of_parent(v->fixd, v->epoch, type, body, size + *length);
}

void fixd_view_used(struct fixd_view *v, const char *line)
{
	struct {
		struct wire_used head;
		char text[WIRE_LINE_MAX + WIRE_TEST_MAX];
	} body = { .head.serial = v->serial };

	if (v->fixd->version < WIRE_VERSION_USED)
		return;
	if (line) {
		body.head.line = (uint16_t)strnlen(line, WIRE_LINE_MAX);
		memcpy(body.text, line, body.head.line);
	}
	mention(v, WIRE_TYPE_used, &body, sizeof body.head + body.head.line, &body.head.test);
}

/* While it is watched who changes it: that the test has used it, and its line that has changed it or what it points into. */
static void mention_blame(struct fixd_view *v)
{
	const char *line = NULL;

	for (size_t i = 0; i < v->n_mappings; i++) {
		const char *here = blame_use_line(v->mappings[i]);

		if (here && !(line && *line))
			line = here;
	}
	if (line)
		fixd_view_used(v, line);
}

static void tell_blame(struct fixd_view *v)
{
	for (size_t i = 0; i < v->n_mappings; i++)
		blame_tell(v->mappings[i]);
	mention_blame(v);
}

/* Whoever was forked while another thread had the lock cannot have it, and says nothing. */
__attribute__((destructor)) static void tell_at_exit(void)
{
	if (pthread_mutex_trylock(&watched_lock) != 0)
		return;
	for (struct fixd_view *v = watched; v; v = v->next_watched)
		tell_blame(v);
	pthread_mutex_unlock(&watched_lock);
}

void fixd_detach(struct fixd_view *v)
{
	struct wire_detach d;

	if (!v)
		return;
	tell_blame(v);
	d = (struct wire_detach){ .serial = v->serial, .pages = v->pages_reset, .resets = v->resets, .dirty = v->dirty_resets };
	if (has_lease(v))
		connection_tell(v->fixd, WIRE_TYPE_detach, &d, sizeof d);
	view_free(v);
}

const void *fixd_view_data(const struct fixd_view *v)
{
	blame_use(v->mappings[0]);
	return v->mappings[0]->base ? v->mappings[0]->base : "";
}

void *fixd_view_root(const struct fixd_view *v)
{
	return (char *)fixd_view_data(v) + v->root;
}

size_t fixd_view_size(const struct fixd_view *v)
{
	return v->mappings[0]->size;
}

const char *fixd_view_path(const struct fixd_view *v)
{
	return v->path;
}

uint32_t fixd_view_generation(const struct fixd_view *v)
{
	return v->generation;
}

unsigned fixd_view_flags(const struct fixd_view *v)
{
	return v->flags;
}

bool fixd_view_built(const struct fixd_view *v)
{
	return v->flags & FIXD_VIEW_BUILT;
}

bool fixd_view_reused(const struct fixd_view *v)
{
	return v->flags & FIXD_VIEW_REUSED;
}

/* False: the daemon hears of it when the view is detached. */
static bool mention_change(struct fixd_view *v, uint64_t pages)
{
	struct {
		struct wire_changed head;
		char test[WIRE_TEST_MAX];
	} body = { .head = { .serial = v->serial, .pages = pages } };

	return mention(v, WIRE_TYPE_changed, &body, sizeof body.head, &body.head.test);
}

static int64_t cannot_look(struct fixd_view *v, int64_t err)
{
	return fixd_fail_with(v->fixd, (int)err, "the pages that this process has changed cannot be looked up: %s", strerror((int)-err));
}

int64_t fixd_view_reset(struct fixd_view *v)
{
	int64_t total = 0;

	tell_blame(v);
	for (size_t i = 0; i < v->n_mappings; i++) {
		struct mapping *m = v->mappings[i];
		int64_t n = m->writable && m->size ? mapping_reset(m) : 0;

		if (n < 0)
			return cannot_look(v, n);
		total += n;
	}
	if (total > 0 && mention_change(v, (uint64_t)total))
		return total;
	v->resets++;
	v->dirty_resets += total > 0;
	v->pages_reset += (uint64_t)total;
	return total;
}

struct collecting {
	struct fixd_range *ranges;
	size_t room, n;
};

static void collect(void *arg, const char *start, size_t length)
{
	struct collecting *c = arg;

	if (c->n < c->room)
		c->ranges[c->n] = (struct fixd_range){ start, length };
	c->n++;
}

int64_t fixd_view_changes(struct fixd_view *v, struct fixd_range *ranges, size_t n)
{
	struct collecting c = { ranges, n, 0 };

	for (size_t i = 0; i < v->n_mappings; i++) {
		struct mapping *m = v->mappings[i];
		int64_t r = m->writable && m->size ? mapping_changes(m, collect, &c) : 0;

		if (r < 0)
			return cannot_look(v, r);
	}
	return (int64_t)c.n;
}

static struct mapping *mapping_at(struct fixd_view *v, const void *address)
{
	for (size_t i = 0; i < v->n_mappings; i++) {
		if ((uintptr_t)address - (uintptr_t)v->mappings[i]->base < v->mappings[i]->size)
			return v->mappings[i];
	}
	return NULL;
}

static int64_t not_of_view(struct fixd_view *v, const void *address)
{
	return fixd_fail_with(v->fixd, -EINVAL, "%p is no address of this view", address);
}

int64_t fixd_view_blame(struct fixd_view *v, const void *address, char *text, size_t size)
{
	struct mapping *m = mapping_at(v, address);

	for (size_t i = 0; i < v->n_mappings; i++)
		blame_is_told(v->mappings[i]);
	if (m)
		return blame_writer(m, address, text, size);
	return address ? not_of_view(v, address) : 0;
}

int64_t fixd_view_object(struct fixd_view *v, const void *address, char *text, size_t size)
{
	struct mapping *m = mapping_at(v, address);

	return m ? (int64_t)object_name(m, address, text, size) : not_of_view(v, address);
}
