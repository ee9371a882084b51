/* SPDX-License-Identifier: MIT */
#include "fixd/keep/rows.h"

#include "config/config.h"
#include "fixd/keep/keep.h"
#include "fixd/model/image.h"
#include "fixd/model/instance.h"
#include "fixd/model/orphan.h"
#include "fixd/model/pool.h"
#include "fixd/model/run.h"
#include "fixd/model/session.h"
#include "fixd/serve/conn.h"
#include "fixd/work/keeper.h"
#include "fixd/work/transfer.h"
#include "image/region.h"
#include "wire/wire.h"

#define NUMBER(type, member) ROW_OF(type, ROW_NUMBER, member)
#define STRING(type, member) ROW_OF(type, ROW_STRING, member)
#define LIST(type, member) ROW_OF(type, ROW_LIST, member)
#define TEXT(type, member) ROW_OF(type, ROW_TEXT, member)
#define DIGEST(type, member) ROW_OF(type, ROW_DIGEST, member)
#define FD(type, member) ROW_OF(type, ROW_FD, member)
#define UP_TO(type, member, max) ROW_UP_TO(type, ROW_NUMBER, member, max)
#define BOOL(type, member) ROW_UP_TO(type, ROW_NUMBER, member, 1)
#define TIME(type, member) ROW_OF(type, ROW_TIME, member)
#define PATH(type, member) ROW_OF(type, ROW_PATH, member)
/* clang-format off */
#define PID(type, member) { ROW_NUMBER, sizeof(((type *)0)->member), true, offsetof(type, member), PID_NUMBER_MAX, #member }
#define END { 0 }
/* clang-format on */

/* New rows stand at the end; changing or removing one raises STATE_VERSION. */

const struct row daemon_rows[] = {
	TIME(struct kept, started),
	NUMBER(struct kept, last_serial),
	NUMBER(struct kept, hits),
	NUMBER(struct kept, misses),
	NUMBER(struct kept, failures),
	NUMBER(struct kept, evictions),
	NUMBER(struct kept, teardown_failures),
	STRING(struct kept, trees),
	FD(struct kept, trees_lock),
	NUMBER(struct kept, board_value),
	UP_TO(struct kept, board_used, WIRE_BOARD_SLOTS),
	FD(struct kept, board),
	FD(struct kept, listener),
	FD(struct kept, listener_lock),
	NUMBER(struct kept, asker),
	NUMBER(struct kept, asker_request),
	FD(struct kept, events),
	STRING(struct kept, unsandboxed),
	END,
};

const struct row session_rows[] = {
	STRING(struct session, root),	     UP_TO(struct session, uid, UINT32_MAX - 1), TIME(struct session, created_real),
	TIME(struct session, last_run_real), NUMBER(struct session, total_runs),	 END,
};

const struct row run_rows[] = {
	STRING(struct run, id), TIME(struct run, began_real), TIME(struct run, ended_real), UP_TO(struct run, n_joined, UINT32_MAX), END,
};

const struct row use_rows[] = {
	NUMBER(struct use, serial),   STRING(struct use, title), NUMBER(struct use, generation),
	NUMBER(struct use, attaches), BOOL(struct use, built),	 END,
};

const struct row image_rows[] = {
	NUMBER(struct image, serial),
	FD(struct image, fd),
	UP_TO(struct image, kind, WIRE_IMAGE_TREE),
	NUMBER(struct image, address),
	UP_TO(struct image, size, REGION_SIZE),
	UP_TO(struct image, root, REGION_SIZE),
	UP_TO(struct image, bytes, INT64_MAX / 1024),
	PATH(struct image, tree),
	DIGEST(struct image, digest),
	DIGEST(struct image, inputs),
	DIGEST(struct image, section),
	NUMBER(struct image, generation),
	UP_TO(struct image, board_slot, UINT32_MAX),
	NUMBER(struct image, board_value),
	BOOL(struct image, dirty),
	TIME(struct image, created),
	TIME(struct image, created_real),
	TIME(struct image, used),
	TIME(struct image, used_real),
	TIME(struct image, checked),
	TIME(struct image, build_ns),
	NUMBER(struct image, attaches),
	STRING(struct image, title),
	STRING(struct image, run),
	LIST(struct image, dep_titles),
	FD(struct image, note_fd),
	UP_TO(struct image, note_size, REGION_SIZE),
	BOOL(struct image, of_run),
	BOOL(struct image, teardown),
	BOOL(struct image, torn_down),
	NUMBER(struct image, preferred_teardown_client),
	UP_TO(struct image, scope, SCOPE_COUNT - 1),
	TIME(struct image, cpu_ns),
	NUMBER(struct image, peak_rss),
	FD(struct image, parts_fd),
	BOOL(struct image, at_home_only),
	END,
};

const struct row keeper_rows[] = {
	STRING(struct keeper, title), STRING(struct keeper, user),   PATH(struct keeper, note),
	STRING(struct keeper, token), PATH(struct keeper, dir),	     UP_TO(struct keeper, port, 32767),
	TIME(struct keeper, time),    PID(struct keeper, pid),	     PID(struct keeper, service_pid),
	FD(struct keeper, hold),      FD(struct keeper, channel_fd), FD(struct keeper, errors_fd),
	BOOL(struct keeper, ending),  BOOL(struct keeper, reaping),  STRING(struct keeper, died),
	STRING(struct keeper, wrong), PATH(struct keeper, view),     END,
};

const struct row instance_rows[] = {
	STRING(struct instance, param),
	STRING(struct instance, scope_key),
	LIST(struct instance, env),
	NUMBER(struct instance, generation),
	NUMBER(struct instance, board_slot),
	NUMBER(struct instance, builds),
	NUMBER(struct instance, deaths),
	STRING(struct instance, stale_cause),
	STRING(struct instance, error),
	BOOL(struct instance, failed),
	STRING(struct instance, failed_error),
	TIME(struct instance, failed_at),
	DIGEST(struct instance, failed_section),
	TEXT(struct instance, log),
	STRING(struct instance, teardown_error),
	NUMBER(struct instance, failed_full),
	STRING(struct instance, clone),
	BOOL(struct instance, anew),
	BOOL(struct instance, not_started),
	END,
};

const struct row pool_rows[] = {
	NUMBER(struct pool_figures, started), NUMBER(struct pool_figures, given), NUMBER(struct pool_figures, wasted),
	TIME(struct pool_figures, starts),    TIME(struct pool_figures, saved),	  END,
};

const struct row orphan_rows[] = {
	STRING(struct orphan, title),
	FD(struct orphan, note_fd),
	UP_TO(struct orphan, note_size, REGION_SIZE),
	NUMBER(struct orphan, serial),
	END,
};

const struct row transfer_rows[] = {
	FD(struct transfer, fd),
	STRING(struct transfer, title),
	STRING(struct transfer, session),
	BOOL(struct transfer, begun),
	BOOL(struct transfer, whole),
	STRING(struct transfer, wrong),
	NUMBER(struct transfer, done),
	NUMBER(struct transfer, size),
	TIME(struct transfer, started),
	BOOL(struct transfer, waits),
	END,
};

const struct row conn_rows[] = {
	NUMBER(struct conn, client.id),
	BOOL(struct conn, greeted),
	STRING(struct conn, client.test),
	END,
};

const struct row lease_rows[] = {
	UP_TO(struct lease, pid, PID_NUMBER_MAX),
	BOOL(struct lease, released),
	NUMBER(struct lease, uid),
	TIME(struct lease, since),
	NUMBER(struct lease, event),
	END,
};
