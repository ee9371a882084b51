/* SPDX-License-Identifier: MIT */
/* Files that sections name as their source: are they there, and what they should be? */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/text.h"
#include "config/config.h"
#include "config/raw.h"

static bool is_elf(const char *path)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	char head[4];

	return fd >= 0 && fd_pread_all(fd, head, sizeof head, 0) == (ssize_t)sizeof head && !memcmp(head, "\177ELF", sizeof head);
}

/* NULL: it can be read, as far as can be seen. */
static const char *wrong_source(const struct fixture *f)
{
	struct stat st;

	if (access(f->what, R_OK) < 0 || stat(f->what, &st) < 0)
		return strerror(errno);
	if (f->source == SOURCE_DIRECTORY)
		return S_ISDIR(st.st_mode) ? NULL : "it is no directory";
	if (S_ISDIR(st.st_mode))
		return "it is a directory";
	return f->source == SOURCE_PLUGIN && !is_elf(f->what) ? "it is no shared library" : NULL;
}

size_t config_check_sources(const struct config *c, struct text *problems)
{
	size_t n = 0;

	for (size_t i = 0; i < c->n_fixtures; i++) {
		const struct fixture *f = c->fixtures[i];
		const char *wrong = source_is_command(f->source) || f->source == SOURCE_CLIENT ? NULL : wrong_source(f);

		if (!wrong)
			continue;
		config_problem(problems, c->file, f->source_line, "[fixture %s] %s = %s cannot be read: %s", f->name,
			       source_name(f->source), f->what, wrong);
		n++;
	}
	return n;
}
