/* SPDX-License-Identifier: MIT */
#include "client/blame.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/lines.h"
#include "client/mapping.h"
#include "client/object.h"
#include "client/watch.h"

#define SHOWN 16 /* bytes of a value */
#define TEXT_MIN 4
#define WRITERS_MAX 16 /* of one view that are shown */
#define CALLERS_MAX 6
#define ELEMENTSOF(a) (sizeof(a) / sizeof((a)[0]))
#define GAP 8 /* bytes that are the same between parts of one change */

struct blame {
	struct watch *watch; /* NULL: of a read-only view */
	char *name;
	size_t told;		      /* writes of which has been spoken */
	bool used;		      /* since the last reset */
	char line[WIRE_LINE_MAX + 1]; /* the first that has changed it, and was told since then */
};

static char running[WIRE_TEST_MAX + 1]; /* the test */

/* One text, so that it comes out in one piece. */
struct text {
	char bytes[16384];
	size_t n;
};

__attribute__((format(printf, 2, 3))) static void put(struct text *t, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(t->bytes + t->n, sizeof t->bytes - t->n, fmt, ap);
	va_end(ap);
	if (n > 0)
		t->n = t->n + (size_t)n < sizeof t->bytes ? t->n + (size_t)n : sizeof t->bytes - 1;
}

static bool blame_is_wanted(void)
{
	const char *wanted = getenv("FIXD_BLAME");

	return wanted && !strcmp(wanted, "1");
}

static void say(const struct text *t)
{
	const char *path = getenv("FIXD_BLAME_FILE");
	int fd = path && *path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666) : -1;
	ssize_t n = write(fd >= 0 ? fd : STDERR_FILENO, t->bytes, t->n);

	if (fd >= 0)
		close(fd);
	(void)n; /* nobody can be told */
}

/* Fewer bytes are rather a number. */
static bool is_text(const char *p, size_t n)
{
	if (n < TEXT_MIN)
		return false;
	for (size_t i = 0; i < n; i++) {
		if (!isprint((unsigned char)p[i]) && p[i] != '\n' && p[i] != '\t')
			return false;
	}
	return true;
}

static void put_bytes(struct text *t, const char *p, size_t n, bool text)
{
	size_t shown = n < SHOWN ? n : SHOWN;

	if (text)
		put(t, "\"");
	for (size_t i = 0; i < shown; i++) {
		if (!text)
			put(t, "%s%02x", i ? " " : "", (unsigned char)p[i]);
		else if (p[i] == '\n' || p[i] == '\t')
			put(t, "\\%c", p[i] == '\n' ? 'n' : 't');
		else
			put(t, "%s%c", p[i] == '"' || p[i] == '\\' ? "\\" : "", p[i]);
	}
	if (text)
		put(t, "\"");
	if (shown < n)
		put(t, "...");
}

static bool is_watched(const struct mapping *m)
{
	return m->blame && m->blame->watch;
}

struct telling {
	struct mapping *m;
	struct text text;
	const char *start; /* of the change that may go on */
	size_t length;
	size_t writers;			/* that were come to */
	const struct first_write *last; /* whose stack was shown */
	size_t same;			/* changes of that one more */
};

/* Functions of libraries of the system, and ours in front of them, are where it was done, not who wanted it. */
static bool is_of_system(const struct line *l)
{
	static const char *const modules[] = { "linux-vdso", "/libc.", "/ld-", "/libstdc++.", "/libgcc_s.", "/libpthread", "/libfixd" };

	for (size_t i = 0; l->module && i < ELEMENTSOF(modules); i++) {
		if (strstr(l->module, modules[i]))
			return true;
	}
	return l->file && (!strncmp(l->file, "/usr/", 5) || strstr(l->file, "/sysdeps/") || !strncmp(l->file, "../sysdeps", 10) ||
			   strstr(l->file, "/sanitizer_common/") || !strncmp(l->file, "./", 2));
}

struct naming {
	struct text *text;
	const char *indent;
	bool anybody; /* also functions of the system */
	bool in_python;
	int callers;
};

static void put_line(struct text *t, const struct line *l)
{
	if (l->file)
		put(t, "%s:%d", l->file, l->line);
	else
		put(t, "%s+0x%llx", l->module ? l->module : "?", (unsigned long long)l->offset);
	if (l->function)
		put(t, " in %s%s", l->function, strchr(l->function, '(') ? "" : "()");
}

static void end_naming(struct naming *n)
{
	n->callers = CALLERS_MAX + 1;
}

/* Of what a Python function has called: where it is in C, and no more. */
static void name_extension(struct naming *n, const struct line *l)
{
	if (l->file && !strstr(l->file, "/Python/") && !strstr(l->file, "/Objects/")) {
		put(n->text, "%s  by ", n->indent);
		put_line(n->text, l);
		put(n->text, "\n");
	}
	end_naming(n);
}

static void name_line(void *arg, const struct line *l)
{
	struct naming *n = arg;

	if ((is_of_system(l) && !n->anybody) || n->callers > CALLERS_MAX)
		return;
	if (n->in_python) {
		name_extension(n, l);
		return;
	}
	put(n->text, "%s%s", n->indent, n->callers++ ? "  called from " : "first written at ");
	put_line(n->text, l);
	put(n->text, "\n");
	/* What has called main() is nobody's concern. */
	if (l->function && !strcmp(l->function, "main"))
		end_naming(n);
}

/* What it has called inside is of no use to who has called it. */
static bool is_of_library(const char *file)
{
	return strstr(file, "/site-packages/") || strstr(file, "/dist-packages/") || strstr(file, "/lib/python3.");
}

/* The lines of faulthandler. How many there are of it that are the test's own. */
static int put_python(struct text *t, const char *python, const char *indent)
{
	char file[1024], function[256];
	int n = 0, line;

	for (; *python && n < CALLERS_MAX; python += strcspn(python, "\n"), python += *python == '\n') {
		if (sscanf(python, "  File \"%1023[^\"]\", line %d in %255[^\n]", file, &line, function) != 3)
			continue;
		/* What stands in front of a call that writes. */
		if (strstr(file, "/fixd/_scattered.py"))
			continue;
		/* What has called a test is nobody's concern. */
		if (strstr(file, "/_pytest/") || strstr(file, "/unittest/"))
			break;
		if (n > 0 && is_of_library(file))
			continue;
		put(t, "%s%s%s:%d in %s%s\n", indent, n++ ? "  called from " : "first written at ", file, line, function,
		    *function == '<' ? "" : "()");
	}
	return n;
}

static void put_writer(struct text *t, const struct first_write *w, const char *indent)
{
	struct naming n = { .text = t, .indent = indent, .in_python = put_python(t, w->python, indent) > 0 };

	for (int i = 0; i < w->depth && n.callers <= CALLERS_MAX; i++)
		lines_of((char *)w->stack[i] - (i > 0), name_line, &n);
	n.anybody = n.callers == 0;
	for (int i = 0; i < w->depth && n.callers == 0; i++)
		lines_of((char *)w->stack[i] - (i > 0), name_line, &n);
	if (w->thread != w->process)
		put(t, "%s  in thread %d\n", indent, w->thread);
	if (w->process != getpid())
		put(t, "%s  in process %d\n", indent, w->process);
}

/* Of what put_writer() has put. */
static void keep_line(struct blame *b, const char *writer)
{
	static const char before[] = "first written at ";
	const char *line = strstr(writer, before);

	if (line && !*b->line)
		snprintf(b->line, sizeof b->line, "%.*s", (int)strcspn(line + strlen(before), "\n"), line + strlen(before));
}

static void put_same(struct telling *t)
{
	if (t->same)
		put(&t->text, "fixd:   and so in %zu more place%s of the same page%s\n", t->same, t->same == 1 ? "" : "s",
		    t->last->pages > 1 ? "s" : "");
	t->same = 0;
}

static void tell_change(struct telling *telling)
{
	struct mapping *m = telling->m;
	const char *was = m->cow.pristine + (telling->start - m->base);
	const struct first_write *w = watch_writer(m->blame->watch, telling->start);
	size_t shown = telling->length < SHOWN ? telling->length : SHOWN, start;
	bool text = is_text(was, shown) && is_text(telling->start, shown);
	struct text *t = &telling->text;
	char object[256];

	if (w && w == telling->last) {
		telling->same++;
		return;
	}
	put_same(telling);
	if (telling->writers++ >= WRITERS_MAX)
		return;
	telling->last = w;
	if (*running)
		put(t, "fixd: test '%s' changed '%s': ", running, m->blame->name);
	else
		put(t, "fixd: '%s' is changed: ", m->blame->name);
	put(t, "%zu byte%s at offset 0x%zx, ", telling->length, telling->length == 1 ? "" : "s", (size_t)(telling->start - m->base));
	if (object_name(m, telling->start, object, sizeof object))
		put(t, "%s, ", object);
	put_bytes(t, was, telling->length, text);
	put(t, " became ");
	put_bytes(t, telling->start, telling->length, text);
	put(t, "\n");
	start = t->n;
	if (w) {
		put_writer(t, w, "fixd:   ");
		keep_line(m->blame, t->bytes + start);
	} else {
		put(t, "fixd:   nobody knows by whom: too many pages were written\n");
	}
}

static void take_change(void *arg, const char *start, size_t length)
{
	struct telling *t = arg;

	if (t->start && start >= t->start && start - (t->start + t->length) <= GAP) {
		t->length = (size_t)(start + length - t->start);
		return;
	}
	if (t->start)
		tell_change(t);
	t->start = start;
	t->length = length;
}

/* Changes of one page after the other, as maximal runs. */
struct joining {
	cow_change_fn fn;
	void *arg;
	const char *start;
	size_t length;
	int64_t count;
};

static void flush_joined(struct joining *j)
{
	if (j->start)
		j->fn(j->arg, j->start, j->length);
	j->count += j->start != NULL;
	j->start = NULL;
}

static void join(void *arg, const char *start, size_t length)
{
	struct joining *j = arg;

	if (!j->start || j->start + j->length != start) {
		flush_joined(j);
		j->start = start;
		j->length = 0;
	}
	j->length += length;
}

static int by_page(const void *a, const void *b)
{
	const struct first_write *const *x = a, *const *y = b;

	return (*x)->page < (*y)->page ? -1 : (*x)->page > (*y)->page;
}

int64_t blame_changes(struct mapping *m, cow_change_fn fn, void *arg)
{
	struct watch *w = is_watched(m) && !watch_has_given_up(m->blame->watch) ? m->blame->watch : NULL;
	size_t most = w ? watch_count(w) : 0, n = 0;
	const struct first_write **writes = w ? calloc(most + 1, sizeof(struct first_write *)) : NULL;
	struct joining j = { .fn = fn, .arg = arg };

	if (!writes)
		return -ENOTSUP;
	for (size_t i = 0; i < most; i++) {
		const struct first_write *f = watch_write(w, i);

		if (watch_writer(w, m->base + f->page * (size_t)4096) == f)
			writes[n++] = f;
	}
	qsort(writes, n, sizeof *writes, by_page);
	for (size_t i = 0; i < n; i++)
		cow_changes_in(&m->cow, m->base + writes[i]->page * (size_t)4096, writes[i]->pages, join, &j);
	flush_joined(&j);
	free(writes);
	return j.count;
}

/* By what is known of the writes: the kernel needs not be asked about all pages. */
static void each_change(struct telling *t)
{
	struct mapping *m = t->m;
	struct watch *w = m->blame->watch;

	if (watch_has_given_up(w)) {
		mapping_changes(m, take_change, t);
		return;
	}
	for (size_t i = 0; i < watch_count(w); i++) {
		const struct first_write *f = watch_write(w, i);
		char *start = m->base + f->page * (size_t)4096;

		/* Two threads may have come at the same time: one of them was first. */
		if (watch_writer(w, start) == f)
			cow_changes_in(&m->cow, start, f->pages, take_change, t);
	}
}

void blame_tell(struct mapping *m)
{
	struct telling *t;

	if (!is_watched(m) || watch_count(m->blame->watch) == m->blame->told)
		return;
	m->blame->told = watch_count(m->blame->watch);
	t = calloc(1, sizeof *t);
	if (!t)
		return;
	t->m = m;
	each_change(t);
	if (t->start) {
		tell_change(t);
		put_same(t);
		if (t->writers > WRITERS_MAX)
			put(&t->text, "fixd: and '%s' is changed in %zu more places\n", m->blame->name, t->writers - WRITERS_MAX);
		say(&t->text);
	}
	free(t);
}

void blame_is_told(struct mapping *m)
{
	if (is_watched(m))
		m->blame->told = watch_count(m->blame->watch);
}

int64_t blame_writer(struct mapping *m, const void *address, char *text, size_t size)
{
	const struct first_write *w = is_watched(m) ? watch_writer(m->blame->watch, address) : NULL;
	struct text *t = w ? calloc(1, sizeof *t) : NULL;
	size_t n;

	if (size)
		*text = '\0';
	if (!w || !t)
		return w ? -ENOMEM : 0;
	put_writer(t, w, "");
	keep_line(m->blame, t->bytes);
	n = t->n;
	if (size) {
		size_t shown = n < size ? n : size - 1;

		memcpy(text, t->bytes, shown);
		text[shown] = '\0';
	}
	free(t);
	return (int64_t)n;
}

void blame_use(struct mapping *m)
{
	if (m->blame)
		__atomic_store_n(&m->blame->used, true, __ATOMIC_RELAXED);
}

const char *blame_use_line(struct mapping *m)
{
	if (!is_watched(m) || (!m->blame->used && !*m->blame->line))
		return NULL;
	return m->blame->line;
}

static void begin_again(struct mapping *m, void (*watch)(struct watch *w))
{
	if (!is_watched(m))
		return;
	watch(m->blame->watch);
	m->blame->told = 0;
	m->blame->used = false;
	*m->blame->line = '\0';
}

void blame_opened(struct mapping *m)
{
	begin_again(m, watch_all);
}

void blame_reset(struct mapping *m)
{
	begin_again(m, watch_again);
}

void blame_forked(struct mapping *m, bool pristine)
{
	if (pristine)
		blame_reset(m);
	else if (is_watched(m))
		m->blame->told = watch_count(m->blame->watch);
}

/* What is changed at the end of the process, and in no view that was detached. */
__attribute__((destructor)) static void end(void)
{
	if (blame_is_wanted())
		mapping_each(blame_tell);
}

void *blame_place(size_t size)
{
	return blame_is_wanted() ? watch_place(size) : NULL;
}

void blame_set_test(const char *test)
{
	memcpy(running, test, strlen(test) + 1);
}

static void not_watched(const char *name, const char *why)
{
	struct text *t = calloc(1, sizeof *t);

	if (!t)
		return;
	put(t, "fixd: FIXD_BLAME is set, but who changes '%s' is not watched: %s\n", name, why);
	say(t);
	free(t);
}

static const void *refused; /* an address, of which the view is looked for */
static const struct first_write *refused_write;

static void name_refused(struct mapping *m)
{
	size_t offset = (uintptr_t)refused - (uintptr_t)m->base;
	struct text *t;
	char object[256];

	if (!m->blame || offset >= m->size)
		return;
	t = calloc(1, sizeof *t);
	if (!t)
		return;
	put(t, "fixd: '%s' is read-only, and was to be changed at offset 0x%zx", m->blame->name, offset);
	if (object_name(m, refused, object, sizeof object))
		put(t, ", %s", object);
	put(t, "\n");
	put_writer(t, refused_write, "fixd:   ");
	say(t);
	free(t);
}

/* In the handler of a fault, of a thread that can have no lock of ours: nothing here writes to views. */
static void tell_refused(const void *address, const struct first_write *w)
{
	refused = address;
	refused_write = w;
	mapping_each(name_refused);
}

/* Views of the same objects may come from two threads. */
static pthread_mutex_t watching = PTHREAD_MUTEX_INITIALIZER;

void blame_survive_fork(void)
{
	pthread_mutex_init(&watching, NULL);
	watch_survive_fork();
	lines_survive_fork();
}

static void begin_to_watch(struct mapping *m, const char *name, bool depended)
{
	struct blame *b = calloc(1, sizeof *b);

	if (b && asprintf(&b->name, depended ? "%s, what it points into" : "%s", name) < 0)
		b->name = NULL;
	if (b && b->name && (!m->writable || (b->watch = watch_new(m->base, m->cow.size)))) {
		m->blame = b;
		watch_refusals(tell_refused);
		return;
	}
	not_watched(name, strerror(errno));
	if (b)
		free(b->name);
	free(b);
}

void blame_watch(struct mapping *m, const char *name, bool depended)
{
	if (!m->size || !blame_is_wanted())
		return;
	pthread_mutex_lock(&watching);
	if (!m->blame)
		begin_to_watch(m, name, depended);
	pthread_mutex_unlock(&watching);
}

void blame_unwatch(struct mapping *m)
{
	if (!m->blame)
		return;
	watch_free(m->blame->watch);
	free(m->blame->name);
	free(m->blame);
	m->blame = NULL;
}
