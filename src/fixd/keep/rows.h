/* SPDX-License-Identifier: MIT */
/* How the objects of the daemon are written: a table for each, from which they are saved and loaded. */
#pragma once

#include "wire/rows.h"
#include "wire/state.h"

extern const struct row daemon_rows[], session_rows[], run_rows[], use_rows[], image_rows[], keeper_rows[], instance_rows[], orphan_rows[],
	conn_rows[], lease_rows[], transfer_rows[], pool_rows[];
