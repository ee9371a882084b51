/* SPDX-License-Identifier: MIT */
/* What this client builds, for everybody or (FIXD_DISABLE) for this process alone. */
#pragma once

#include <stddef.h>

struct fixd;
struct fixd_options;
struct fixd_view;

/* An image built in this process, if it was: 0 and *out, which stays NULL if not. */
int view_local(struct fixd *f, const char *name, const struct fixd_options *o, struct fixd_view **out);
/* fixd_release() of a view of one. */
int local_image_release(struct fixd_view *v, void **note, size_t *note_size);
