/* SPDX-License-Identifier: MIT */
/* [remote]: the server that images go to and come from, and what of a fixture may travel. */
#pragma once

struct config;
struct fixture;

/* Where its images go. */
const char *remote_namespace(const struct config *c);
/*
 * Checks the section, and makes config::remote_options of it. NULL, or what is wrong and what is allowed (to be freed); `keys`: of which
 * one or more, for raw_line().
 */
char *remote_complete(struct config *c, const char **keys);
/* The same of a fixture with `remote = yes`, once all are known. */
char *remote_check(const struct config *c, const struct fixture *f, const char **keys);
