/* SPDX-License-Identifier: MIT */
#include "fixd/model/model.h"

#include "fixd/model/session.h"

void model_init(struct model *m)
{
	m->image_owner = &session_images;
	/* No image of this daemon has the number of one of another, also where every daemon has the same pid. */
	m->last_serial = (uint64_t)model_real(m);
	link_init(&m->sessions);
	link_init(&m->users);
	link_init(&m->detached);
	link_init(&m->unused);
	link_init(&m->mem_waiters);
}
