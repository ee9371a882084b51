/* SPDX-License-Identifier: MIT */
/*
 * Users, groups, hosts and the like: libc opens their files by itself. Where one of them is a fixture, libnss_fixd.so.2 (src/nss) stands
 * for "files" among the sources that nsswitch.conf(5) names; the others are asked as before.
 */
#include "preload/shim.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <dlfcn.h>
#include <grp.h>
#include <netdb.h>
#include <nss.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MODULE "libnss_fixd.so.2"

/* What libc takes where the file does not say. */
static const struct database {
	const char *name, *path, *otherwise;
} databases[] = {
	{ "passwd", "/etc/passwd", "files" },
	{ "group", "/etc/group", "files" },
	{ "shadow", "/etc/shadow", "files" },
	{ "gshadow", "/etc/gshadow", "files" },
	{ "hosts", "/etc/hosts", "dns [!UNAVAIL=return] files" },
	{ "services", "/etc/services", "files" },
	{ "protocols", "/etc/protocols", "files" },
	{ "networks", "/etc/networks", "files" },
	{ "rpc", "/etc/rpc", "files" },
};

#define N_DATABASES (sizeof databases / sizeof *databases)

/* The sources of `d`, from the last line that is about it; NULL: none is. */
static char *read_sources(const struct database *d)
{
	FILE *f = SEEN(fopen)("/etc/nsswitch.conf", "re");
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

/* `sources` with the module in the place of libc's own. */
static void replace_files(const char *sources, char *out, size_t size)
{
	char *end = out + size;

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
		sources += n;
	}
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

void nss_begin(void)
{
	bool loaded = false;

	for (size_t i = 0; i < N_DATABASES; i++) {
		const struct database *d = &databases[i];
		char *sources, line[1024];

		if (!is_inside(AT_FDCWD, d->path) || !(loaded || (loaded = load_module())))
			continue;
		sources = read_sources(d);
		replace_files(sources ? sources : d->otherwise, line, sizeof line);
		free(sources);
		__nss_configure_lookup(d->name, line);
	}
}

/* What the library stands in the place of. */

static bool nss_is_inside(const char *path)
{
	return run && is_inside(AT_FDCWD, path);
}

#define PASSWD "/etc/passwd"
#define GROUP "/etc/group"
#define HOSTS "/etc/hosts"

/*
 * The functions of one file: `type` is its structure, fget##X##ent_r() reads an entry. A name or number is looked for from the start;
 * the static ones have a buffer of their own, which grows.
 */
#define DATABASE(X, type, file, number_type, name_field, number_field, by_name, by_number)                                                \
	static FILE *X##_stream;                                                                                                          \
	static struct type X##_static;                                                                                                    \
	static char *X##_buffer;                                                                                                          \
	static size_t X##_size;                                                                                                           \
                                                                                                                                          \
	static int X##_find(const char *name, number_type number, struct type *out, char *buf, size_t size, struct type **result)         \
	{                                                                                                                                 \
		FILE *f = SEEN(fopen)(file, "re");                                                                                        \
		int saved = errno, r = f ? 0 : errno;                                                                                     \
                                                                                                                                          \
		*result = NULL;                                                                                                           \
		while (f && (r = fget##X##ent_r(f, out, buf, size, result)) == 0) {                                                       \
			if (name ? !strcmp(out->name_field, name) : out->number_field == number)                                          \
				break;                                                                                                    \
		}                                                                                                                         \
		if (r != 0)                                                                                                               \
			*result = NULL;                                                                                                   \
		if (f)                                                                                                                    \
			SEEN(fclose)(f);                                                                                                  \
		errno = saved;                                                                                                            \
		return r == ENOENT ? 0 : r;                                                                                               \
	}                                                                                                                                 \
                                                                                                                                          \
	static bool X##_grow(void)                                                                                                        \
	{                                                                                                                                 \
		size_t size = X##_size ? 2 * X##_size : 1024;                                                                             \
		char *more = realloc(X##_buffer, size);                                                                                   \
                                                                                                                                          \
		X##_buffer = more ? more : X##_buffer;                                                                                    \
		X##_size = more ? size : X##_size;                                                                                        \
		return more;                                                                                                              \
	}                                                                                                                                 \
                                                                                                                                          \
	static struct type *X##_find_static(const char *name, number_type number)                                                         \
	{                                                                                                                                 \
		struct type *result = NULL;                                                                                               \
		int r = ERANGE;                                                                                                           \
                                                                                                                                          \
		/* One that was too long is looked for again. */                                                                          \
		for (bool fits = X##_size || X##_grow(); r == ERANGE && fits; fits = r != ERANGE || X##_grow())                           \
			r = X##_find(name, number, &X##_static, X##_buffer, X##_size, &result);                                           \
		if (r)                                                                                                                    \
			errno = r;                                                                                                        \
		return result;                                                                                                            \
	}                                                                                                                                 \
                                                                                                                                          \
	SHIM int by_name##_r(const char *name, struct type *out, char *buf, size_t size, struct type **result)                            \
	{                                                                                                                                 \
		return nss_is_inside(file) ? X##_find(name, 0, out, buf, size, result) : REAL(by_name##_r)(name, out, buf, size, result); \
	}                                                                                                                                 \
                                                                                                                                          \
	SHIM int by_number##_r(number_type number, struct type *out, char *buf, size_t size, struct type **result)                        \
	{                                                                                                                                 \
		return nss_is_inside(file) ? X##_find(NULL, number, out, buf, size, result)                                               \
					   : REAL(by_number##_r)(number, out, buf, size, result);                                         \
	}                                                                                                                                 \
                                                                                                                                          \
	SHIM struct type *by_name(const char *name)                                                                                       \
	{                                                                                                                                 \
		return nss_is_inside(file) ? X##_find_static(name, 0) : REAL(by_name)(name);                                              \
	}                                                                                                                                 \
                                                                                                                                          \
	SHIM struct type *by_number(number_type number)                                                                                   \
	{                                                                                                                                 \
		return nss_is_inside(file) ? X##_find_static(NULL, number) : REAL(by_number)(number);                                     \
	}                                                                                                                                 \
                                                                                                                                          \
	SHIM void set##X##ent(void)                                                                                                       \
	{                                                                                                                                 \
		if (X##_stream)                                                                                                           \
			rewind(X##_stream);                                                                                               \
		else                                                                                                                      \
			REAL(set##X##ent)();                                                                                              \
	}                                                                                                                                 \
                                                                                                                                          \
	SHIM void end##X##ent(void)                                                                                                       \
	{                                                                                                                                 \
		if (X##_stream)                                                                                                           \
			SEEN(fclose)(X##_stream);                                                                                         \
		else                                                                                                                      \
			REAL(end##X##ent)();                                                                                              \
		X##_stream = NULL;                                                                                                        \
	}                                                                                                                                 \
                                                                                                                                          \
	SHIM int get##X##ent_r(struct type *out, char *buf, size_t size, struct type **result)                                            \
	{                                                                                                                                 \
		if (!nss_is_inside(file))                                                                                                 \
			return REAL(get##X##ent_r)(out, buf, size, result);                                                               \
		if (!X##_stream && !(X##_stream = SEEN(fopen)(file, "re")))                                                               \
			return errno;                                                                                                     \
		return fget##X##ent_r(X##_stream, out, buf, size, result);                                                                \
	}                                                                                                                                 \
                                                                                                                                          \
	SHIM struct type *get##X##ent(void)                                                                                               \
	{                                                                                                                                 \
		struct type *result = NULL;                                                                                               \
		int r = ERANGE;                                                                                                           \
                                                                                                                                          \
		if (!nss_is_inside(file))                                                                                                 \
			return REAL(get##X##ent)();                                                                                       \
		/* An entry that was too long is read again. */                                                                           \
		for (bool fits = X##_size || X##_grow(); r == ERANGE && fits; fits = r != ERANGE || X##_grow())                           \
			r = get##X##ent_r(&X##_static, X##_buffer, X##_size, &result);                                                    \
		return r == 0 ? result : NULL;                                                                                            \
	}

DATABASE(pw, passwd, PASSWD, uid_t, pw_name, pw_uid, getpwnam, getpwuid)
DATABASE(gr, group, GROUP, gid_t, gr_name, gr_gid, getgrnam, getgrgid)

static bool is_member(const struct group *g, const char *user)
{
	for (char **m = g->gr_mem; *m; m++) {
		if (!strcmp(*m, user))
			return true;
	}
	return false;
}

SHIM int getgrouplist(const char *user, gid_t first, gid_t *groups, int *n)
{
	char buf[16384];
	struct group g, *found;
	int had = *n, count = 1;
	FILE *f = nss_is_inside(GROUP) ? SEEN(fopen)(GROUP, "re") : NULL;

	if (!f)
		return REAL(getgrouplist)(user, first, groups, n);
	if (had > 0)
		groups[0] = first;
	while (fgetgrent_r(f, &g, buf, sizeof buf, &found) == 0) {
		if (g.gr_gid == first || !is_member(&g, user))
			continue;
		if (count < had)
			groups[count] = g.gr_gid;
		count++;
	}
	SEEN(fclose)(f);
	*n = count;
	return count <= had ? count : -1;
}

SHIM int initgroups(const char *user, gid_t first)
{
	gid_t groups[NGROUPS_MAX > 1024 ? 1024 : NGROUPS_MAX];
	int n = (int)(sizeof groups / sizeof *groups);

	if (!nss_is_inside(GROUP))
		return REAL(initgroups)(user, first);
	return SEEN(getgrouplist)(user, first, groups, &n) < 0 ? (errno = E2BIG, -1) : setgroups((size_t)n, groups);
}

/* Hosts. */

#define ADDRESSES_MAX 16

/* A line of the file: an address and its names, each ended by NUL; the last one is empty. */
struct host {
	int family;
	unsigned char address[16];
	char names[1024];
};

static bool parse_host(char *line, struct host *h)
{
	char *end = h->names, *save, *word;

	line[strcspn(line, "#\n")] = '\0';
	word = strtok_r(line, " \t", &save);
	if (!word)
		return false;
	h->family = inet_pton(AF_INET, word, h->address) == 1 ? AF_INET : inet_pton(AF_INET6, word, h->address) == 1 ? AF_INET6 : AF_UNSPEC;
	while ((word = strtok_r(NULL, " \t", &save)) && end + strlen(word) + 2 < h->names + sizeof h->names)
		end = stpcpy(end, word) + 1;
	*end = '\0';
	return h->family != AF_UNSPEC && *h->names;
}

static bool has_name(const struct host *h, const char *name)
{
	for (const char *p = h->names; *p; p += strlen(p) + 1) {
		if (!strcasecmp(p, name))
			return true;
	}
	return false;
}

/* Of that family, or of any (AF_UNSPEC), by name or by address: how many, at most ADDRESSES_MAX. */
static size_t find_hosts(const char *name, const void *address, int family, struct host *out)
{
	FILE *f = SEEN(fopen)(HOSTS, "re");
	char line[2048];
	size_t n = 0;

	while (f && n < ADDRESSES_MAX && fgets(line, sizeof line, f)) {
		struct host *h = &out[n];

		if (parse_host(line, h) && (family == AF_UNSPEC || h->family == family) &&
		    (name ? has_name(h, name) : !memcmp(h->address, address, family == AF_INET ? 4 : 16)))
			n++;
	}
	if (f)
		SEEN(fclose)(f);
	return n;
}

/* Pointers and bytes in the caller's buffer. */
struct room {
	char *at;
	size_t left;
};

static void *take_room(struct room *r, size_t size, size_t align)
{
	size_t skip = (align - (uintptr_t)r->at % align) % align;
	char *p = r->at + skip;

	if (skip + size > r->left)
		return NULL;
	r->at = p + size;
	r->left -= skip + size;
	return p;
}

static int fill_hostent(const struct host *all, size_t n, struct hostent *out, struct room r)
{
	size_t length = all->family == AF_INET ? 4 : 16, aliases = 0;
	char **names, **addresses = take_room(&r, (n + 1) * sizeof *addresses, sizeof(void *));

	for (const char *p = all->names; *p; p += strlen(p) + 1)
		aliases++;
	names = take_room(&r, aliases * sizeof *names, sizeof(void *));
	if (!addresses || !names)
		return ERANGE;
	*out = (struct hostent){ .h_aliases = names, .h_addrtype = all->family, .h_length = (int)length, .h_addr_list = addresses };
	for (const char *p = all->names; *p; p += strlen(p) + 1) {
		char *copy = take_room(&r, strlen(p) + 1, 1);

		if (!copy)
			return ERANGE;
		strcpy(copy, p);
		if (!out->h_name)
			out->h_name = copy;
		else
			*names++ = copy;
	}
	*names = NULL;
	for (size_t i = 0; i < n; i++) {
		addresses[i] = take_room(&r, length, 8);
		if (!addresses[i])
			return ERANGE;
		memcpy(addresses[i], all[i].address, length);
	}
	addresses[n] = NULL;
	return 0;
}

static APART int hosts_by_name(const char *name, int family, struct hostent *out, char *buf, size_t size, struct hostent **result)
{
	struct host found[ADDRESSES_MAX];
	size_t n = find_hosts(name, NULL, family, found);
	int r = n ? fill_hostent(found, n, out, (struct room){ buf, size }) : -1;

	*result = r == 0 ? out : NULL;
	return r;
}

SHIM int gethostbyname2_r(const char *name, int family, struct hostent *out, char *buf, size_t size, struct hostent **result, int *err)
{
	int r = nss_is_inside(HOSTS) ? hosts_by_name(name, family, out, buf, size, result) : -1;

	if (r < 0)
		return REAL(gethostbyname2_r)(name, family, out, buf, size, result, err);
	if (r == ERANGE)
		*err = NETDB_INTERNAL;
	return r;
}

SHIM int gethostbyname_r(const char *name, struct hostent *out, char *buf, size_t size, struct hostent **result, int *err)
{
	int r = nss_is_inside(HOSTS) ? hosts_by_name(name, AF_INET, out, buf, size, result) : -1;

	if (r < 0)
		return REAL(gethostbyname_r)(name, out, buf, size, result, err);
	if (r == ERANGE)
		*err = NETDB_INTERNAL;
	return r;
}

/* Of those that give back what is theirs. */
struct static_host {
	struct hostent host;
	char buffer[4096];
};

static struct static_host *static_host(void)
{
	static _Atomic(void *) large;

	return large_get(&large, sizeof(struct static_host));
}

SHIM struct hostent *gethostbyname2(const char *name, int family)
{
	struct static_host *x = nss_is_inside(HOSTS) ? static_host() : NULL;
	struct hostent *result = NULL;

	if (x && hosts_by_name(name, family, &x->host, x->buffer, sizeof x->buffer, &result) == 0)
		return result;
	return REAL(gethostbyname2)(name, family);
}

SHIM struct hostent *gethostbyname(const char *name)
{
	struct static_host *x = nss_is_inside(HOSTS) ? static_host() : NULL;
	struct hostent *result = NULL;

	if (x && hosts_by_name(name, AF_INET, &x->host, x->buffer, sizeof x->buffer, &result) == 0)
		return result;
	return REAL(gethostbyname)(name);
}

/* -1: the file does not have it. */
static APART int host_by_address(const void *address, socklen_t length, int family, struct hostent *out, char *buf, size_t size,
				 struct hostent **result)
{
	struct host found[ADDRESSES_MAX];
	size_t n = length == (family == AF_INET ? 4 : 16) ? find_hosts(NULL, address, family, found) : 0;
	int r = n ? fill_hostent(found, 1, out, (struct room){ buf, size }) : -1;

	*result = r == 0 ? out : NULL;
	return r;
}

SHIM int gethostbyaddr_r(const void *address, socklen_t length, int family, struct hostent *out, char *buf, size_t size,
			 struct hostent **result, int *err)
{
	int r = nss_is_inside(HOSTS) ? host_by_address(address, length, family, out, buf, size, result) : -1;

	if (r < 0)
		return REAL(gethostbyaddr_r)(address, length, family, out, buf, size, result, err);
	if (r == ERANGE)
		*err = NETDB_INTERNAL;
	return r;
}

SHIM struct hostent *gethostbyaddr(const void *address, socklen_t length, int family)
{
	struct static_host *x = nss_is_inside(HOSTS) ? static_host() : NULL;
	struct hostent *result = NULL;

	if (x && host_by_address(address, length, family, &x->host, x->buffer, sizeof x->buffer, &result) == 0)
		return result;
	return REAL(gethostbyaddr)(address, length, family);
}

/* Each address as if it had been given as a number; the list is libc's, and freed by it. */
static APART int addresses_of(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **out)
{
	struct addrinfo plain = hints ? *hints : (struct addrinfo){ .ai_flags = AI_V4MAPPED | AI_ADDRCONFIG }, **end = out;
	struct host found[ADDRESSES_MAX];
	size_t n = find_hosts(name, NULL, plain.ai_family, found);

	*out = NULL;
	plain.ai_flags = (plain.ai_flags | AI_NUMERICHOST) & ~(AI_CANONNAME | AI_ADDRCONFIG);
	for (size_t i = 0; i < n; i++) {
		char number[INET6_ADDRSTRLEN];
		int r;

		inet_ntop(found[i].family, found[i].address, number, sizeof number);
		r = REAL(getaddrinfo)(number, service, &plain, end);
		if (r != 0) {
			if (*out)
				freeaddrinfo(*out);
			return r;
		}
		while (*end)
			end = &(*end)->ai_next;
	}
	if (*out && hints && (hints->ai_flags & AI_CANONNAME))
		(*out)->ai_canonname = strdup(found[0].names);
	return n ? 0 : EAI_NONAME;
}

SHIM int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **out)
{
	if (name && nss_is_inside(HOSTS) && !(hints && (hints->ai_flags & AI_NUMERICHOST)) && addresses_of(name, service, hints, out) == 0)
		return 0;
	return REAL(getaddrinfo)(name, service, hints, out);
}
