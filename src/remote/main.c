/* SPDX-License-Identifier: MIT */
/*
 * fixd-remote: images on an HTTP server. fixd-builder starts it; it knows nothing of fixtures.
 *
 *	fixd-remote get OPTIONS    writes "BYTES\n" and the image to standard output
 *	fixd-remote put OPTIONS    takes the image from --image-fd
 *	fixd-remote key OPTIONS    writes the parts of the key to --parts-fd
 *	fixd-remote keygen FILE    makes a secret key, and prints the public one
 *
 * What lies below URL: NAMESPACE/ac/KEY, a manifest (remote/signed.h); cas/HASH, a blob (remote/blob.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "base/text.h"
#include "base/units.h"
#include "image/memfd.h"
#include "remote/blob.h"
#include "remote/http.h"
#include "remote/key.h"
#include "remote/signed.h"
#include "remote/rest.h"

enum remote_exit { EXIT_USAGE = 2, EXIT_MISS = 3, EXIT_REMOTE = 4 };

struct remote {
	const char *url, *key_file, *state;
	char **read, **keys; /* namespaces; keys that are trusted */
	const char *write;   /* namespace */
	int description, parts, image; /* -1: none was given */
	uint64_t limit;
	unsigned seconds;
	char key[HASH_HEX_SIZE];
	struct http *http;
};

static void append(char ***list, const char *s)
{
	size_t n = list_count(*list);

	*list = xrealloc(*list, (n + 2) * sizeof **list);
	(*list)[n] = xstrdup(s);
	(*list)[n + 1] = NULL;
}

_Noreturn static void usage(const char *what)
{
	fprintf(stderr, "fixd-remote: %s; expected get, put or key with their options, or keygen FILE; see fixd.ini(5)\n", what);
	exit(EXIT_USAGE);
}

static int number(const char *option, const char *text, uint64_t max, uint64_t *out)
{
	if (parse_u64(text, 10, max, out) == 0)
		return 0;
	fprintf(stderr, "fixd-remote: %s %s: expected a number up to %llu\n", option, text, (unsigned long long)max);
	exit(EXIT_USAGE);
}

static void parse(struct remote *r, int argc, char **argv)
{
	static const struct option options[] = {
		{ "url", required_argument, NULL, 'u' },      { "read", required_argument, NULL, 'r' },
		{ "write", required_argument, NULL, 'w' },    { "public-key", required_argument, NULL, 'p' },
		{ "key-file", required_argument, NULL, 'k' }, { "description-fd", required_argument, NULL, 'd' },
		{ "parts-fd", required_argument, NULL, 'P' }, { "image-fd", required_argument, NULL, 'i' },
		{ "limit", required_argument, NULL, 'l' },    { "silence", required_argument, NULL, 's' },
		{ "state", required_argument, NULL, 'S' },    { NULL, 0, NULL, 0 },
	};
	uint64_t n;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
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
		case 'S':
			r->state = optarg;
			break;
		case 'd':
			number("--description-fd", optarg, 1 << 20, &n);
			r->description = (int)n;
			break;
		case 'P':
			number("--parts-fd", optarg, 1 << 20, &n);
			r->parts = (int)n;
			break;
		case 'i':
			number("--image-fd", optarg, 1 << 20, &n);
			r->image = (int)n;
			break;
		case 'l':
			number("--limit", optarg, UINT64_MAX / 2, &r->limit);
			break;
		case 's':
			number("--silence", optarg, 3600, &n);
			r->seconds = (unsigned)n;
			break;
		default:
			usage("that option is not known");
		}
	}
}

/* Said once in a minute: then it is left alone. */
static int give_up(struct remote *r, const char *what)
{
	/* First: of an upload nobody may read any more what is said. */
	rest_begin(r->state, r->url);
	fprintf(stderr, "fixd-remote: %s: %s; it is left alone for a minute\n", r->url, what);
	return EXIT_REMOTE;
}

static char *manifest_url(const struct remote *r, const char *namespace)
{
	return xasprintf("%s/%s/ac/%s", r->url, namespace, r->key);
}

static char *blob_url(const struct remote *r, const char *hash)
{
	return xasprintf("%s/cas/%s", r->url, hash);
}

static int take_text(void *text, const void *data, size_t size)
{
	text_add(text, data, size);
	return 0;
}

/* Of the namespace: 0 and *m; EXIT_MISS, also for one that is not believed; EXIT_REMOTE. */
static int find(struct remote *r, const char *namespace, struct image_manifest *m)
{
	_cleanup_free_ char *url = manifest_url(r, namespace);
	_cleanup_text_ struct text text = { 0 };
	const char *wrong;
	int err = http_get(r->http, url, MANIFEST_MAX, 1, take_text, &text);

	if (err == -ENOENT)
		return EXIT_MISS;
	if (err < 0 && err != -EFBIG)
		return give_up(r, http_error(r->http));
	wrong = err < 0 ? http_error(r->http) : signed_take(text.data ? text.data : "", text.size, r->key, namespace, r->keys, m);
	if (!wrong && m->size > r->limit)
		wrong = "it is larger than memory-max allows";
	if (!wrong)
		return 0;
	fprintf(stderr, "fixd-remote: %s is not taken: %s\n", url, wrong);
	return EXIT_MISS;
}

static int download(struct remote *r, const struct image_manifest *m)
{
	_cleanup_free_ char *url = blob_url(r, m->blob), *size = xasprintf("%llu\n", (unsigned long long)m->size);
	struct blob_unpacking *b = blob_begin(m, STDOUT_FILENO);
	int err = fd_write_all(STDOUT_FILENO, size, strlen(size)), whole;

	if (err == 0)
		err = http_get(r->http, url, m->blob_size, 0, blob_take, b);
	whole = blob_end(b);
	if (err == 0 && whole == 0)
		return 0;
	if (err == -ENOENT || err == -EFBIG || err == -EBADMSG || (err == 0 && whole < 0)) {
		fprintf(stderr, "fixd-remote: %s is not taken: it is %s\n", url, err == -ENOENT ? "not there" : "not what was signed");
		return EXIT_MISS;
	}
	return err == -EPIPE ? EXIT_MISS : give_up(r, http_error(r->http));
}

static int get(struct remote *r)
{
	struct image_manifest m;
	int code = EXIT_MISS;

	for (char **namespace = r->read; namespace && *namespace && code == EXIT_MISS; namespace ++)
		code = find(r, *namespace, &m);
	return code ? code : download(r, &m);
}

static int read_secret(const char *path, unsigned char secret[crypto_sign_SECRETKEYBYTES])
{
	_cleanup_free_ char *hex = NULL;
	size_t n, size;
	int r = file_read_all(path, 4096, &hex, &size);

	if (r < 0) {
		fprintf(stderr, "fixd-remote: the key in %s cannot be read: %s\n", path, strerror(-r));
		return r;
	}
	hex[strcspn(hex, "\n")] = '\0';
	if (sodium_hex2bin(secret, crypto_sign_SECRETKEYBYTES, hex, strlen(hex), NULL, &n, NULL) == 0 && n == crypto_sign_SECRETKEYBYTES)
		return 0;
	fprintf(stderr, "fixd-remote: %s is no secret key; expected one of 'fixd-remote keygen'\n", path);
	return -EINVAL;
}

static int upload(struct remote *r, const struct image_manifest *m, int packed, const char *signed_, size_t size)
{
	_cleanup_free_ char *blob = blob_url(r, m->blob), *manifest = manifest_url(r, m->namespace);
	_cleanup_fd_ int text = memfd_from_bytes("fixd:manifest", signed_, size);
	int err = http_head(r->http, blob);

	if (err == -ENOENT)
		err = http_put(r->http, blob, packed, m->blob_size);
	/* Last, so that nobody finds one without its blob. */
	if (err == 0)
		err = text < 0 ? text : http_put(r->http, manifest, text, size);
	return err < 0 ? give_up(r, http_error(r->http)) : 0;
}

static int put(struct remote *r)
{
	unsigned char secret[crypto_sign_SECRETKEYBYTES];
	char text[MANIFEST_MAX];
	struct image_manifest m = { 0 };
	_cleanup_fd_ int packed = -1;
	struct stat st;
	int n;

	memcpy(m.key, r->key, sizeof m.key);
	snprintf(m.namespace, sizeof m.namespace, "%s", r->write);
	if (read_secret(r->key_file, secret) < 0)
		return EXIT_FAILURE;
	if (fstat(r->image, &st) < 0 || blob_pack(r->image, (uint64_t)st.st_size, &m, &packed) < 0)
		return EXIT_FAILURE;
	n = signed_write(&m, secret, text);
	sodium_memzero(secret, sizeof secret);
	if (n < 0) {
		fprintf(stderr, "fixd-remote: the image cannot be signed: %s\n", strerror(-n));
		return EXIT_FAILURE;
	}
	return upload(r, &m, packed, text, (size_t)n);
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
		fprintf(stderr, "fixd-remote: the image does not go to the remote: %s has changed while it was built\n", other + 1);
		return -EAGAIN;
	}
	key_of(&parts, r->key);
	return 0;
}

static int ask(struct remote *r, int (*what)(struct remote *r))
{
	int code;

	if (rest_lasts(r->state, r->url))
		return EXIT_REMOTE;
	r->http = http_open(r->seconds);
	code = r->http ? what(r) : EXIT_FAILURE;
	http_close(r->http);
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
		fprintf(stderr, "fixd-remote: %s cannot be written: %s\n", path, strerror(-r));
		return EXIT_FAILURE;
	}
	puts(public_hex);
	return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	struct remote r = { .description = -1, .parts = -1, .image = -1, .limit = UINT64_MAX / 2, .seconds = 2 };
	const char *command = argc > 1 ? argv[1] : "";
	bool getting = !strcmp(command, "get"), putting = !strcmp(command, "put");
	int code;

	if (sodium_init() < 0) {
		fprintf(stderr, "fixd-remote: libsodium cannot be set up\n");
		return EXIT_FAILURE;
	}
	if (!strcmp(command, "keygen") && argc == 3)
		return keygen(argv[2]);
	if (!getting && !putting && strcmp(command, "key") != 0)
		usage(*command ? "no such command" : "a command is missing");
	parse(&r, argc - 1, argv + 1);
	if ((putting ? r.parts : r.description) < 0 || ((getting || putting) && !r.url) ||
	    (putting && (!r.write || !r.key_file || r.image < 0)))
		usage("an option is missing");
	if ((putting ? find_key_again(&r) : find_key(&r)) < 0)
		code = EXIT_FAILURE;
	else if (!getting && !putting)
		code = EXIT_SUCCESS;
	else
		code = ask(&r, getting ? get : put);
	list_free(r.read);
	list_free(r.keys);
	return code;
}
