/* SPDX-License-Identifier: MIT */
/*
 * Users, groups, hosts and the like: libc opens their files by itself. Where one of them is a fixture, libnss_fixd.so.2 (src/nss) stands
 * for "files" among the sources that nsswitch.conf(5) names; the others are asked as before.
 */
#include "preload/shim.h"

#include <dlfcn.h>
#include <nss.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MODULE "libnss_fixd.so.2"

#define CONFIGURATION "/etc/nsswitch.conf"

/* What libc takes where that does not say (since 2.35); NULL: what is there for "group". */
static const struct database {
	const char *name, *path, *otherwise;
} databases[] = {
	{ "passwd", "/etc/passwd", "files" },	  { "group", "/etc/group", "files" },	      { "initgroups", "/etc/group", NULL },
	{ "shadow", "/etc/shadow", "files" },	  { "gshadow", "/etc/gshadow", "files" },     { "hosts", "/etc/hosts", "files dns" },
	{ "services", "/etc/services", "files" }, { "protocols", "/etc/protocols", "files" }, { "networks", "/etc/networks", "files" },
	{ "rpc", "/etc/rpc", "files" },
};

#define N_DATABASES (sizeof databases / sizeof *databases)

/* The sources of `d`, from the last line that is about it; NULL: none is. */
static char *read_sources(const struct database *d)
{
	FILE *f = SEEN(fopen)(CONFIGURATION, "re");
	size_t room = 0, n = strlen(d->name);
	char *line = NULL, *sources = NULL;

	while (f && getline(&line, &room, f) > 0) {
		const char *p = line + strspn(line, " \t");

		if (strncmp(p, d->name, n) != 0)
			continue;
		p += n + strspn(p + n, " \t");
		if (*p != ':')
			continue;
		line[strcspn(line, "#\n")] = '\0';
		free(sources);
		sources = strdup(p + 1);
	}
	free(line);
	if (f)
		SEEN(fclose)(f);
	return sources;
}

/* `sources` with the module in the place of libc's own. False: that is none of them. */
static bool replace_files(const char *sources, char *out, size_t size)
{
	char *end = out + size;
	bool replaced = false;

	*out = '\0';
	while (*sources && out < end) {
		size_t n = strcspn(sources, " \t[");
		bool own = (n == strlen("files") && !strncmp(sources, "files", n)) ||
			   (n == strlen("compat") && !strncmp(sources, "compat", n));

		if (n == 0)
			n = *sources == '[' ? strcspn(sources, "]") : strspn(sources, " \t");
		if (*sources == '[' && sources[n])
			n++;
		out += snprintf(out, (size_t)(end - out), "%.*s", own ? (int)strlen("fixd") : (int)n, own ? "fixd" : sources);
		replaced |= own;
		sources += n;
	}
	return replaced;
}

/* Beside this library: libc finds it by its name then. */
static bool load_module(void)
{
	char path[PATH_MAX];
	Dl_info here;
	const char *slash = REAL(dladdr)(databases, &here) && here.dli_fname ? strrchr(here.dli_fname, '/') : NULL;
	int n = slash ? snprintf(path, sizeof path, "%.*s/" MODULE, (int)(slash - here.dli_fname), here.dli_fname) : -1;

	return n > 0 && (size_t)n < sizeof path && REAL(dlopen)(path, RTLD_NOW | RTLD_LOCAL);
}

#define LINE 1024

/* What libc is to be told instead of `sources`. */
static const char *sources_in_a_run(const struct database *d, const char *sources, char line[LINE])
{
	static bool loaded;

	if (!is_inside(AT_FDCWD, d->path) || !replace_files(sources, line, LINE) || !(loaded || (loaded = load_module())))
		return sources;
	return line;
}

void nss_begin(void)
{
	bool configured = is_inside(AT_FDCWD, CONFIGURATION);

	for (size_t i = 0; i < N_DATABASES; i++) {
		const struct database *d = &databases[i];
		const char *before, *now;
		char *sources, line[LINE];

		if (!configured && !is_inside(AT_FDCWD, d->path))
			continue;
		sources = read_sources(d);
		before = sources ? sources : d->otherwise;
		now = before ? sources_in_a_run(d, before, line) : NULL;
		/* libc does not bear a line without any source: there is no such one. */
		if (now && (now != before || configured))
			REAL(__nss_configure_lookup)(d->name, now[strspn(now, " \t")] ? now : "none");
		free(sources);
	}
}

/* As `getent -s files` does. */
SHIM int __nss_configure_lookup(const char *name, const char *sources)
{
	char line[LINE];

	for (size_t i = 0; run && name && sources && i < N_DATABASES; i++) {
		if (!strcmp(databases[i].name, name))
			sources = sources_in_a_run(&databases[i], sources, line);
	}
	return REAL(__nss_configure_lookup)(name, sources);
}
