/* SPDX-License-Identifier: MIT */
/*
 * fixd-remote: images on an HTTP server. fixd-builder starts it; it knows nothing of fixtures.
 *
 *	fixd-remote get OPTIONS    writes "BYTES\n" and the image to standard output
 *	fixd-remote put OPTIONS    takes the image from --image-fd, what comes before it from --head-fd
 *	fixd-remote key OPTIONS    writes the parts of the key to --parts-fd
 *	fixd-remote check OPTIONS  prints a line for each thing that should be as it is, or is not: NAME, "ok" or "wrong", a sentence
 *	fixd-remote rests OPTIONS  prints for how many seconds it is left alone, and nothing is sent there
 *	fixd-remote prune DIRECTORY SECONDS [dry]  removes what was not used for so long, see remote/prune.h; prints what it removed, and kept
 *	fixd-remote keygen FILE    makes a secret key, and prints the public one
 *
 * What lies below URL: NAMESPACE/ac/KEY, a manifest (remote/signed.h); cas/HASH, a piece of one (remote/chunk.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/text.h"
#include "base/units.h"
#include "remote/key.h"
#include "remote/prune.h"
#include "remote/remote.h"
#include "remote/rest.h"

static void append(char ***list, const char *s)
{
	size_t n = list_count(*list);

	*list = xrealloc(*list, (n + 2) * sizeof **list);
	(*list)[n] = xstrdup(s);
	(*list)[n + 1] = NULL;
}

_Noreturn static void usage(const char *what)
{
	fprintf(stderr,
		"fixd-remote: %s; expected get, put, key, check or rests with their options, prune DIRECTORY SECONDS or keygen FILE; see fixd.ini(5)\n",
		what);
	exit(EXIT_USAGE);
}

static int number(const char *option, const char *text, uint64_t max, uint64_t *out)
{
	if (parse_u64(text, 10, max, out) == 0)
		return 0;
	fprintf(stderr, "fixd-remote: %s %s: expected a number up to %llu\n", option, text, (unsigned long long)max);
	exit(EXIT_USAGE);
}

/* That an option gives, or NULL: it gives none. */
static int *descriptor_of(struct remote *r, int option)
{
	switch (option) {
	case 'd':
		return &r->description;
	case 'P':
		return &r->parts;
	case 'H':
		return &r->head;
	case 'i':
		return &r->image;
	case 't':
		return &r->tell.fd;
	default:
		return NULL;
	}
}

static void parse(struct remote *r, int argc, char **argv)
{
	static const struct option options[] = {
		{ "url", required_argument, NULL, 'u' },
		{ "read", required_argument, NULL, 'r' },
		{ "write", required_argument, NULL, 'w' },
		{ "public-key", required_argument, NULL, 'p' },
		{ "key-file", required_argument, NULL, 'k' },
		{ "hmac-file", required_argument, NULL, 'h' },
		{ "region", required_argument, NULL, 'R' },
		{ "credentials-file", required_argument, NULL, 'C' },
		{ "description-fd", required_argument, NULL, 'd' },
		{ "parts-fd", required_argument, NULL, 'P' },
		{ "image-fd", required_argument, NULL, 'i' },
		{ "head-fd", required_argument, NULL, 'H' },
		{ "limit", required_argument, NULL, 'l' },
		{ "told-fd", required_argument, NULL, 't' },
		{ "silence-ms", required_argument, NULL, 's' },
		{ "state", required_argument, NULL, 'S' },
		{ "environment", required_argument, NULL, 'e' },
		{ "anew", no_argument, NULL, 'a' },
		{ "within-ms", required_argument, NULL, 'W' },
		{ NULL, 0, NULL, 0 },
	};
	uint64_t n;
	int c, at = 0, *fd;

	while ((c = getopt_long(argc, argv, "", options, &at)) >= 0) {
		switch (c) {
		case 'u':
			r->url = optarg;
			break;
		case 'r':
			append(&r->read, optarg);
			break;
		case 'w':
			r->write = optarg;
			break;
		case 'p':
			append(&r->keys, optarg);
			break;
		case 'k':
			r->key_file = optarg;
			break;
		case 'h':
			r->hmac_file = optarg;
			break;
		case 'R':
			r->region = optarg;
			break;
		case 'C':
			r->credentials = optarg;
			break;
		case 'e':
			putenv(optarg);
			break;
		case 'S':
			r->state = *optarg ? optarg : NULL;
			break;
		case 'a':
			r->anew = true;
			break;
		case 'W':
			number("within-ms", optarg, UINT32_MAX, &r->within_ms);
			break;
		case 'l':
			number("limit", optarg, UINT64_MAX / 2, &r->limit);
			break;
		case 's':
			number("silence-ms", optarg, 3600 * 1000, &n);
			r->silence_ms = r->patience_ms = (unsigned)n;
			break;
		default:
			fd = descriptor_of(r, c);
			if (!fd)
				usage("that option is not known");
			number(options[at].name, optarg, 1 << 20, &n);
			*fd = (int)n;
		}
	}
}

/* The key of what is described, whose parts are written down. */
static int find_key(struct remote *r)
{
	_cleanup_text_ struct text parts = { 0 };
	int err = key_resolve(r->description, &parts);

	if (err == 0)
		key_of(&parts, r->key);
	return err == 0 && r->parts >= 0 ? fd_write_all(r->parts, parts.data, parts.size) : err;
}

/* The key that was found before the image was built, unless what it was built from is another by now. */
static int find_key_again(struct remote *r)
{
	_cleanup_text_ struct text parts = { 0 }, now = { 0 };
	const char *other;
	int err = key_read(r->parts, &parts);

	if (err == 0 && r->description >= 0)
		err = key_resolve(r->description, &now);
	if (err < 0)
		return err;
	other = r->description >= 0 ? key_difference(&parts, &now) : NULL;
	if (other) {
		remote_say(r, xasprintf("the image does not go to the remote: %s has changed while it was built", other + 1));
		return -EAGAIN;
	}
	key_of(&parts, r->key);
	return 0;
}

/* After a failure. */
static bool is_left_alone(const struct remote *r, bool putting)
{
	return rest_lasts(r->state, r->url, REST_ALL) || rest_lasts(r->state, r->url, putting ? REST_UPLOADS : REST_LOOKUPS);
}

/* What it has cost already is no time that it may be silent for. */
static void spend(struct remote *r)
{
	int64_t lost = rest_lost(r->state, r->url, 0) / NSEC_PER_MSEC, left = r->silence_ms - lost;

	r->patience_ms = left < PATIENCE_MIN_MS ? PATIENCE_MIN_MS : (unsigned)left;
}

static int ask(struct remote *r, int (*what)(struct remote *r))
{
	int code;

	if (is_left_alone(r, what == remote_put)) {
		tell_end(&r->tell, "the remote is left alone for a minute");
		return EXIT_REMOTE;
	}
	if (what == remote_get)
		spend(r);
	code = remote_open(r);
	if (code == 0)
		code = what(r);
	tell_end(&r->tell, code == 0 ? NULL : r->wrong ? r->wrong : "it was not taken");
	remote_close(r);
	return code;
}

static int keygen(const char *path)
{
	unsigned char public[crypto_sign_PUBLICKEYBYTES], secret[crypto_sign_SECRETKEYBYTES];
	char public_hex[2 * sizeof public + 1], secret_hex[2 * sizeof secret + 2];
	_cleanup_fd_ int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int r = fd < 0 ? -errno : 0;

	crypto_sign_keypair(public, secret);
	sodium_bin2hex(public_hex, sizeof public_hex, public, sizeof public);
	sodium_bin2hex(secret_hex, sizeof secret_hex - 1, secret, sizeof secret);
	strcat(secret_hex, "\n");
	if (r == 0)
		r = fd_write_all(fd, secret_hex, strlen(secret_hex));
	if (r < 0) {
		if (fd >= 0)
			unlink(path);
		fprintf(stderr, "fixd-remote: %s cannot be written: %s\n", path, strerror(-r));
		return EXIT_FAILURE;
	}
	puts(public_hex);
	return EXIT_SUCCESS;
}

static int prune_directory(const char *directory, const char *seconds, bool dry)
{
	struct pruned done;
	uint64_t n;

	number("prune", seconds, INT32_MAX, &n);
	if (prune(directory, (int64_t)n, dry, &done) < 0)
		return EXIT_FAILURE;
	printf("%llu %llu %llu %llu\n", (unsigned long long)done.manifests, (unsigned long long)done.pieces, (unsigned long long)done.bytes,
	       (unsigned long long)done.kept);
	return EXIT_SUCCESS;
}

static int show_rest(struct remote *r)
{
	long all = rest_lasts(r->state, r->url, REST_ALL), look_ups = rest_lasts(r->state, r->url, REST_LOOKUPS);

	return printf("%ld %ld\n", all > look_ups ? all : look_ups, rest_lasts(r->state, r->url, REST_UPLOADS)) < 0;
}

static int write_key(struct remote *r)
{
	(void)r;
	return EXIT_SUCCESS;
}

static const struct command {
	const char *name;
	int (*run)(struct remote *r);
	int (*find_key)(struct remote *r); /* before; or NULL */
	bool asks;			   /* the server, unless it is left alone */
} commands[] = {
	{ "get", remote_get, find_key, true },	{ "put", remote_put, find_key_again, true }, { "key", write_key, find_key, false },
	{ "check", remote_check, NULL, false }, { "rests", show_rest, NULL, false },
};

static const struct command *find_command(const char *name)
{
	for (size_t k = 0; k < ELEMENTSOF(commands); k++) {
		if (!strcmp(commands[k].name, name))
			return &commands[k];
	}
	usage(*name ? "no such command" : "a command is missing");
}

static bool is_complete(const struct remote *r, const struct command *c)
{
	bool putting = c->find_key == find_key_again;

	if (c->run != write_key && !r->url)
		return false;
	return putting ? r->parts >= 0 && r->write && (r->key_file || r->hmac_file) && r->image >= 0 : !c->find_key || r->description >= 0;
}

/* Those of the daemon count, whoever calls: they are options. */
static void forget_proxies(void)
{
	static const char *const names[] = { "http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY" };

	for (size_t k = 0; k < ELEMENTSOF(names); k++)
		unsetenv(names[k]);
}

int main(int argc, char **argv)
{
	struct remote r = { .description = -1,
			    .parts = -1,
			    .head = -1,
			    .image = -1,
			    .tell.fd = -1,
			    .limit = UINT64_MAX / 2,
			    .silence_ms = 2000,
			    .patience_ms = 2000 };
	const struct command *c;
	int code;

	if (sodium_init() < 0) {
		fprintf(stderr, "fixd-remote: libsodium cannot be set up\n");
		return EXIT_FAILURE;
	}
	if (argc == 3 && !strcmp(argv[1], "keygen"))
		return keygen(argv[2]);
	if ((argc == 4 || argc == 5) && !strcmp(argv[1], "prune"))
		return prune_directory(argv[2], argv[3], argc == 5);
	/* Who does not want the image any more is told by an error. */
	signal(SIGPIPE, SIG_IGN);
	c = find_command(argc > 1 ? argv[1] : "");
	forget_proxies();
	parse(&r, argc - 1, argv + 1);
	if (!is_complete(&r, c))
		usage("an option is missing");
	if (c->find_key && c->find_key(&r) < 0) {
		code = EXIT_FAILURE;
		tell_end(&r.tell, r.wrong ? r.wrong : "its key cannot be found");
	} else {
		code = c->asks ? ask(&r, c->run) : c->run(&r);
	}
	free(r.wrong);
	free(r.shared);
	list_free(r.read);
	list_free(r.keys);
	return code;
}
