/* SPDX-License-Identifier: MIT */
/*
 * The fixtures that `fixctl run` shows: which they are, building what is not fresh, and the descriptors of their images, which every
 * process of the run inherits.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/nearest.h"
#include "base/path.h"
#include "base/text.h"
#include "client/connection.h"
#include "fixctl/run.h"
#include "fixctl/warming.h"
#include "fixd.h"

#define DESCRIPTORS_BELOW 4096
#define DESCRIPTORS_ROOM 512

/* Of whoever started us: what the command has, too. */
static struct rlimit allowed;

void shown_allow_descriptors(bool many)
{
	struct rlimit all;

	if (allowed.rlim_max == 0)
		getrlimit(RLIMIT_NOFILE, &allowed);
	all = (struct rlimit){ allowed.rlim_max, allowed.rlim_max };
	setrlimit(RLIMIT_NOFILE, many ? &all : &allowed);
}

/*
 * Above what the command may open itself, if we may have more; programs that count their descriptors do not get there. Not too
 * high: each process has a table of all up to the highest.
 */
int shown_first_fd(void)
{
	struct rlimit r = allowed;
	rlim_t first;

	if (r.rlim_max == 0)
		getrlimit(RLIMIT_NOFILE, &r);
	first = r.rlim_cur < DESCRIPTORS_BELOW ? r.rlim_cur : DESCRIPTORS_BELOW;
	return (int)(r.rlim_max - first >= DESCRIPTORS_ROOM ? first : first / 2);
}

/* The links of the directory that it is in are resolved, as far as there is one; its last component is what is shown. */
static char *physical(const char *path)
{
	_cleanup_free_ char *parent = xstrndup(path, (size_t)(strrchr(path, '/') - path)), *real = NULL;

	if (!*parent)
		return xstrdup(path);
	real = realpath(parent, NULL);
	if (!real)
		real = physical(parent);
	return xasprintf("%s%s", strcmp(real, "/") ? real : "", strrchr(path, '/'));
}

static void add_alias(struct shown_list *l, const char *from, const char *to)
{
	size_t n = list_count(l->aliases);

	if (!strcmp(from, to))
		return;
	for (size_t i = 0; i < n; i += 2) {
		if (!strcmp(l->aliases[i], from))
			return;
	}
	l->aliases = xrealloc(l->aliases, (n + 3) * sizeof *l->aliases);
	l->aliases[n] = xstrdup(from);
	l->aliases[n + 1] = xstrdup(to);
	l->aliases[n + 2] = NULL;
}

/* The shell's idea of where it is may go through links. */
static void add_alias_of_here(struct shown_list *l)
{
	const char *pwd = getenv("PWD");
	_cleanup_free_ char *here = getcwd(NULL, 0);
	struct stat a, b;

	if (here && pwd && *pwd == '/' && stat(pwd, &a) == 0 && stat(".", &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino)
		add_alias(l, pwd, here);
}

char *shown_variable(const char *name)
{
	char *variable = xasprintf("FIXD_FIXTURE_%s", name);
	size_t n = strlen(variable);

	if (variable[n - 1] == ']')
		variable[n - 1] = '\0';
	for (char *p = variable; *p; p++) {
		if (!isalnum((unsigned char)*p))
			*p = '_';
	}
	return variable;
}

static bool wanted(const struct run_options *o, const char *fixture, const char *name)
{
	for (size_t i = 0; o->only && o->only[i]; i++) {
		if (!strcmp(o->only[i], name) || !fnmatch(o->only[i], fixture, 0))
			return true;
	}
	return !o->only;
}

static void shown_add(struct shown_list *l, const struct run_options *o, const struct scratch *s, const json_t *fixture, char *name)
{
	const char *path = ctl_string(fixture, "path"), *input = ctl_string(fixture, "input");
	struct shown *x;

	if (!wanted(o, ctl_string(fixture, "name"), name)) {
		free(name);
		return;
	}
	l->all = xrealloc(l->all, (l->n + 1) * sizeof *l->all);
	x = &l->all[l->n++];
	*x = (struct shown){ .name = name,
			     .fd = -1,
			     .variable = shown_variable(name),
			     .has_path = *path,
			     .objects = !strcmp(ctl_string(fixture, "source"), "plugin"),
			     .source = xstrdup(ctl_string(fixture, "source")),
			     .input = xstrdup(input) };
	if (!strcmp(x->source, "directory") || !strcmp(x->source, "tree"))
		x->kind = RUN_TREE;
	if (*path) {
		_cleanup_free_ char *given = NULL, *real = NULL;

		x->path = physical(path);
		given = xstrndup(path, (size_t)(strrchr(path, '/') - path));
		real = xstrndup(x->path, (size_t)(strrchr(x->path, '/') - x->path));
		add_alias(l, given, real);
	} else {
		x->path = xasprintf("%s/fixtures/%s", s->inner, x->variable + strlen("FIXD_FIXTURE_"));
	}
	/* The file that it was read from, or as if it had just been written by whoever asks. */
	if (!*input || stat(input, &x->looks) < 0) {
		x->looks.st_mode = 0644;
		x->looks.st_uid = geteuid();
		x->looks.st_gid = getegid();
		x->looks.st_mtim.tv_nsec = UTIME_OMIT;
	}
}

/* Fixtures that clients build, or that are there for each module or test, have nobody who could ask for them here. */
static void select_fixtures(const json_t *fixtures, const struct run_options *o, const struct scratch *s, struct shown_list *l)
{
	for (size_t k = 0; k < json_array_size(fixtures); k++) {
		const json_t *f = json_array_get(fixtures, k), *params = json_object_get(f, "params");
		const char *name = ctl_string(f, "name");

		if (strcmp(ctl_string(f, "scope"), "session") != 0 || !strcmp(ctl_string(f, "source"), "client"))
			continue;
		for (size_t p = 0; p < json_array_size(params); p++)
			shown_add(l, o, s, f, xasprintf("%s[%s]", name, json_string_value(json_array_get(params, p))));
		if (json_array_size(params) == 0)
			shown_add(l, o, s, f, xstrdup(name));
	}
}

/* Is `fixture` the name before the brackets, or a glob of it? */
static bool is_fixture(const char *name, const char *fixture)
{
	_cleanup_free_ char *plain = xstrndup(name, strcspn(name, "["));

	return !fnmatch(fixture, plain, 0);
}

static int no_such_fixture(const json_t *fixtures, const char *name)
{
	_cleanup_text_ struct text all = { 0 };
	_cleanup_free_ char *question = NULL;

	text_puts(&all, "");
	for (size_t i = 0; i < json_array_size(fixtures); i++)
		text_printf(&all, "%s,", ctl_string(json_array_get(fixtures, i), "name"));
	question = nearest_question(name, all.data);
	fprintf(stderr, "fixctl: --fixture %s: no fixture of scope session that fixd builds is called so%s\n", name, question);
	return EXIT_REFUSED;
}

static int check_selection(const struct shown_list *l, const struct run_options *o, const json_t *fixtures)
{
	for (size_t i = 0; i < l->n; i++) {
		for (size_t k = 0; k < i; k++) {
			if (strcmp(l->all[i].variable, l->all[k].variable) != 0)
				continue;
			fprintf(stderr, "fixctl: '%s' and '%s' would both be $%s; leave one out with --fixture\n", l->all[k].name,
				l->all[i].name, l->all[i].variable);
			return EXIT_REFUSED;
		}
	}
	for (size_t k = 0; o->only && o->only[k]; k++) {
		bool found = false;

		for (size_t i = 0; i < l->n && !found; i++)
			found = !strcmp(o->only[k], l->all[i].name) || !fnmatch(o->only[k], l->all[i].name, 0) ||
				is_fixture(l->all[i].name, o->only[k]);
		if (!found)
			return no_such_fixture(fixtures, o->only[k]);
	}
	return 0;
}

static int retire(struct fixd *f, const char *name)
{
	char body[sizeof(struct wire_cleanup) + 2 * WIRE_NAME_MAX];
	struct wire_cleanup c = { .flags = WIRE_CLEANUP_FORCE, .older_than = -1 };
	json_t *report;
	int code;

	/* In a glob, brackets are a set. */
	for (const char *p = name; *p && c.patterns < 2 * WIRE_NAME_MAX - 1; p++) {
		if (strchr("[]", *p))
			body[sizeof c + c.patterns++] = '\\';
		body[sizeof c + c.patterns++] = *p;
	}
	memcpy(body, &c, sizeof c);
	code = ctl_report(f, WIRE_TYPE_cleanup, body, sizeof c + c.patterns, &report);
	if (code == 0)
		json_decref(report);
	return code;
}

static int retire_all(struct fixd *f, const struct shown_list *l)
{
	int code = 0;

	for (size_t i = 0; code == 0 && i < l->n; i++)
		code = retire(f, l->all[i].name);
	return code;
}

/* "a UID GID ...": of somebody else. */
static bool is_foreign(const char *line)
{
	unsigned uid, gid;

	return sscanf(line, "a %u %u ", &uid, &gid) == 2 && (uid != geteuid() || gid != getegid());
}

/* What its manifest says: are there links in it, and is all of it ours? */
static int read_manifest(struct shown *x, int fd, uint64_t size)
{
	_cleanup_free_ char *text = malloc(size + 1);

	if (!text || fd_pread_all(fd, text, size, 0) != (ssize_t)size)
		return -ENOMEM;
	text[size] = '\0';
	for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n') {
		x->links |= !strncmp(line, "l ", 2);
		x->foreign |= is_foreign(line);
		x->names |= !strncmp(line, "h ", 2);
	}
	return 0;
}

/* The reply's image, and its tree if it is one. */
static int take(struct shown *x, struct reply *reply)
{
	struct wire_attached head = { 0 };
	struct wire_image im;
	struct stat st;
	size_t images;
	int r;

	if (reply->size >= sizeof head)
		memcpy(&head, reply->body, sizeof head);
	images = head.n_images * sizeof im;
	if (head.n_images < 1 || head.n_images != reply->n_fds || reply->size != sizeof head + images + head.path)
		return -EPROTO;
	memcpy(&im, reply->body + sizeof head, sizeof im);
	x->size = im.size;
	x->kind = im.kind == WIRE_IMAGE_TREE ? RUN_TREE : RUN_FILE;
	if (x->kind == RUN_TREE) {
		x->tree = xstrndup(reply->body + sizeof head + images, head.path);
		r = read_manifest(x, reply->fds[0], im.size);
		if (r < 0)
			return r;
		/* As libfixd does: no other daemon removes it when its own has died. */
		x->fd = open(x->tree, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		return x->fd < 0 || flock(x->fd, LOCK_SH | LOCK_NB) < 0 ? -errno : 0;
	}
	x->fd = fcntl(reply->fds[0], F_DUPFD_CLOEXEC, shown_first_fd());
	if (x->fd < 0 || fstat(x->fd, &st) < 0)
		return -errno;
	if (x->looks.st_mtim.tv_nsec == UTIME_OMIT)
		x->looks.st_mtim = st.st_mtim;
	x->looks.st_blocks = st.st_blocks; /* holes are holes in it, too */
	x->looks.st_dev = st.st_dev;
	x->looks.st_ino = st.st_ino;
	return 0;
}

int shown_hold(struct fixd *f, const char *scope_key, int timeout_ms, struct shown *x)
{
	struct reply reply;
	int r = connection_attach(f, x->name, scope_key, 0, timeout_ms, &reply);

	if (r < 0)
		return ctl_failed(f, r);
	r = take(x, &reply);
	reply_close(&reply);
	if (r < 0)
		return ctl_failed(f, fixd_fail_with(f, r, "'%s' cannot be shown: %s", x->name, strerror(-r)));
	return 0;
}

static int build_all(struct fixd *f, const struct run_options *o, const struct shown_list *l)
{
	struct warming w = { .f = f, .n = l->n, .timeout_ms = o->timeout_ms, .out = stderr };
	int code;

	w.names = xcalloc(l->n, sizeof *w.names);
	for (size_t i = 0; i < l->n; i++)
		w.names[i] = l->all[i].name;
	code = warming_run(&w);
	free(w.names);
	return code;
}

int shown_select(struct fixd *f, const struct run_options *o, const struct scratch *s, struct shown_list *out)
{
	json_t *list;
	int code = ctl_query(f, WIRE_TYPE_list, "", &list);

	*out = (struct shown_list){ 0 };
	if (code)
		return code;
	out->root = xstrdup(ctl_string(list, "root"));
	out->region_start = (uint64_t)ctl_int(list, "address_base");
	add_alias_of_here(out);
	select_fixtures(json_object_get(list, "fixtures"), o, s, out);
	code = check_selection(out, o, json_object_get(list, "fixtures"));
	json_decref(list);
	return code;
}

int shown_attach(struct fixd *f, const struct run_options *o, const struct scratch *s, struct shown_list *out)
{
	int code = shown_select(f, o, s, out);

	if (code == 0 && o->fresh && out->n)
		code = retire_all(f, out);
	if (code == 0)
		code = build_all(f, o, out);
	for (size_t i = 0; code == 0 && i < out->n; i++)
		code = shown_hold(f, NULL, o->timeout_ms, &out->all[i]);
	return code;
}

void shown_deinit(struct shown *x)
{
	free(x->name);
	free(x->variable);
	free(x->path);
	free(x->tree);
	free(x->source);
	free(x->input);
	fd_close(x->fd);
}

void shown_free(struct shown_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		shown_deinit(&l->all[i]);
	free(l->all);
	list_free(l->aliases);
	free(l->root);
	*l = (struct shown_list){ 0 };
}
