/* SPDX-License-Identifier: MIT */
#include "fixd/model/account.h"

#include "fixd/model/model.h"
#include "fixd/model/user.h"

#define PAGE UINT64_C(4096)

uint64_t account_pages(uint64_t bytes)
{
	return (bytes + PAGE - 1) / PAGE * PAGE;
}

void account_add_image(struct model *m, struct user *u)
{
	m->account.n_images++;
	if (u)
		u->n_images++;
}

void account_charge_image(struct user *u)
{
	u->n_images++;
}

void account_remove_image(struct model *m, struct user *u)
{
	m->account.n_images--;
	if (u)
		u->n_images--;
}

void account_add_bytes(struct model *m, struct user *u, uint64_t bytes)
{
	m->account.bytes += bytes;
	if (u)
		u->bytes += bytes;
}

void account_remove_bytes(struct model *m, struct user *u, uint64_t bytes)
{
	m->account.bytes -= bytes;
	if (u)
		u->bytes -= bytes;
}

void account_add_keeper(struct model *m)
{
	m->account.n_keepers++;
}

void account_remove_keeper(struct model *m)
{
	m->account.n_keepers--;
}

void account_begin_ending(struct model *m, uint64_t bytes)
{
	m->account.n_ending++;
	m->account.ending_bytes += bytes;
}

void account_end_ending(struct model *m, uint64_t bytes)
{
	m->account.n_ending--;
	m->account.ending_bytes -= bytes;
}

void account_recount_ending(struct model *m, uint64_t before, uint64_t now)
{
	m->account.ending_bytes += now - before;
}

size_t account_descriptors(const struct model *m)
{
	const struct account *a = &m->account;

	return a->n_images + KEEPER_DESCRIPTORS * a->n_keepers - (1 + KEEPER_DESCRIPTORS) * a->n_ending;
}

uint64_t account_lasting_bytes(const struct model *m)
{
	return m->account.bytes - m->account.ending_bytes;
}
