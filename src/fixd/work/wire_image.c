/* SPDX-License-Identifier: MIT */
#include "fixd/work/wire_image.h"

struct wire_image wire_image_of(const struct image *im)
{
	return (struct wire_image){
		.serial = im->serial,
		.address = im->address,
		.size = im->size,
		.root = im->root,
		.digest_low = im->digest.low,
		.digest_high = im->digest.high,
		.board_value = im->board_value,
		.board_slot = im->board_slot,
		.generation = im->generation,
		.kind = im->kind,
		.flags = im->at_home_only ? WIRE_IMAGE_AT_HOME_ONLY : 0,
	};
}
