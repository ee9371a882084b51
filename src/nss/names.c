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

static const char blanks[] = " \t\r\n";

/* The words of a line, in `r`; NULL behind the last one. The number of them, or -ERANGE. */
static int split(const char *line, struct room *r, char ***words)
{
	size_t length = strcspn(line, "#\n");
	char *copy = room_take(r, length + 1, 1), *rest, *word;
	int n = 0;

	/* A word and what is behind it are two bytes at least. */
	*words = copy ? room_take(r, ((length + 1) / 2 + 1) * sizeof **words, sizeof(char *)) : NULL;
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

static bool is_number(const char *s, long max, long *n)
{
	char *end;

	if (!s)
		return false;
	*n = strtol(s, &end, 0);
	return end != s && !*end && *n >= 0 && *n <= max;
}

static bool has_name(const char *name, const char *first, char *const *others)
{
	bool found = !strcmp(first, name);

	while (!found && *others)
		found = !strcmp(*others++, name);
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

static int make_serv(char **words, struct room *r, void *out)
{
	char *slash = words[1] ? strchr(words[1], '/') : NULL;
	struct servent *s = out;
	long port;

	(void)r;
	if (!slash || !slash[1])
		return ENOENT;
	*slash = '\0';
	if (!is_number(words[1], UINT16_MAX, &port))
		return ENOENT;
	*s = (struct servent){ .s_name = words[0], .s_aliases = words + 2, .s_port = htons((uint16_t)port), .s_proto = slash + 1 };
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

/* Protocols. */

#define PROTOCOLS "/etc/protocols"

static int make_proto(char **words, struct room *r, void *out)
{
	struct protoent *p = out;
	long number;

	(void)r;
	if (!is_number(words[1], INT32_MAX, &number))
		return ENOENT;
	*p = (struct protoent){ .p_name = words[0], .p_aliases = words + 2, .p_proto = (int)number };
	return 0;
}

EACH(proto, protoent, PROTOCOLS)
GET_EACH(proto, protoent)

NSS(getprotobyname_r, const char *name, struct protoent *out, char *buf, size_t size, int *err)
{
	FIND(PROTOCOLS, next_proto, has_name(name, out->p_name, out->p_aliases));
}

NSS(getprotobynumber_r, int number, struct protoent *out, char *buf, size_t size, int *err)
{
	FIND(PROTOCOLS, next_proto, out->p_proto == number);
}

/* Remote procedures. */

#define RPC "/etc/rpc"

static int make_rpc(char **words, struct room *r, void *out)
{
	struct rpcent *p = out;
	long number;

	(void)r;
	if (!is_number(words[1], INT32_MAX, &number))
		return ENOENT;
	*p = (struct rpcent){ .r_name = words[0], .r_aliases = words + 2, .r_number = (int)number };
	return 0;
}

EACH(rpc, rpcent, RPC)
GET_EACH(rpc, rpcent)

NSS(getrpcbyname_r, const char *name, struct rpcent *out, char *buf, size_t size, int *err)
{
	FIND(RPC, next_rpc, has_name(name, out->r_name, out->r_aliases));
}

NSS(getrpcbynumber_r, int number, struct rpcent *out, char *buf, size_t size, int *err)
{
	FIND(RPC, next_rpc, out->r_number == number);
}

/* Networks. */

#define NETWORKS "/etc/networks"

/* inet_network() takes a number of fewer than four parts for the last ones of an address, the file means the first. */
static int make_net(char **words, struct room *r, void *out)
{
	char whole[sizeof "255.255.255.255"];
	int parts = 1;
	struct netent *n = out;

	(void)r;
	if (!words[1] || strlen(words[1]) > sizeof whole - 1)
		return ENOENT;
	strcpy(whole, words[1]);
	for (const char *p = whole; *p; p++)
		parts += *p == '.';
	for (; parts < 4 && strlen(whole) + 2 < sizeof whole; parts++)
		strcat(whole, ".0");
	*n = (struct netent){ .n_name = words[0], .n_aliases = words + 2, .n_addrtype = AF_INET, .n_net = inet_network(whole) };
	return n->n_net == UINT32_MAX ? ENOENT : 0;
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
	FIND(NETWORKS, next_net, !strcasecmp(name, out->n_name) || has_name(name, out->n_name, out->n_aliases));
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
