/* SPDX-License-Identifier: MIT */
/*
 * Trees of any names: a manifest has a line for each entry, its names can be read back, no byte of a name is taken for anything
 * else, and a copy of a copy has the same manifest.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/text.h"
#include "base/tree.h"
#include "image/manifest.h"
#include "input.h"

#define ENTRIES_MAX 12

static char home[64];

void fuzz_end(void)
{
	if (*home)
		tree_remove(home);
	*home = '\0';
}

/* Any bytes but those that no name has. */
static void some_name(struct input *in, char *name)
{
	static const char odd[] = " \\\n\t>-\x7f\x80\xff'\"*.";
	size_t n = 1 + input_u8(in) % 12;

	for (size_t k = 0; k < n; k++) {
		uint8_t c = input_u8(in);

		name[k] = c < 64 ? odd[c % (sizeof odd - 1)] : (char)c;
		if (name[k] == '/' || !name[k])
			name[k] = '_';
	}
	name[n] = '\0';
}

static unsigned fill(int dir, struct input *in, int depth)
{
	unsigned made = 0;

	for (int k = input_u8(in) % ENTRIES_MAX; k > 0 && in->size; k--) {
		uint8_t what = input_u8(in);
		char name[16], target[16];
		int fd = -1, r;

		some_name(in, name);
		if (what < 64 && depth < 3) {
			r = mkdirat(dir, name, 0700 | what % 64);
			fd = r == 0 ? openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
			made += fd >= 0 ? 1 + fill(fd, in, depth + 1) : 0;
		} else if (what < 160) {
			fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600 | what % 64);
			if (fd >= 0 && what % 2)
				fd_write_all(fd, in->at, in->size);
			made += fd >= 0;
		} else {
			some_name(in, target);
			made += symlinkat(target, dir, name) == 0;
		}
		fd_close(fd);
	}
	return made;
}

static int from_octal(const char *p)
{
	return (p[0] - '0') * 64 + (p[1] - '0') * 8 + (p[2] - '0');
}

/* The path of a line as it was; a link's target is checked by the way. */
static void read_line(const char *line, const char *end, char *path, size_t room)
{
	const char *p = line;
	size_t n = 0;

	for (int blanks = 0; blanks < 5; p++) {
		if (p == end)
			abort();
		blanks += *p == ' ';
	}
	for (; p < end && *p != ' ' && n < room - 1; p++) {
		if (*p != '\\') {
			path[n++] = *p;
			continue;
		}
		if (end - p < 4)
			abort();
		path[n++] = (char)from_octal(p + 1);
		p += 3;
	}
	path[n] = '\0';
	if ((p < end) != (*line == 'l') || (p < end && strncmp(p, " -> ", 4) != 0))
		abort();
}

static unsigned check_lines(const char *dir, const struct text *m)
{
	unsigned n = 0;
	const char *end;

	for (const char *p = m->data; p && p < m->data + m->size; p = end + 1, n++) {
		char path[512], whole[700];
		struct stat st;

		end = memchr(p, '\n', (size_t)(m->data + m->size - p));
		if (!end)
			abort();
		read_line(p, end, path, sizeof path);
		snprintf(whole, sizeof whole, "%s/%s", dir, path);
		if (lstat(whole, &st) < 0 || (*p == 'd') != S_ISDIR(st.st_mode) || (*p == 'l') != S_ISLNK(st.st_mode))
			abort();
	}
	return n;
}

static void copy(const char *from, const char *to, struct text *manifest)
{
	char *where = NULL;
	uint64_t bytes;

	if (mkdir(to, 0700) < 0)
		abort();
	if (manifest_copy_tree(from, to, MANIFEST_AS_IS, &(struct manifest_host){ 0 }, manifest, &bytes, &where) < 0)
		abort();
	free(where);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_text_ struct text one = { 0 }, two = { 0 };
	char from[80], to[80], again[80];
	struct input in = { data, size };
	unsigned made;
	int dir;

	if (!*home && !mkdtemp(strcpy(home, "/dev/shm/fixd-fuzz-XXXXXX")))
		abort();
	snprintf(from, sizeof from, "%s/from", home);
	snprintf(to, sizeof to, "%s/to", home);
	snprintf(again, sizeof again, "%s/again", home);
	if (mkdir(from, 0700) < 0 || (dir = open(from, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		abort();
	made = fill(dir, &in, 0);
	close(dir);
	copy(from, to, &one);
	copy(to, again, &two);
	if (check_lines(to, &one) != made || one.size != two.size || (one.size && memcmp(one.data, two.data, one.size) != 0))
		abort();
	tree_remove(from);
	tree_remove(to);
	tree_remove(again);
	return 0;
}
