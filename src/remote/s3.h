/* SPDX-License-Identifier: MIT */
/* S3: s3://HOST/BUCKET/PATH is https with each request signed; s3+http:// without TLS, for a server that is near. */
#pragma once

#include <stdbool.h>

struct remote;

bool s3_is_meant(const char *url);
/* Who we are, of the environment or of a file as aws(1) has it; requests are signed from then on. 0, or -errno and it was said. */
int s3_open(struct remote *r);
/* By which it is asked; to be freed. */
char *s3_http_url(const char *url);
