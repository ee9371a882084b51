/* SPDX-License-Identifier: MIT */
#include "builder/descriptors.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

static struct descriptor descriptor_of(int fd)
{
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return (struct descriptor){ .fd = fd };
	return (struct descriptor){ fd, st.st_dev, st.st_ino };
}

static bool is_intact(const struct descriptor *noted)
{
	struct descriptor now = descriptor_of(noted->fd);

	return now.dev == noted->dev && now.ino == noted->ino;
}

void descriptors_note(struct work *w)
{
	const int own[] = { w->channel, w->space.fd, w->note };

	for (size_t k = 0; k < WORK_DESCRIPTORS; k++)
		w->own[k] = descriptor_of(own[k]);
}

void descriptors_check_channel(const struct work *w)
{
	if (w->own[0].ino && !is_intact(&w->own[0]))
		_exit(JOB_CUT_OFF);
}

int descriptors_check(struct work *w)
{
	descriptors_check_channel(w);
	for (size_t k = 1; k < WORK_DESCRIPTORS; k++) {
		if (!is_intact(&w->own[k]))
			return work_fail(w, -EBADF,
					 "the plugin closed descriptor %d, which fixd-builder needs, or put something else there",
					 w->own[k].fd);
	}
	return 0;
}
