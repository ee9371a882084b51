/* SPDX-License-Identifier: MIT */
#include "fixctl/project.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <fts.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"

/* Data lies near the tests; what is deeper is found by its parent. */
#define DEPTH_MAX 4
#define FILES_MAX 100000
/* Enough of a file that says how tests are started. */
#define MARK_MAX ((size_t)256 << 10)

static const struct {
	struct project_suite suite;
	const char *file, *word; /* it is there, and has that word (NULL: whatever it has) */
} marks[] = {
	{ { "CTest", "ctest --test-dir build" }, "CMakeLists.txt", "enable_testing" },
	{ { "CTest", "ctest --test-dir build" }, "CMakeLists.txt", "include(CTest)" },
	{ { "Meson", "meson test -C build" }, "meson.build", NULL },
	{ { "automake", "make check" }, "Makefile.am", NULL },
	{ { "pytest", "pytest" }, "pytest.ini", NULL },
	{ { "pytest", "pytest" }, "conftest.py", NULL },
	{ { "pytest", "pytest" }, "tests/conftest.py", NULL },
	{ { "pytest", "pytest" }, "pyproject.toml", "pytest" },
	{ { "pytest", "pytest" }, "setup.cfg", "[tool:pytest]" },
	{ { "Cargo", "cargo test" }, "Cargo.toml", NULL },
	{ { "Go", "go test -count=1 ./..." }, "go.mod", NULL },
	{ { "npm", "npm test" }, "package.json", "\"test\"" },
	{ { "Maven", "mvn test" }, "pom.xml", NULL },
	{ { "Gradle", "gradle test" }, "build.gradle", NULL },
	{ { "Gradle", "gradle test" }, "build.gradle.kts", NULL },
	{ { "Rake", "rake test" }, "Rakefile", "test" },
	{ { "RSpec", "rspec" }, ".rspec", NULL },
	{ { "prove", "prove -lr t" }, "Makefile.PL", NULL },
	{ { "prove", "prove -lr t" }, "Build.PL", NULL },
	{ { "prove", "prove -r t" }, "t/*.t", NULL },
	{ { "make", "make check" }, "Makefile", "\ncheck:" },
	{ { "make", "make test" }, "Makefile", "\ntest:" },
};

static bool file_has(const char *directory, const char *file, const char *word)
{
	_cleanup_free_ char *path = xasprintf("%s/%s", directory, file), *text = NULL;
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return false;
	if (!word)
		return true;
	/* The first line begins like any other. */
	text = xcalloc(1, MARK_MAX + 1);
	*text = '\n';
	n = fd_pread_all(fd, text + 1, MARK_MAX, 0);
	return n > 0 && memmem(text, (size_t)n + 1, word, strlen(word));
}

/* `pattern` is DIRECTORY/GLOB, of files. */
static bool has_match(const char *directory, const char *pattern)
{
	const char *name = strrchr(pattern, '/') + 1;
	_cleanup_free_ char *path = xasprintf("%s/%.*s", directory, (int)(name - pattern), pattern);
	DIR *d = opendir(path);
	bool found = false;

	if (!d)
		return false;
	for (struct dirent *e = readdir(d); e && !found; e = readdir(d))
		found = fnmatch(name, e->d_name, FNM_PERIOD) == 0;
	closedir(d);
	return found;
}

/* One that is started alike, or by the same tool, is found already. */
static bool has_suite(const struct project *p, const struct project_suite *suite)
{
	for (size_t k = 0; k < p->n_suites; k++) {
		if (!strcmp(p->suites[k]->name, suite->name) || !strcmp(p->suites[k]->command, suite->command))
			return true;
	}
	return false;
}

static void find_suites(struct project *p, const char *directory)
{
	for (size_t k = 0; k < ELEMENTSOF(marks) && p->n_suites < ELEMENTSOF(p->suites); k++) {
		const char *file = marks[k].file;

		if (!has_suite(p, &marks[k].suite) &&
		    (strchr(file, '*') ? has_match(directory, file) : file_has(directory, file, marks[k].word)))
			p->suites[p->n_suites++] = &marks[k].suite;
	}
}

static bool is_one_of(const char *name, const char *const *names, size_t n)
{
	for (size_t k = 0; k < n; k++) {
		if (!strcasecmp(name, names[k]))
			return true;
	}
	return false;
}

static bool is_data(const char *name)
{
	static const char *const names[] = { "data",	 "testdata", "test-data", "test_data", "fixtures", "corpus",   "corpora",
					     "datasets", "samples",  "golden",	  "resources", "assets",   "snapshots" };

	return is_one_of(name, names, ELEMENTSOF(names));
}

static bool is_passed_over(const char *name)
{
	static const char *const names[] = { "build",  "builddir", "_build", "target",	   "node_modules",
					     "vendor", "venv",	   "dist",   "__pycache__" };

	return name[0] == '.' || is_one_of(name, names, ELEMENTSOF(names)) || !strncmp(name, "cmake-build-", 12);
}

/* In the file it means itself: nothing in it begins a comment, ends a value or stands for something else. */
static bool is_plain(const char *path)
{
	for (const char *c = path; *c; c++) {
		bool letter = isalnum((unsigned char)*c) || (unsigned char)*c >= 0x80;

		if (!letter && !(*c == ' ' && c > path && c[1]) && !strchr("/._+@-", *c))
			return false;
	}
	return true;
}

static char *name_of(const char *path)
{
	char *name = xstrdup(path);

	for (char *c = name; *c; c++) {
		if (!isalnum((unsigned char)*c) && !strchr("._-", *c))
			*c = '-';
	}
	return name;
}

/* Tests would have both in one variable, in which all but letters and digits are alike. */
static bool is_alike(const char *a, const char *b)
{
	for (; *a && *b; a++, b++) {
		if ((isalnum((unsigned char)*a) || isalnum((unsigned char)*b)) && toupper((unsigned char)*a) != toupper((unsigned char)*b))
			return false;
	}
	return *a == *b;
}

static bool has_name(const struct project *p, const char *name)
{
	for (size_t k = 0; k < p->n_data; k++) {
		if (is_alike(p->data[k].name, name))
			return true;
	}
	return false;
}

/* Of its path, with a number if another one is called alike; to be freed. */
static char *free_name(const struct project *p, const char *path)
{
	char *first = name_of(path), *name = xstrdup(first);

	for (unsigned k = 2; has_name(p, name); k++) {
		free(name);
		name = xasprintf("%s-%u", first, k);
	}
	free(first);
	return name;
}

static void add_data(struct project *p, const char *path)
{
	if (!is_plain(path) || strlen(path) > 100)
		return;
	p->data = xrealloc(p->data, (p->n_data + 1) * sizeof *p->data);
	p->data[p->n_data] = (struct project_data){ .path = xstrdup(path), .name = free_name(p, path) };
	p->n_data++;
}

/* Of the directory of data that the walk is in. */
static void project_count(struct project_data *d, const FTSENT *e)
{
	if (e->fts_info != FTS_F)
		return;
	d->files++;
	d->bytes += (uint64_t)e->fts_statp->st_size;
}

static int project_by_name(const FTSENT **a, const FTSENT **b)
{
	return strcmp((*a)->fts_name, (*b)->fts_name);
}

static void forget_last(struct project *p)
{
	struct project_data *d = &p->data[--p->n_data];

	free(d->path);
	free(d->name);
}

/* In no directory of data yet. True: this is one, and its number is n_data - 1. */
static bool enter(struct project *p, FTS *walk, FTSENT *e, size_t root)
{
	size_t before = p->n_data;

	if (e->fts_level == 0)
		return false;
	if (is_passed_over(e->fts_name) || e->fts_level > DEPTH_MAX) {
		fts_set(walk, e, FTS_SKIP);
		return false;
	}
	if (is_data(e->fts_name))
		add_data(p, e->fts_path + root);
	return p->n_data > before;
}

static void find_data(struct project *p, FTS *walk, size_t root)
{
	int inside = 0; /* level of the directory of data */

	for (FTSENT *e = fts_read(walk); e; e = fts_read(walk)) {
		struct project_data *d = inside ? &p->data[p->n_data - 1] : NULL;

		if (e->fts_info == FTS_D && !inside && enter(p, walk, e, root)) {
			inside = e->fts_level;
		} else if (d && e->fts_info == FTS_DP && e->fts_level == inside) {
			inside = 0;
			if (d->files == 0)
				forget_last(p);
		} else if (d && d->files < FILES_MAX) {
			project_count(d, e);
		}
	}
}

int project_find(struct project *p, const char *directory)
{
	char *const roots[] = { (char *)directory, NULL };
	FTS *walk;

	*p = (struct project){ 0 };
	if (access(directory, R_OK | X_OK) < 0)
		return -errno;
	find_suites(p, directory);
	walk = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR | FTS_XDEV, project_by_name);
	if (!walk)
		return -errno;
	find_data(p, walk, strlen(directory) + (directory[strlen(directory) - 1] != '/'));
	fts_close(walk);
	return 0;
}

void project_deinit(struct project *p)
{
	while (p->n_data)
		forget_last(p);
	free(p->data);
}
