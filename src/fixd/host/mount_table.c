/* SPDX-License-Identifier: MIT */
#include "fixd/host/mount_table.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "base/text.h"
#include "base/vector.h"

#define PATH "/proc/self/mountinfo"
#define SIZE_MAX_READ ((size_t)64 << 20)

struct mount_table {
	int fd; /* tells when something has changed */
	struct vector mounts;
};

/* Of a line of the file what tells one from another, and then where it is: "ID MAJOR:MINOR ROOT" and the place. */
struct mounted {
	char *what, *place;
};

static void mounts_free(struct vector *v)
{
	while (v->n > 0) {
		struct mounted *m = v->all[--v->n];

		free(m->what);
		free(m->place);
		free(m);
	}
	vector_deinit(v);
}

/* Blanks and backslashes are written as three octal digits. */
static void decode(char *s)
{
	char *to = s;

	for (; *s; s++) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' && s[3] >= '0' && s[3] <= '7') {
			*to++ = (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0'));
			s += 3;
		} else {
			*to++ = *s;
		}
	}
	*to = '\0';
}

static int compare(const struct mounted *a, const struct mounted *b)
{
	int place = strcmp(a->place, b->place);

	return place ? place : strcmp(a->what, b->what);
}

static int by_place(const void *a, const void *b)
{
	return compare(*(struct mounted *const *)a, *(struct mounted *const *)b);
}

/* "36 35 98:0 /root /place options ..." */
static void add_line(struct vector *v, char *line)
{
	char *save, *id = strtok_r(line, " ", &save), *parent = strtok_r(NULL, " ", &save), *device = strtok_r(NULL, " ", &save);
	char *root = strtok_r(NULL, " ", &save), *place = strtok_r(NULL, " ", &save);
	struct mounted *m;

	if (!id || !parent || !device || !root || !place)
		return;
	decode(place);
	m = xcalloc(1, sizeof *m);
	m->what = xasprintf("%s %s %s", id, device, root);
	m->place = xstrdup(place);
	vector_add(v, m);
}

static bool read_all(struct vector *v)
{
	_cleanup_free_ char *text = NULL;
	char *save;

	if (file_read_all(PATH, SIZE_MAX_READ, &text, NULL) < 0)
		return false;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		add_line(v, line);
	if (v->n)
		qsort(v->all, v->n, sizeof *v->all, by_place);
	return true;
}

struct mount_table *mount_table_new(void)
{
	struct mount_table *t = xcalloc(1, sizeof *t);

	t->fd = open(PATH, O_RDONLY | O_CLOEXEC);
	if (t->fd < 0 || !read_all(&t->mounts))
		return mount_table_free(t);
	return t;
}

struct mount_table *mount_table_free(struct mount_table *t)
{
	if (!t)
		return NULL;
	mounts_free(&t->mounts);
	fd_close(t->fd);
	free(t);
	return NULL;
}

/* Those that are in one of the two only. */
static void tell_differences(const struct vector *a, const struct vector *b, void (*fn)(void *arg, const char *place), void *arg)
{
	size_t i = 0, k = 0;

	while (i < a->n || k < b->n) {
		int order = i == a->n ? 1 : k == b->n ? -1 : compare(a->all[i], b->all[k]);

		if (order)
			fn(arg, ((struct mounted *)(order < 0 ? a->all[i] : b->all[k]))->place);
		i += order <= 0;
		k += order >= 0;
	}
}

bool mount_table_look(struct mount_table *t, void (*fn)(void *arg, const char *place), void *arg)
{
	struct pollfd p = { .fd = t->fd, .events = POLLPRI };
	struct vector now = { 0 };

	if (poll(&p, 1, 0) <= 0)
		return true;
	if (!read_all(&now)) {
		mounts_free(&now);
		return false;
	}
	tell_differences(&t->mounts, &now, fn, arg);
	mounts_free(&t->mounts);
	t->mounts = now;
	return true;
}
