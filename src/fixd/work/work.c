/* SPDX-License-Identifier: MIT */
#include "fixd/work/work.h"

#include "fixd/model/image.h"
#include "fixd/work/build.h"
#include "fixd/work/client_build.h"
#include "fixd/work/keeper.h"
#include "fixd/work/trees.h"

static void abandon(struct instance *i)
{
	build_abandon(i);
	offer_abandon(i);
}

static void tear_down(struct image *im)
{
	keeper_end(im->kept_by);
}

static bool is_dying(struct image *im)
{
	return im->kept_by && keeper_is_dying(im->kept_by);
}

const struct effects work_effects = {
	.build = build_queue,
	.withdraw = build_withdraw,
	.check = build_check,
	.abandon = abandon,
	.tear_down = tear_down,
	.remove_tree = trees_discard,
	.is_dying = is_dying,
	.is_blocked = leftover_of,
};
