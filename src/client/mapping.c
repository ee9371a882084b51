/* SPDX-License-Identifier: MIT */
#include "client/mapping.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "client/blame.h"
#include "image/memfd.h"
#include "image/place.h"
#include "wire/fork.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct mapping *registry;
static bool writes_allowed;

static void before_fork(void)
{
	pthread_mutex_lock(&lock);
}

static void after_fork(void)
{
	pthread_mutex_unlock(&lock);
}

/* In a run with --reset-on-fork no process inherits what its parent has written. */
static bool starts_pristine(void)
{
	const char *wanted = getenv("FIXD_RESET_ON_FORK");

	return wanted && !strcmp(wanted, "1");
}

static void after_fork_in_child(void)
{
	bool reset = starts_pristine();

	blame_survive_fork();
	for (struct mapping *m = registry; m; m = m->next) {
		pthread_mutex_init(&m->busy, NULL);
		if (reset && m->writable && m->size && cow_reset(&m->cow) < 0)
			abort(); /* its parent's bytes would be taken for the fixture's */
		blame_forked(m, reset);
	}
	pthread_mutex_unlock(&lock);
}

/* A child must not inherit a lock from a thread it does not have. */
__attribute__((constructor)) static void survive_fork(void)
{
	pthread_atfork(before_fork, after_fork, after_fork_in_child);
}

static struct mapping *mapping_find(uint64_t serial, uint32_t daemon)
{
	for (struct mapping *m = registry; m; m = m->next) {
		if (m->fixed && m->serial == serial && m->daemon == daemon)
			return m;
	}
	return NULL;
}

/* May what is there serve this request too? 0: yes, 1: no, it needs a place of its own. */
static int share(struct mapping *m, bool writable, enum mapping_need need)
{
	if (need == MAPPING_ALONE || (m->alone && need == MAPPING_FIXED))
		return -EBUSY;
	if (need == MAPPING_FIXED)
		return m->writable == writable ? 0 : -EBUSY;
	return !writable && !m->writable ? 0 : 1;
}

static int map_anywhere(size_t size, int fd, int prot, struct mapping *m)
{
	void *hint = m->writable ? blame_place(size) : NULL;
	void *place = !hint && size >= PLACE_ALIGN ? place_find(size) : NULL;
	void *p = mmap(place ? place : hint, size, prot, MAP_PRIVATE | (place ? MAP_FIXED : 0), fd, 0);

	if (p == MAP_FAILED)
		return -errno;
	m->base = p;
	return 0;
}

/* What is known once is so for good: the environment may change. */
static bool writes_wait(void)
{
	static int is_template = -1;
	const char *path;

	if (is_template < 0) {
		path = getenv(FORK_TEMPLATE);
		is_template = path && *path;
	}
	return is_template && !writes_allowed;
}

void mapping_allow_writes(void)
{
	pthread_mutex_lock(&lock);
	writes_allowed = true;
	for (struct mapping *m = registry; m; m = m->next) {
		if (m->writable && m->size && mprotect(m->base, m->size, PROT_READ | PROT_WRITE) < 0)
			abort(); /* it would die at its first write */
		blame_opened(m);
	}
	pthread_mutex_unlock(&lock);
}

/* Of libfixd-free, where that is there: free() is to know these addresses. */
void fixd_free_covers(uint64_t start, uint64_t size) __attribute__((weak));

/* There and nowhere else. NULL and errno. */
static void *map_at(void *place, size_t size, int fd, int prot, int flags)
{
	void *p = mmap(place, size, prot, MAP_PRIVATE | MAP_FIXED_NOREPLACE | flags, fd, 0);

	if (p == place)
		return p;
	/* A kernel or tool that does not know the flag may have put it elsewhere. */
	if (p != MAP_FAILED) {
		munmap(p, size);
		errno = EEXIST;
	}
	return NULL;
}

static void *map_at_home(const struct mapping *m, int fd, int prot)
{
	return map_at((void *)(uintptr_t)m->home, m->size, fd, prot, 0);
}

/* So far below its home, and below that, an image is mapped that cannot be there: in each process, so that a copy for that place can be shared. */
#define NEXT_DOOR (UINT64_C(1) << 40)
#define DOORS 3

static void *reserve_at(void *place, size_t size)
{
	return map_at(place, size, -1, PROT_NONE, MAP_ANONYMOUS | MAP_NORESERVE);
}

/*
 * Nothing may be done with it yet. At home if only what it points into is elsewhere; where can be watched who writes; at a place that others
 * would choose, too; or anywhere. NULL and errno.
 */
static void *reserve_place(struct mapping *m)
{
	void *watched = m->writable ? blame_place(m->size) : NULL, *p = NULL;

	for (uint64_t door = 0; !p && door <= (watched ? 0 : DOORS); door++)
		p = reserve_at((void *)(uintptr_t)(m->home - door * NEXT_DOOR), m->size);
	if (p)
		return p;
	m->apart = true;
	p = watched ? reserve_at(watched, m->size) : NULL;
	return p ? p : place_find(m->size);
}

/* The daemon's word is not enough here, either. */
static int get_shared(const struct mapping *m, const struct mapping_moves *moves)
{
	int fd = moves->shared_copy(moves->arg, m->serial, moves->all, moves->n);
	uint64_t size = 0;

	if (fd < 0 || (memfd_verify(fd, &size) == 0 && size == m->size))
		return fd;
	fd_close(fd);
	return -EPROTO;
}

/* The objects as they are right at that place take the place of *fd. */
static int relocate_to(struct mapping *m, void *place, int *fd, const struct mapping_moves *others)
{
	struct mapping_moves moves = *others;
	int copy = -1;

	moves.all[moves.n++] = (struct move){ m->home, m->size, (uintptr_t)place };
	if (moves.shared_copy && !moves.apart && !m->apart)
		copy = get_shared(m, &moves);
	if (copy < 0)
		copy = relocate_copy(*fd, m->size, moves.all, moves.n);
	if (copy < 0)
		return copy;
	fd_close(*fd);
	*fd = copy;
	return 0;
}

static int map_elsewhere(struct mapping *m, int *fd, int prot, const struct mapping_moves *moves)
{
	void *place = reserve_place(m);
	int r = !place ? -errno : m->has_objects ? relocate_to(m, place, fd, moves) : 0;

	if (r == 0 && mmap(place, m->size, prot, MAP_PRIVATE | MAP_FIXED, *fd, 0) == MAP_FAILED)
		r = -errno;
	if (r == 0)
		m->base = place;
	else if (place)
		munmap(place, m->size);
	return r;
}

static int map_fixed(struct mapping *m, int *fd, int prot, const struct mapping_moves *moves)
{
	bool moved = m->has_objects && moves->n;

	m->base = moved ? NULL : map_at_home(m, *fd, prot);
	if (m->base)
		return 0;
	if (!moved && errno != EEXIST)
		return -errno;
	return m->at_home_only ? -EEXIST : map_elsewhere(m, fd, prot, moves);
}

static int map(struct mapping *m, int *fd, enum mapping_need need, const struct mapping_moves *moves)
{
	int prot = PROT_READ | (m->writable && !writes_wait() ? PROT_WRITE : 0), r;

	m->fixed = need != MAPPING_ANYWHERE;
	m->alone = need == MAPPING_ALONE;
	if (m->fixed) {
		r = map_fixed(m, fd, prot, moves);
	} else {
		/* Objects that point into these bytes may come later: nobody's scribbles may lie there then. */
		m->base = m->writable || !m->home ? NULL : map_at_home(m, *fd, prot);
		m->fixed = m->base;
		r = m->base ? 0 : map_anywhere(m->size, *fd, prot, m);
	}
	if (r == 0 && m->fixed && fixd_free_covers)
		fixd_free_covers((uintptr_t)m->base, m->size);
	return r;
}

/* The daemon is another process: what it says of an image must be so. */
static int verify(const struct wire_image *im, int fd)
{
	uint64_t size = 0;

	if (memfd_verify(fd, &size) < 0 || size != im->size || (im->root && im->root >= im->size) || im->address % 4096)
		return -EPROTO;
	return 0;
}

static int get_locked(const struct wire_image *im, uint32_t daemon, int *fd, bool writable, enum mapping_need need,
		      const struct mapping_moves *moves, struct mapping **out)
{
	struct mapping *m = mapping_find(im->serial, daemon);
	int r = verify(im, *fd);

	/* A serial is never used twice. */
	if (r == 0 && m && (m->size != im->size || m->home != im->address))
		r = -EPROTO;
	if (r == 0)
		r = m ? share(m, writable, need) : 1;
	if (r < 0)
		return r;
	if (r == 0) {
		m->refs++;
		*out = m;
		return 0;
	}
	m = calloc(1, sizeof *m);
	if (!m)
		return -ENOMEM;
	*m = (struct mapping){
		.refs = 1, .writable = writable, .serial = im->serial, .daemon = daemon, .size = im->size, .home = im->address
	};
	m->has_objects = im->kind == WIRE_IMAGE_OBJECTS;
	m->at_home_only = im->flags & WIRE_IMAGE_AT_HOME_ONLY;
	m->root = im->root;
	r = im->size ? map(m, fd, need, moves) : 0;
	if (r == 0 && writable && (r = cow_init(&m->cow, m->base, m->size, *fd)) < 0 && m->base)
		munmap(m->base, m->size);
	if (r < 0) {
		free(m);
		return r;
	}
	pthread_mutex_init(&m->busy, NULL);
	m->next = registry;
	registry = m;
	*out = m;
	return 0;
}

int mapping_get(const struct wire_image *im, uint32_t daemon, int fd, bool writable, enum mapping_need need,
		const struct mapping_moves *moves, struct mapping **out)
{
	_cleanup_fd_ int owned = fd;
	int r;

	pthread_mutex_lock(&lock);
	r = get_locked(im, daemon, &owned, writable, need, moves, out);
	pthread_mutex_unlock(&lock);
	return r;
}

void mapping_add_move(const struct mapping *m, struct mapping_moves *moves)
{
	if (!m->fixed || !m->size || (uintptr_t)m->base == m->home)
		return;
	moves->all[moves->n++] = (struct move){ m->home, m->size, (uintptr_t)m->base };
	moves->apart |= m->apart;
}

static void unregister(struct mapping *m)
{
	for (struct mapping **p = &registry; *p; p = &(*p)->next) {
		if (*p == m) {
			*p = m->next;
			return;
		}
	}
}

void mapping_unref(struct mapping *m)
{
	pthread_mutex_lock(&lock);
	if (--m->refs == 0) {
		unregister(m);
		blame_unwatch(m);
		if (m->writable)
			cow_deinit(&m->cow);
		if (m->base)
			munmap(m->base, m->size);
		free(m);
	}
	pthread_mutex_unlock(&lock);
}

int64_t mapping_reset(struct mapping *m)
{
	int64_t n;

	pthread_mutex_lock(&m->busy);
	n = cow_reset(&m->cow);
	if (n >= 0)
		blame_reset(m);
	pthread_mutex_unlock(&m->busy);
	return n;
}

int64_t mapping_changes(struct mapping *m, cow_change_fn fn, void *arg)
{
	int64_t n;

	pthread_mutex_lock(&m->busy);
	n = blame_changes(m, fn, arg);
	if (n == -ENOTSUP)
		n = cow_changes(&m->cow, fn, arg);
	pthread_mutex_unlock(&m->busy);
	return n;
}

void mapping_each(void (*fn)(struct mapping *m))
{
	pthread_mutex_lock(&lock);
	for (struct mapping *m = registry; m; m = m->next)
		fn(m);
	pthread_mutex_unlock(&lock);
}
