/* SPDX-License-Identifier: MIT */
/*
 * Inode numbers: a file keeps the one that it had when it is copied up, as it does when nobody copies it. Copies lie on the file system
 * that the tree is on, which is a tmpfs and gives no number twice; so theirs are kept in the table with those of the originals.
 */
#include "preload/shim.h"

static struct run_inode *inodes_slots(void)
{
	return (struct run_inode *)(void *)((char *)run + run->inodes);
}

/* The run's lock is held. If there is no room the copy has its own number. */
void inodes_note(uint64_t copy, uint64_t original)
{
	if (!run->tree_device)
		return;
	for (uint64_t k = 0; k < RUN_INODES / 2; k++) {
		struct run_inode *at = &inodes_slots()[(copy + k) % RUN_INODES];

		if (__atomic_load_n(&at->copy, __ATOMIC_ACQUIRE))
			continue;
		at->original = original;
		__atomic_store_n(&at->copy, copy, __ATOMIC_RELEASE);
		__atomic_store_n(&run->has_inodes, 1, __ATOMIC_RELEASE);
		return;
	}
}

uint64_t inodes_original(uint64_t inode)
{
	for (uint64_t k = 0; k < RUN_INODES / 2; k++) {
		const struct run_inode *at = &inodes_slots()[(inode + k) % RUN_INODES];
		uint64_t copy = __atomic_load_n(&at->copy, __ATOMIC_ACQUIRE);

		if (copy == inode)
			return at->original;
		if (!copy)
			break;
	}
	return inode;
}
