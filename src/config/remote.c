/* SPDX-License-Identifier: MIT */
#include "config/remote.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/text.h"
#include "config/config.h"

#define PUBLIC_KEY_HEX 64
#define NAMESPACE_MAX 100
#define SILENCE_MAX 3600

#ifdef HAVE_REMOTE
static const bool is_built = true;
#else
static const bool is_built;
#endif

static bool is_namespace(const char *name, size_t n, bool glob)
{
	size_t more = glob ? strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/*?")
			   : strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/");

	if (n == 0 || n > NAMESPACE_MAX || more < n || name[0] == '/' || name[0] == '.' || name[n - 1] == '/')
		return false;
	for (size_t i = 1; i < n; i++) {
		if (name[i - 1] == '/' && (name[i] == '/' || name[i] == '.'))
			return false;
	}
	return true;
}

static char *check_key(const char *key)
{
	const char *colon = strrchr(key, ':'), *hex = colon ? colon + 1 : key;

	if (strlen(hex) != PUBLIC_KEY_HEX || strspn(hex, "0123456789abcdef") != PUBLIC_KEY_HEX)
		return xasprintf("public-keys: '%s' is no public key; expected what 'fixctl remote keygen FILE' prints, alone or behind "
				 "NAMESPACES: (pr/*:...)",
				 key);
	if (colon && !is_namespace(key, (size_t)(colon - key), true))
		return xasprintf("public-keys: '%.*s' does not name namespaces; expected letters, digits, '.', '_', '-', '/', '*' and '?'",
				 (int)(colon - key), key);
	return NULL;
}

static bool has_scheme(const char *url, const char *scheme)
{
	size_t n = strlen(scheme);

	return !strncmp(url, scheme, n) && !strncmp(url + n, "://", 3);
}

static char *check_section(const struct config *c, const char **keys)
{
	bool s3 = c->remote_url && (has_scheme(c->remote_url, "s3") || has_scheme(c->remote_url, "s3+http")),
	     http = c->remote_url && (has_scheme(c->remote_url, "http") || has_scheme(c->remote_url, "https"));

	*keys = "";
	if (!is_built)
		return xstrdup("[remote] cannot be had: this fixd was built without libcurl, libzstd, libsodium and libcrypto");
	if (!c->remote_url)
		return xstrdup("[remote] has no url; expected url = http://HOST/PATH");
	*keys = "url";
	if ((!http && !s3) || strpbrk(c->remote_url, " \t?#"))
		return xasprintf("url = %s: expected http://HOST/PATH, https://HOST/PATH or s3://HOST/BUCKET/PATH", c->remote_url);
	*keys = "region credentials-file";
	if (!s3 && (c->remote_region || c->remote_credentials))
		return xstrdup("region and credentials-file are for url = s3://HOST/BUCKET/PATH");
	*keys = "namespace";
	if (c->remote_namespace && !is_namespace(c->remote_namespace, strlen(c->remote_namespace), false))
		return xasprintf("namespace = %s: expected letters, digits, '.', '_', '-', and '/' between names", c->remote_namespace);
	*keys = "read";
	for (size_t i = 0; c->remote_read && c->remote_read[i]; i++) {
		if (!is_namespace(c->remote_read[i], strlen(c->remote_read[i]), false))
			return xasprintf("read = %s: expected namespaces: letters, digits, '.', '_', '-', and '/' between names",
					 c->remote_read[i]);
	}
	*keys = "timeout";
	if (c->remote_timeout > SILENCE_MAX * NSEC_PER_SEC || c->remote_timeout < NSEC_PER_SEC)
		return xstrdup("timeout of [remote]: expected from 1s to 1h");
	*keys = "public-keys";
	if (!c->remote_public_keys || !c->remote_public_keys[0])
		return c->remote_write || c->remote_hmac_file
			       ? NULL
			       : xstrdup("[remote] has neither public-keys or hmac-file, whose images are taken, nor write = yes");
	for (size_t i = 0; c->remote_public_keys[i]; i++) {
		char *wrong = check_key(c->remote_public_keys[i]);

		if (wrong)
			return wrong;
	}
	return NULL;
}

const char *remote_namespace(const struct config *c)
{
	return c->remote_namespace ? c->remote_namespace : "main";
}

/* Without a key nothing of it would be believed. */
static void find_reads(struct config *c)
{
	if ((!c->remote_public_keys || !c->remote_public_keys[0]) && !c->remote_hmac_file)
		return;
	for (size_t i = 0; c->remote_read && c->remote_read[i]; i++)
		list_append(&c->remote_reads, xstrdup(c->remote_read[i]));
	if (!c->remote_reads)
		list_append(&c->remote_reads, xstrdup(remote_namespace(c)));
}

/* Of the environment of the daemon, which builders do not see: whoever asks the server asks it in the same way. */
static const char *const seen_by_http[] = { "http_proxy", "https_proxy", "HTTPS_PROXY",	  "all_proxy",	 "ALL_PROXY",
					    "no_proxy",	  "NO_PROXY",	 "SSL_CERT_FILE", "SSL_CERT_DIR" };

static bool is_proxy(const char *variable)
{
	const char *last = strrchr(variable, '_');

	return last && !strcasecmp(last, "_proxy") && strncasecmp(variable, "no_", 3) != 0;
}

static void add_environment(char ***options)
{
	for (size_t i = 0; i < ELEMENTSOF(seen_by_http); i++) {
		const char *value = getenv(seen_by_http[i]);

		/* Arguments are seen by everybody, and a proxy may have a password before the '@'. */
		if (value && !(is_proxy(seen_by_http[i]) && strchr(value, '@')))
			list_append(options, xasprintf("--environment=%s=%s", seen_by_http[i], value));
	}
}

static void make_options(struct config *c)
{
	const char *namespace = remote_namespace(c);
	/* Builders do not see it. */
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	char ***o = &c->remote_options;

	list_append(o, xasprintf("--url=%s", c->remote_url));
	list_append(o, runtime && *runtime == '/' ? xasprintf("--state=%s/fixd", runtime)
						  : xasprintf("--state=/tmp/fixd-%u", (unsigned)geteuid()));
	list_append(o, xasprintf("--silence-ms=%lld", (long long)(c->remote_timeout / NSEC_PER_MSEC)));
	add_environment(o);
	for (size_t i = 0; c->remote_public_keys && c->remote_public_keys[i]; i++)
		list_append(o, xasprintf("--public-key=%s", c->remote_public_keys[i]));
	if (c->remote_region)
		list_append(o, xasprintf("--region=%s", c->remote_region));
	if (c->remote_credentials)
		list_append(o, xasprintf("--credentials-file=%s", c->remote_credentials));
	if (c->remote_hmac_file)
		list_append(o, xasprintf("--hmac-file=%s", c->remote_hmac_file));
	for (size_t i = 0; c->remote_reads && c->remote_reads[i]; i++)
		list_append(o, xasprintf("--read=%s", c->remote_reads[i]));
	if (!c->remote_write)
		return;
	list_append(o, xasprintf("--write=%s", namespace));
	if (c->remote_key_file)
		list_append(o, xasprintf("--key-file=%s", c->remote_key_file));
}

char *remote_complete(struct config *c, const char **keys)
{
	char *wrong = check_section(c, keys);

	if (!wrong && c->remote_write && !c->remote_key_file && !c->remote_hmac_file) {
		*keys = "write";
		wrong = xstrdup(
			"write = yes needs key-file, in which the secret key is (fixctl remote keygen FILE), or hmac-file, with a secret "
			"that all share");
	}
	if (!wrong) {
		find_reads(c);
		make_options(c);
	}
	return wrong;
}

char *remote_check(const struct config *c, const struct fixture *f, const char **keys)
{
	*keys = "remote";
	if (!c->remote_options)
		return xstrdup("remote = yes needs a section [remote]");
	if (f->source != SOURCE_COMMAND && f->source != SOURCE_TREE && f->source != SOURCE_PLUGIN)
		return xasprintf("remote = yes is for command, tree and plugin, and this is a %s", source_name(f->source));
	*keys = f->relocate ? "watch-by" : "relocate";
	if (!f->relocate)
		return xstrdup("relocate = no is not for remote = yes: on another machine its address may be taken");
	if (f->policy.watch_by != WATCH_BY_CONTENT)
		return xstrdup("remote = yes needs watch-by = content: only what is compared by content is the same on another machine");
	*keys = f->teardown ? "teardown" : "depends data";
	if (f->teardown)
		return xstrdup("teardown is not for remote = yes: what it would tear down is on the machine that built it");
	for (size_t i = 0; i < f->n_depends; i++) {
		const struct fixture *d = f->depends[i].fixture;

		/* Objects have addresses in them, which only other objects can follow. */
		if (d && (source_keeps_running(d->source) || d->source == SOURCE_CLIENT ||
			  (d->source == SOURCE_PLUGIN && f->source != SOURCE_PLUGIN)))
			return xasprintf("remote = yes cannot depend on '%s', which is a %s: it is not the same bytes on another machine",
					 d->name, source_name(d->source));
	}
	return NULL;
}
