/* SPDX-License-Identifier: MIT */
/* What the daemon tells about itself, as records (wire/record.h). */
#pragma once

struct conn;
struct wire_header;

/*
 * Answers with the instances, or definitions, that the connection may see and whose name, or name[param], matches the glob; or with what the
 * builder of an instance has said. All of it in slices, as tasks.
 */
void report_status(struct conn *c, const struct wire_header *h, const char *pattern);
void report_list(struct conn *c, const struct wire_header *h, const char *pattern);
/* With the parts of the key of an image of that name. */
void report_key(struct conn *c, const struct wire_header *h, const char *name);
void report_log(struct conn *c, const struct wire_header *h, const char *name);
