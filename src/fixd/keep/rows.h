/* SPDX-License-Identifier: MIT */
/* How the objects of the daemon are written: a table for each, from which they are saved and loaded. */
#pragma once

#include "wire/rows.h"

/* Everything else has a field of its own, above those of the tables. */
enum state_field {
	STATE_VERSION_FIELD = 1000,
	STATE_DAEMON,
	STATE_SESSION,
	STATE_FIXTURE,
	STATE_NAME,
	STATE_SETTING,
	STATE_RUN,
	STATE_USE,
	STATE_IMAGE,
	STATE_SAW,
	STATE_DEPENDS,
	STATE_NEEDS,
	STATE_OF_SESSION,
	STATE_KEEPER,
	STATE_INSTANCE,
	STATE_REGISTERED,
	STATE_CURRENT,
	STATE_LAST,
	STATE_FAILED_WITH,
	STATE_WATCH,
	STATE_EAGER,
	STATE_RESTART_IN,
	STATE_OFFER,
	STATE_OF_CONN,
	STATE_ORPHAN,
	STATE_CONN,
	STATE_RUN_ID,
	STATE_OBSERVER,
	STATE_CLOSING,
	STATE_FD,
	STATE_LEASE,
	STATE_SERIAL,
	STATE_ATTACH,
	STATE_RELEASE,
	STATE_ID,
	STATE_FLAGS,
	STATE_DEADLINE,
	STATE_OF_INSTANCE,
	STATE_HOLDER,
	STATE_PID,
	STATE_MESSAGE,
};

extern const struct row daemon_rows[], session_rows[], run_rows[], use_rows[], image_rows[], keeper_rows[], instance_rows[],
	orphan_rows[], conn_rows[], lease_rows[], offer_rows[];
