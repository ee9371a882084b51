/* SPDX-License-Identifier: MIT */
/* The room that performs the effects of the model. */
#pragma once

#include "fixd/model/effect.h"

extern const struct effects work_effects;
