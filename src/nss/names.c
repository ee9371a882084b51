/* SPDX-License-Identifier: MIT */
/* Hosts, services, protocols, networks and remote procedures: a name, what it stands for, and other names, in a line each. */
#include "nss/database.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <rpc/netdb.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* The caller's buffer, from which a result takes what its pointers point to. */
struct room {
	char *at;
	size_t left;
};

/* NULL: there is not so much. */
static void *room_take(struct room *r, size_t size, size_t align)
{
	size_t skip = (align - (uintptr_t)r->at % align) % align;
	char *p = r->at + skip;

	if (skip + size > r->left)
		return NULL;
	r->at = p + size;
	r->left -= skip + size;
	return p;
}

static const char blanks[] = " \t\r\n\v\f";

static size_t count_words(const char *line, size_t length)
{
	size_t n = 0;

	for (const char *p = line + strspn(line, blanks); p < line + length; p += strspn(p, blanks)) {
		p += strcspn(p, blanks);
		n++;
	}
	return n;
}

/* The words of a line, in `r`; NULL behind the last one. The number of them, or -ERANGE. */
static int split(const char *line, struct room *r, char ***words)
{
	size_t length = strcspn(line, "#\n");
	char *copy = room_take(r, length + 1, 1), *rest, *word;
	int n = 0;

	*words = copy ? room_take(r, (count_words(line, length) + 1) * sizeof **words, sizeof(char *)) : NULL;
	if (!*words)
		return -ERANGE;
	memcpy(copy, line, length);
	copy[length] = '\0';
	for (word = strtok_r(copy, blanks, &rest); word; word = strtok_r(NULL, blanks, &rest))
		(*words)[n++] = word;
	(*words)[n] = NULL;
	return n;
}

/* An entry of words, at least one: 0, ENOENT: they are none, ERANGE. */
typedef int make_entry(char **words, struct room *r, void *out);

/* 0, and the entry has taken of `r`; ENOENT at the end; ERANGE where that is too small: the same line comes again then. */
static int next_line(FILE *f, make_entry *make, void *out, struct room *r)
{
	char *line = NULL;
	size_t length = 0;
	long before = ftell(f);
	int e = ENOENT;

	for (; e == ENOENT && getline(&line, &length, f) > 0; before = e == ENOENT ? ftell(f) : before) {
		struct room room = *r;
		char **words;
		int n = split(line, &room, &words);

		e = n < 0 ? ERANGE : n == 0 ? ENOENT : make(words, &room, out);
		if (e == 0)
			*r = room;
	}
	free(line);
	return e == ERANGE && fseek(f, before, SEEK_SET) < 0 ? errno : e;
}

/* A word of digits, as libc's own source takes it. *end: what stands behind them. */
static bool take_number(char *word, int base, uint32_t *n, char **end)
{
	unsigned long number = word ? strtoul(word, end, base) : 0;

	*n = (uint32_t)number;
	return word && *end != word && *word != '-' && number <= UINT32_MAX;
}

static bool has_name(const char *name, const char *first, char *const *others)
{
	bool found = !strcmp(first, name);

	while (!found && *others)
		found = !strcmp(*others++, name);
	return found;
}

static bool has_name_of_any_case(const char *name, const char *first, char *const *others)
{
	bool found = !strcasecmp(first, name);

	while (!found && *others)
		found = !strcasecmp(*others++, name);
	return found;
}

/* next_X() for WALK and FIND, and the walk itself. */
#define EACH(X, type, file)                                                      \
	static int next_##X(FILE *f, struct type *out, char *buf, size_t size)   \
	{                                                                        \
		return next_line(f, make_##X, out, &(struct room){ buf, size }); \
	}                                                                        \
                                                                                 \
	WALK(X, type, file, next_##X)

#define GET_EACH(X, type)                                                      \
	NSS(get##X##ent_r, struct type *out, char *buf, size_t size, int *err) \
	{                                                                      \
		return X##_walk(out, buf, size, err);                          \
	}

/* Services. */

#define SERVICES "/etc/services"

/* "80/tcp"; without a protocol only at the end of the line. */
static int make_serv(char **words, struct room *r, void *out)
{
	struct servent *s = out;
	char *proto;
	uint32_t port;

	(void)r;
	if (!take_number(words[1], 0, &port, &proto) || (*proto != '/' && (*proto || words[2])))
		return ENOENT;
	proto += strspn(proto, "/");
	*s = (struct servent){ .s_name = words[0], .s_aliases = words + 2, .s_port = htons((uint16_t)port), .s_proto = proto };
	return 0;
}

EACH(serv, servent, SERVICES)
GET_EACH(serv, servent)

NSS(getservbyname_r, const char *name, const char *proto, struct servent *out, char *buf, size_t size, int *err)
{
	FIND(SERVICES, next_serv, has_name(name, out->s_name, out->s_aliases) && (!proto || !strcmp(proto, out->s_proto)));
}

NSS(getservbyport_r, int port, const char *proto, struct servent *out, char *buf, size_t size, int *err)
{
	FIND(SERVICES, next_serv, out->s_port == port && (!proto || !strcmp(proto, out->s_proto)));
}

/* Protocols, and remote procedures: a name and a number. */
#define NUMBERED(X, type, file, name_field, aliases_field, number_field)                                                   \
	static int make_##X(char **words, struct room *r, void *out)                                                       \
	{                                                                                                                  \
		struct type *entry = out;                                                                                  \
		uint32_t number;                                                                                           \
		char *end;                                                                                                 \
                                                                                                                           \
		(void)r;                                                                                                   \
		if (!take_number(words[1], 10, &number, &end) || *end)                                                     \
			return ENOENT;                                                                                     \
		*entry = (struct type){ .name_field = words[0], .aliases_field = words + 2, .number_field = (int)number }; \
		return 0;                                                                                                  \
	}                                                                                                                  \
                                                                                                                           \
	EACH(X, type, file)                                                                                                \
	GET_EACH(X, type)                                                                                                  \
                                                                                                                           \
	NSS(get##X##byname_r, const char *name, struct type *out, char *buf, size_t size, int *err)                        \
	{                                                                                                                  \
		FIND(file, next_##X, has_name(name, out->name_field, out->aliases_field));                                 \
	}                                                                                                                  \
                                                                                                                           \
	NSS(get##X##bynumber_r, int number, struct type *out, char *buf, size_t size, int *err)                            \
	{                                                                                                                  \
		FIND(file, next_##X, out->number_field == number);                                                         \
	}

NUMBERED(proto, protoent, "/etc/protocols", p_name, p_aliases, p_proto)
NUMBERED(rpc, rpcent, "/etc/rpc", r_name, r_aliases, r_number)

/* Networks. */

#define NETWORKS "/etc/networks"

/* inet_network() takes a number of fewer than four parts for the last ones of an address, the file means the first. */
static int make_net(char **words, struct room *r, void *out)
{
	char whole[sizeof "255.255.255.255"];
	struct netent *n = out;
	int parts = 1;

	(void)r;
	if (!words[1])
		return ENOENT;
	snprintf(whole, sizeof whole, "%s", words[1]);
	for (const char *p = whole; *p; p++)
		parts += *p == '.';
	for (; parts < 4 && strlen(whole) + 2 < sizeof whole; parts++)
		strcat(whole, ".0");
	*n = (struct netent){ .n_name = words[0], .n_aliases = words + 2, .n_addrtype = AF_INET, .n_net = inet_network(whole) };
	return 0;
}

EACH(net, netent, NETWORKS)

/* Those of hosts and networks tell of a failure twice. */
static enum nss_status tell_of_host(enum nss_status status, int *of_host)
{
	if (status != NSS_STATUS_SUCCESS)
		*of_host = status == NSS_STATUS_NOTFOUND ? HOST_NOT_FOUND : NETDB_INTERNAL;
	return status;
}

static enum nss_status net_by_name(const char *name, struct netent *out, char *buf, size_t size, int *err)
{
	FIND(NETWORKS, next_net, has_name_of_any_case(name, out->n_name, out->n_aliases));
}

static enum nss_status net_by_number(uint32_t net, int type, struct netent *out, char *buf, size_t size, int *err)
{
	FIND(NETWORKS, next_net, out->n_net == net && (type == AF_UNSPEC || type == out->n_addrtype));
}

NSS(getnetbyname_r, const char *name, struct netent *out, char *buf, size_t size, int *err, int *of_host)
{
	return tell_of_host(net_by_name(name, out, buf, size, err), of_host);
}

NSS(getnetbyaddr_r, uint32_t net, int type, struct netent *out, char *buf, size_t size, int *err, int *of_host)
{
	return tell_of_host(net_by_number(net, type, out, buf, size, err), of_host);
}

NSS(getnetent_r, struct netent *out, char *buf, size_t size, int *err, int *of_host)
{
	return tell_of_host(net_walk(out, buf, size, err), of_host);
}

/* Hosts: a name may have several addresses, each in a line. */

#define HOSTS "/etc/hosts"

/* As it is asked for: of IPv4 (also what IPv6 has of it), IPv6, or either (AF_UNSPEC). The family, or -1. */
static int parse_address(const char *word, int wanted, unsigned char address[16])
{
	static const struct in6_addr loopback = IN6ADDR_LOOPBACK_INIT;
	const struct in_addr loopback4 = { htonl(INADDR_LOOPBACK) };

	if (inet_pton(AF_INET, word, address) == 1)
		return wanted == AF_INET6 ? -1 : AF_INET;
	if (inet_pton(AF_INET6, word, address) != 1)
		return -1;
	if (wanted == AF_INET6)
		return AF_INET6;
	if (wanted == AF_UNSPEC)
		return AF_INET6;
	if (IN6_IS_ADDR_V4MAPPED((struct in6_addr *)(void *)address)) {
		memmove(address, address + 12, 4);
		return AF_INET;
	}
	if (memcmp(address, &loopback, sizeof loopback) != 0)
		return -1;
	memcpy(address, &loopback4, sizeof loopback4);
	return AF_INET;
}

/* Its h_addrtype is what is asked for, and then what it is. */
static int make_host(char **words, struct room *r, void *out)
{
	struct hostent *h = out;
	struct in6_addr *address = room_take(r, sizeof *address, sizeof(void *));
	char **list = room_take(r, 2 * sizeof *list, sizeof *list);
	int family;

	if (!address || !list)
		return ERANGE;
	family = parse_address(words[0], h->h_addrtype, (unsigned char *)address);
	if (family < 0)
		return ENOENT;
	list[0] = (char *)address;
	list[1] = NULL;
	*h = (struct hostent){
		.h_name = words[1] ? words[1] : words[0] + strlen(words[0]),
		.h_aliases = words[1] ? words + 2 : words + 1,
		.h_addrtype = family,
		.h_length = family == AF_INET ? 4 : 16,
		.h_addr_list = list,
	};
	return 0;
}

static int next_host_of(FILE *f, int wanted, struct hostent *out, struct room *r)
{
	out->h_addrtype = wanted;
	return next_line(f, make_host, out, r);
}

/* A walk shows addresses of IPv4 only: that is what libc's own does. */
static int next_host(FILE *f, struct hostent *out, char *buf, size_t size)
{
	return next_host_of(f, AF_INET, out, &(struct room){ buf, size });
}

WALK(host, hostent, HOSTS, next_host)

NSS(gethostent_r, struct hostent *out, char *buf, size_t size, int *err, int *of_host)
{
	return tell_of_host(host_walk(out, buf, size, err), of_host);
}

static bool is_called(const struct hostent *h, const char *name)
{
	return has_name_of_any_case(name, h->h_name, h->h_aliases);
}

/* How many lines of the file have the name. What each of them needs there is room for, or it is -ERANGE. */
static int count_hosts(FILE *f, const char *name, int family, struct room r)
{
	struct hostent h;
	int n = 0, e;

	for (struct room again = r; (e = next_host_of(f, family, &h, &again)) == 0; again = r)
		n += is_called(&h, name);
	rewind(f);
	return e == ENOENT ? n : -e;
}

/* Of the lines from here on the next that has the name. */
static int next_called(FILE *f, const char *name, int family, struct hostent *out, struct room *r)
{
	struct room before = *r;
	int e;

	while ((e = next_host_of(f, family, out, r)) == 0 && !is_called(out, name))
		*r = before;
	return e;
}

/* The first line's names, with the addresses of all. */
static int collect_addresses(FILE *f, const char *name, int family, struct hostent *out, struct room r)
{
	int n = count_hosts(f, name, family, r), e = 0;
	char **list = n > 0 ? room_take(&r, ((size_t)n + 1) * sizeof *list, sizeof *list) : NULL;
	struct hostent h;

	if (n <= 0 || !list)
		return n < 0 ? -n : n == 0 ? ENOENT : ERANGE;
	for (int i = 0; i < n && e == 0; i++) {
		e = next_called(f, name, family, &h, &r);
		list[i] = e == 0 ? h.h_addr_list[0] : NULL;
		if (i == 0)
			*out = h;
	}
	list[n] = NULL;
	out->h_addr_list = list;
	return e == ENOENT && *list ? 0 : e;
}

NSS(gethostbyname2_r, const char *name, int family, struct hostent *out, char *buf, size_t size, int *err, int *of_host)
{
	FILE *f = fopen(HOSTS, "re");
	int r = f ? collect_addresses(f, name, family, out, (struct room){ buf, size }) : EACCES;

	if (f)
		fclose(f);
	return tell_of_host(status_of(r, err), of_host);
}

NSS(gethostbyname3_r, const char *name, int family, struct hostent *out, char *buf, size_t size, int *err, int *of_host, int32_t *ttl,
    char **real)
{
	enum nss_status status = _nss_fixd_gethostbyname2_r(name, family, out, buf, size, err, of_host);

	(void)ttl;
	if (real && status == NSS_STATUS_SUCCESS)
		*real = out->h_name;
	return status;
}

NSS(gethostbyname_r, const char *name, struct hostent *out, char *buf, size_t size, int *err, int *of_host)
{
	return _nss_fixd_gethostbyname2_r(name, AF_INET, out, buf, size, err, of_host);
}

/* Of both families, in the order of the file, behind what the list has. */
static int list_addresses(FILE *f, const char *name, struct gaih_addrtuple **list, struct room r)
{
	struct hostent h;
	int n = 0, e;

	while ((e = next_called(f, name, AF_UNSPEC, &h, &r)) == 0) {
		/* The caller may have made the first one. */
		struct gaih_addrtuple *one = *list ? *list : room_take(&r, sizeof *one, sizeof(void *));

		if (!one)
			return ERANGE;
		*one = (struct gaih_addrtuple){ .name = h.h_name, .family = h.h_addrtype };
		memcpy(one->addr, h.h_addr_list[0], (size_t)h.h_length);
		*list = one;
		list = &one->next;
		n++;
	}
	return e == ENOENT && n ? 0 : e;
}

NSS(gethostbyname4_r, const char *name, struct gaih_addrtuple **list, char *buf, size_t size, int *err, int *of_host, int32_t *ttl)
{
	FILE *f = fopen(HOSTS, "re");
	int r = f ? list_addresses(f, name, list, (struct room){ buf, size }) : EACCES;

	(void)ttl;
	if (f)
		fclose(f);
	return tell_of_host(status_of(r, err), of_host);
}

static int next_at(FILE *f, int family, struct hostent *out, char *buf, size_t size)
{
	return next_host_of(f, family, out, &(struct room){ buf, size });
}

static enum nss_status host_by_address(const void *address, socklen_t length, int family, struct hostent *out, char *buf, size_t size,
				       int *err)
{
#define next_of_family(f, out, buf, size) next_at(f, family, out, buf, size)
	FIND(HOSTS, next_of_family, (socklen_t)out->h_length == length && !memcmp(out->h_addr_list[0], address, length));
#undef next_of_family
}

NSS(gethostbyaddr_r, const void *address, socklen_t length, int family, struct hostent *out, char *buf, size_t size, int *err, int *of_host)
{
	return tell_of_host(host_by_address(address, length, family, out, buf, size, err), of_host);
}
