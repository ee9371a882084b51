/* SPDX-License-Identifier: MIT */
#include "client/local.h"

#include <stdlib.h>
#include <string.h>

#include "base/fd.h"

struct local_image *local_image_find(struct local_image *list, const char *name, const char *scope_key)
{
	for (struct local_image *l = list; l; l = l->next) {
		if (!l->released && !strcmp(l->name, name) && !strcmp(l->scope_key, scope_key ? scope_key : ""))
			return l;
	}
	return NULL;
}

void local_image_free(struct local_image *l)
{
	fd_close(l->fd);
	free(l->note);
	free(l->name);
	free(l->scope_key);
	free(l);
}

void local_images_free(struct local_image *list)
{
	while (list) {
		struct local_image *l = list;

		list = l->next;
		local_image_free(l);
	}
}
