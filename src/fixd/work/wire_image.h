/* SPDX-License-Identifier: MIT */
/* An image as clients are told of it. */
#pragma once

#include "fixd/model/image.h"
#include "wire/wire.h"

struct wire_image wire_image_of(const struct image *im);
