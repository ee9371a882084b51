/* SPDX-License-Identifier: MIT */
#include "remote/s3.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "remote/remote.h"

#define FILE_MAX ((size_t)64 << 10)

bool s3_is_meant(const char *url)
{
	return !strncmp(url, "s3://", 5) || !strncmp(url, "s3+http://", 10);
}

char *s3_http_url(const char *url)
{
	return strncmp(url, "s3://", 5) == 0 ? xasprintf("https://%s", url + 5) : xstrdup(url + 3);
}

/* The file of whoever we are: builders have no HOME. */
static char *default_file(void)
{
	const struct passwd *user = getpwuid(geteuid());

	return xasprintf("%s/.aws/credentials", user ? user->pw_dir : "");
}

/* "NAME = VALUE" in a line of [default], or before any section; to be freed, or NULL. */
static char *value_of(const char *text, const char *name)
{
	bool ours = true;

	for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n') {
		size_t n = strlen(name), blank = strspn(line, " \t");

		if (line[blank] == '[')
			ours = !strncmp(line + blank, "[default]", 9);
		if (!ours || strncmp(line + blank, name, n) != 0)
			continue;
		n += blank + strspn(line + blank + n, " \t");
		if (line[n] != '=')
			continue;
		n++;
		n += strspn(line + n, " \t");
		return xstrndup(line + n, strcspn(line + n, " \t\r\n"));
	}
	return NULL;
}

static char *taken(const char *text, const char *variable, const char *name)
{
	const char *given = getenv(variable);

	return given && *given ? xstrdup(given) : text ? value_of(text, name) : NULL;
}

int s3_open(struct remote *r)
{
	_cleanup_free_ char *path = r->credentials ? xstrdup(r->credentials) : default_file(), *text = NULL;
	size_t size;
	int err = file_read_all(path, FILE_MAX, &text, &size);

	r->s3.id = taken(text, "AWS_ACCESS_KEY_ID", "aws_access_key_id");
	r->s3.secret = taken(text, "AWS_SECRET_ACCESS_KEY", "aws_secret_access_key");
	r->s3.token = taken(text, "AWS_SESSION_TOKEN", "aws_session_token");
	if (!r->s3.id || !r->s3.secret) {
		remote_say(r,
			   err < 0 ? xasprintf("the credentials of S3 in %s cannot be read: %s", path, strerror(-err))
				   : xasprintf("%s has no credentials of S3: expected aws_access_key_id and aws_secret_access_key", path));
		return err < 0 ? err : -EINVAL;
	}
	http_sign(r->http, r->region ? r->region : "us-east-1", r->s3.id, r->s3.secret, r->s3.token);
	return 0;
}
