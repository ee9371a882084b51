/* SPDX-License-Identifier: MIT */
/* The fields of the daemon's reports. The name is the key of `fixctl status --json`; keys are stable (fixctl(1)). */
#pragma once

#include <stdint.h>

#define REPORT_FIELDS(X)                          \
	X(DAEMON, "daemon")                       \
	X(SESSIONS, "sessions")                   \
	X(INSTANCES, "instances")                 \
	X(FIXTURES, "fixtures")                   \
	X(PID, "pid")                             \
	X(VERSION, "version")                     \
	X(UPTIME, "uptime_s")                     \
	X(SOCKET, "socket")                       \
	X(CONFIG, "config")                       \
	X(IO, "io")                               \
	X(IO_REASON, "io_reason")                 \
	X(MEMORY_BYTES, "memory_bytes")           \
	X(MEMORY_MAX, "memory_max")               \
	X(CONNECTIONS, "connections")             \
	X(WAITING, "waiting")                     \
	X(HITS, "hits")                           \
	X(MISSES, "misses")                       \
	X(FAILURES, "failures")                   \
	X(EVICTIONS, "evictions")                 \
	X(ID, "id")                               \
	X(ROOT, "root")                           \
	X(UID, "uid")                             \
	X(CREATED, "created")                     \
	X(LAST_RUN, "last_run")                   \
	X(TOTAL_RUNS, "total_runs")               \
	X(REUSE, "reuse")                         \
	X(MAX_AGE, "max_age_s")                   \
	X(NAME, "name")                           \
	X(PARAM, "param")                         \
	X(SCOPE, "scope")                         \
	X(SCOPE_KEY, "scope_key")                 \
	X(STATE, "state")                         \
	X(GENERATION, "generation")               \
	X(ADDRESS, "address")                     \
	X(SIZE, "size")                           \
	X(DIGEST, "digest")                       \
	X(SOURCE, "source")                       \
	X(AGE, "age_s")                           \
	X(LAST_USED, "last_used")                 \
	X(REUSED, "reused")                       \
	X(LEASES, "leases")                       \
	X(PIDS, "pids")                           \
	X(BUILD_TIME, "build_s")                  \
	X(BUILDS, "builds")                       \
	X(STALE_CAUSE, "stale_cause")             \
	X(ERROR, "error")                         \
	X(DEPENDS, "depends")                     \
	X(FILE, "file")                           \
	X(LINE, "line")                           \
	X(DOC, "doc")                             \
	X(PARAMS, "params")                       \
	X(POLICY, "policy")                       \
	X(REMOVED, "removed")                     \
	X(KEPT, "kept")                           \
	X(ERRORS, "errors")                       \
	X(FREED, "freed_bytes")                   \
	X(PROGRESS, "progress_bytes")             \
	X(PATH, "path")                           \
	X(INPUT, "input")                         \
	X(WARM, "warm")                           \
	X(ADDRESS_BASE, "address_base")           \
	X(TEARDOWN_FAILURES, "teardown_failures") \
	X(TEARDOWN_ERROR, "teardown_error")       \
	X(SERVICE_PID, "service_pid")             \
	X(PORT, "port")                           \
	X(DIR, "dir")                             \
	X(RUNS, "runs")                           \
	X(BEGAN, "began")                         \
	X(ENDED, "ended")                         \
	X(MEMBERS, "members")                     \
	X(USES, "uses")                           \
	X(ATTACHES, "attaches")                   \
	X(BUILT, "built")                         \
	X(CATEGORY, "category")                   \
	X(BUILD_CPU, "build_cpu_s")               \
	X(BUILD_PEAK, "build_peak_bytes")         \
	X(EVENTS, "events")                       \
	X(NUMBER, "number")                       \
	X(TIME, "time")                           \
	X(EVENT, "event")                         \
	X(SESSION, "session")                     \
	X(RUN, "run")                             \
	X(TEST, "test")                           \
	X(TOOK, "took_s")                         \
	X(OF, "of")                               \
	X(RESETS, "resets")                       \
	X(DIRTY, "dirty_resets")                  \
	X(PAGES, "pages_changed")                 \
	X(NEXT, "next")                           \
	X(MORE, "more")                           \
	X(LOST, "lost")                           \
	X(LONGEST_TURN, "longest_turn_s")         \
	X(CLONE, "clone")                         \
	X(CLONES, "clones")                       \
	X(READY, "ready")                         \
	X(STARTING, "starting")                   \
	X(HELD, "held")                           \
	X(ENDING, "ending")                       \
	X(MAX, "max")                             \
	X(GIVEN, "given")                         \
	X(STARTED, "started")                     \
	X(WASTED, "wasted")                       \
	X(HAND_OUT_P50, "hand_out_p50_s")         \
	X(HAND_OUT_P99, "hand_out_p99_s")         \
	X(START_TIME, "start_s")                  \
	X(SAVED, "saved_s")                       \
	X(UNSANDBOXED, "unsandboxed")             \
	X(EXPIRES, "expires_s")                   \
	X(WATCHED, "watched")                     \
	X(WATCHED_COUNT, "watched_count")         \
	X(WRITER, "writer")                       \
	X(REMOTE, "remote")                       \
	X(URL, "url")                             \
	X(NAMESPACE, "namespace")                 \
	X(READS, "reads")                         \
	X(WRITES, "writes")                       \
	X(OPTIONS, "options")                     \
	X(TRANSFERS, "transfers")                 \
	X(UP, "up")                               \
	X(DONE, "done")                           \
	X(DOWNLOADS, "downloads")                 \
	X(DOWNLOADED, "downloaded_bytes")         \
	X(UPLOADS, "uploads")                     \
	X(UPLOADED, "uploaded_bytes")             \
	X(RETRY_CAUSE, "retry_cause")

#define REPORT_ENUM(id, name) REPORT_##id,
enum report_field { REPORT_FIELDS(REPORT_ENUM) REPORT_FIELD_COUNT };

/* NULL for a field of a newer daemon. */
const char *report_field_name(uint16_t field);
