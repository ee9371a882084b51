# Layers: base < image, wire, config < client, builder, fixd < preload, fixctl.

noinst_LTLIBRARIES += libbase.la libimage.la libwire.la libconfig.la libclient.la libmodel.la libdaemon.la


libbase_la_SOURCES = \
	src/base/alloc.c src/base/alloc.h \
	src/base/attributes.c src/base/attributes.h \
	src/base/cgroup.c src/base/cgroup.h \
	src/base/clock.c src/base/clock.h \
	src/base/elf.c src/base/elf.h \
	src/base/fd.c src/base/fd.h \
	src/base/glob.c src/base/glob.h \
	src/base/libdw.h \
	src/base/link.h \
	src/base/log.c src/base/log.h \
	src/base/nearest.c src/base/nearest.h \
	src/base/path.c src/base/path.h \
	src/base/preloads.h \
	src/base/process.c src/base/process.h \
	src/base/template.c src/base/template.h \
	src/base/text.c src/base/text.h \
	src/base/tree.c src/base/tree.h \
	src/base/units.c src/base/units.h \
	src/base/userns.c src/base/userns.h \
	src/base/utf8.h \
	src/base/vector.c src/base/vector.h

libimage_la_SOURCES = \
	src/image/cow.c src/image/cow.h \
	src/image/digest.c src/image/digest.h \
	src/image/manifest.c src/image/manifest.h \
	src/image/memfd.c src/image/memfd.h \
	src/image/objects.c src/image/objects.h \
	src/image/place.c src/image/place.h \
	src/image/relocate.c src/image/relocate.h \
	src/image/region.c src/image/region.h \
	src/image/space.c src/image/space.h
libimage_la_CFLAGS = $(AM_CFLAGS) $(XXHASH_CFLAGS)
libimage_la_LIBADD = libbase.la $(XXHASH_LIBS)

libwire_la_SOURCES = \
	src/wire/carry.c src/wire/carry.h \
	src/wire/job.c src/wire/job.h \
	src/wire/default_socket.c src/wire/default_socket.h \
	src/wire/fork.h \
	src/wire/record.c src/wire/record.h \
	src/wire/rows.c src/wire/rows.h src/wire/state.h \
	src/wire/report.c src/wire/report.h \
	src/wire/offer.h \
	src/wire/run_table.h \
	src/wire/socket.c src/wire/socket.h \
	src/wire/messages.h src/wire/wire.h
libwire_la_LIBADD = libimage.la

libconfig_la_SOURCES = \
	src/config/config.c src/config/config.h \
	src/config/define.c \
	src/config/find.c \
	src/config/fixture.c src/config/fixture.h \
	src/config/graph.c src/config/graph.h \
	src/config/identity.c src/config/identity.h \
	src/config/keys.c src/config/keys.h \
	src/config/loading.c src/config/loading.h \
	src/config/raw.c src/config/raw.h \
	src/config/remote.c src/config/remote.h \
	src/config/service.c src/config/service.h \
	src/config/source.c src/config/source.h
libconfig_la_CFLAGS = $(AM_CFLAGS) $(INIH_CFLAGS)
libconfig_la_LIBADD = libimage.la $(INIH_LIBS)

# libfixd: the convenience library is also what fixctl and the tests link.

libclient_la_SOURCES = \
	src/base/fd.c src/base/process.c src/base/units.c \
	src/client/blame.c src/client/blame.h \
	src/client/board.c src/client/board.h \
	src/client/build.c src/client/build.h \
	src/client/checkpoint.c \
	src/client/connection.c src/client/connection.h \
	src/client/coverage.c src/client/coverage.h \
	src/client/extend.c src/client/extend.h \
	src/client/fork.c \
	src/client/forked.c src/client/forked.h \
	src/client/hazards.c src/client/hazards.h \
	src/client/lines.c src/client/lines.h \
	src/client/loaded.c src/client/loaded.h \
	src/client/local.c src/client/local.h \
	src/client/log.c \
	src/client/mapping.c src/client/mapping.h \
	src/client/object.c src/client/object.h \
	src/client/open.c \
	src/client/python.c src/client/python.h \
	src/client/replay.c src/client/replay.h \
	src/client/run.c \
	src/client/spare.c src/client/spare.h \
	src/client/trap.c src/client/trap.h \
	src/client/variables.c src/client/variables.h \
	src/client/view.c src/client/view.h \
	src/client/watch.c src/client/watch.h \
	src/image/cow.c \
	src/image/digest.c \
	src/image/memfd.c \
	src/image/objects.c \
	src/image/place.c \
	src/image/relocate.c \
	src/image/space.c \
	src/wire/default_socket.c src/wire/default_socket.h \
	src/wire/offer.h \
	src/wire/socket.c src/wire/socket.h
libclient_la_CFLAGS = $(AM_CFLAGS) $(XXHASH_CFLAGS)
libclient_la_LIBADD = $(XXHASH_LIBS)

lib_LTLIBRARIES += libfixd.la
libfixd_la_SOURCES =
libfixd_la_LIBADD = libclient.la
libfixd_la_LDFLAGS = -version-info 0:0:0 -Wl,--version-script=$(srcdir)/src/client/libfixd.sym
EXTRA_libfixd_la_DEPENDENCIES = src/client/libfixd.sym
pkgconfig_DATA += src/client/fixd.pc

# The builder: what plugins link, and the process that hosts them.

lib_LTLIBRARIES += libfixd-builder.la
libfixd_builder_la_SOURCES = src/builder/library.c src/builder/host.h
libfixd_builder_la_LDFLAGS = -version-info 0:0:0 -Wl,--version-script=$(srcdir)/src/builder/libfixd-builder.sym
EXTRA_libfixd_builder_la_DEPENDENCIES = src/builder/libfixd-builder.sym
pkgconfig_DATA += src/builder/fixd-builder.pc

pkglibexec_PROGRAMS += fixd-builder
fixd_builder_SOURCES = \
	src/builder/host.h \
	src/builder/describe.c src/builder/describe.h \
	src/builder/descriptors.c src/builder/descriptors.h \
	src/builder/keep.c src/builder/keep.h \
	src/builder/main.c \
	src/builder/malloc.c \
	src/builder/pack.c src/builder/pack.h \
	src/builder/pack_objects.c src/builder/pack_objects.h \
	src/builder/plugin.c \
	src/builder/remote.c src/builder/remote.h \
	src/builder/leavings.c src/builder/leavings.h \
	src/builder/notify.c src/builder/notify.h \
	src/builder/processes.c src/builder/processes.h \
	src/builder/sandbox.c src/builder/sandbox.h \
	src/builder/service.c \
	src/builder/sources.c \
	src/builder/sysv.c src/builder/sysv.h \
	src/builder/touch.c src/builder/touch.h \
	src/builder/unclean.c src/builder/unclean.h \
	src/builder/types.c src/builder/types.h \
	src/builder/usage.c src/builder/usage.h \
	src/builder/verify.c \
	src/builder/work.c src/builder/work.h \
	src/image/arena.c src/image/arena.h \
	src/image/audit.c src/image/audit.h \
	src/image/symbol.c src/image/symbol.h
fixd_builder_CFLAGS = $(AM_CFLAGS) $(JEMALLOC_CFLAGS)
fixd_builder_LDADD = libwire.la $(JEMALLOC_LIBS) -ldl
# jemalloc looks for the settings in the program.
fixd_builder_LDFLAGS = -Wl,--export-dynamic-symbol=malloc_conf

# Images on a remote: a program of its own, where its libraries are there.

if HAVE_REMOTE
pkglibexec_PROGRAMS += fixd-remote
fixd_remote_SOURCES = \
	src/remote/check.c \
	src/remote/chunk.c src/remote/chunk.h \
	src/remote/get.c \
	src/remote/hash.c src/remote/hash.h \
	src/remote/http.c src/remote/http.h \
	src/remote/key.c src/remote/key.h \
	src/remote/main.c \
	src/remote/prune.c src/remote/prune.h \
	src/remote/put.c \
	src/remote/remote.c src/remote/remote.h \
	src/remote/rest.c src/remote/rest.h \
	src/remote/s3.c src/remote/s3.h \
	src/remote/signed.c src/remote/signed.h \
	src/remote/tell.c src/remote/tell.h
fixd_remote_CFLAGS = $(AM_CFLAGS) $(REMOTE_CFLAGS)
fixd_remote_LDADD = libimage.la $(REMOTE_LIBS)
endif

# What stands in front of libc: with libc alone, and without what a sanitized build has.

FREE_SOURCES = \
	src/free/fault.c \
	src/free/free.h \
	src/free/memory.c \
	src/free/real.c src/free/real.h \
	src/free/scatter.c
FREE_CFLAGS = -std=gnu17 -fvisibility=hidden -O2 $(SHIM_CFLAGS)

lib_LTLIBRARIES += libfixd-free.la
libfixd_free_la_SOURCES = $(FREE_SOURCES) src/free/messages.c
libfixd_free_la_CFLAGS = $(FREE_CFLAGS)
libfixd_free_la_LDFLAGS = -version-info 0:0:0 -Wl,-z,defs -Wl,-z,now -Wl,-Bsymbolic-functions -Wl,--export-dynamic-symbol=free -Wl,--export-dynamic-symbol=realloc

pkglib_LTLIBRARIES += libfixd-preload.la
libfixd_preload_la_SOURCES = \
	$(FREE_SOURCES) \
	src/base/attributes.c src/base/attributes.h \
	src/base/elf.c src/base/elf.h \
	src/base/fd.c src/base/fd.h \
	src/base/path.c src/base/path.h \
	src/base/preloads.h \
	src/base/tree.c src/base/tree.h \
	src/preload/actions.c \
	src/preload/attr.c \
	src/preload/bounce.c \
	src/preload/cwd.c \
	src/preload/dir.c \
	src/preload/environment.c src/preload/environment.h \
	src/preload/exec.c \
	src/preload/fd.c \
	src/preload/cwd_cache.c \
	src/preload/fd_cache.c \
	src/preload/hardlinks.c \
	src/preload/init.c \
	src/preload/inodes.c \
	src/preload/library.c \
	src/preload/links.c \
	src/preload/lock.c \
	src/preload/mount.c \
	src/preload/dirops.c \
	src/preload/names.c \
	src/preload/nss.c \
	src/preload/open.c \
	src/preload/copyup.c \
	src/preload/place.c \
	src/preload/rights.c \
	src/preload/search.c src/preload/search.h \
	src/preload/shell.c \
	src/preload/shim.h \
	src/preload/path_table.c \
	src/preload/socket.c \
	src/preload/starts.c src/preload/starts.h \
	src/preload/stat.c \
	src/preload/syscall.c \
	src/preload/table.c \
	src/preload/vfork.c \
	src/preload/fts.c \
	src/preload/watch.c \
	src/preload/quiet.h \
	src/preload/resolve.c src/preload/resolve.h
libfixd_preload_la_CFLAGS = $(FREE_CFLAGS)
# Every program of a run loads it, and most do little: what the loader has to do counts. Two segments, of which the one for variables is
# one page that is written to anyway (a read-only part of it would be a mapping, a call and a page more), and few symbols to look up.
# Not -z lazy, which would be faster still: the first call of a function then needs more stack than some threads have.
libfixd_preload_la_LDFLAGS = -module -avoid-version -Wl,-z,defs -Wl,-z,now -Wl,-z,noseparate-code -Wl,-z,norelro -Wl,-Bsymbolic-functions -Wl,--export-dynamic-symbol=free -Wl,--export-dynamic-symbol=realloc

# In the place of libc's own source of users, groups and hosts, whose files libc opens past the library above.
pkglib_LTLIBRARIES += libnss_fixd.la
libnss_fixd_la_SOURCES = \
	src/nss/accounts.c \
	src/nss/database.h \
	src/nss/names.c
libnss_fixd_la_CFLAGS = -std=gnu17 -fvisibility=hidden
libnss_fixd_la_LDFLAGS = -module -avoid-version -shrext .so.2 -Wl,-z,defs

# The daemon.

# Of the other rooms it needs deferred calls and timers only: its tests link with those.
libmodel_la_SOURCES = \
	src/fixd/model/account.c src/fixd/model/account.h \
	src/fixd/model/client.h \
	src/fixd/model/coherence.c \
	src/fixd/model/edge.c src/fixd/model/edge.h \
	src/fixd/model/effect.h \
	src/fixd/model/event_log.h \
	src/fixd/model/expiry.c \
	src/fixd/model/result.c \
	src/fixd/model/service.c \
	src/fixd/model/events.c src/fixd/model/events.h \
	src/fixd/model/image.c src/fixd/model/image.h \
	src/fixd/model/instance.c src/fixd/model/instance.h \
	src/fixd/model/model.c src/fixd/model/model.h \
	src/fixd/model/orphan.c src/fixd/model/orphan.h \
	src/fixd/model/pool.c src/fixd/model/pool.h \
	src/fixd/model/policy.c src/fixd/model/policy.h \
	src/fixd/model/reclaim.c src/fixd/model/reclaim.h \
	src/fixd/model/run.c src/fixd/model/run.h \
	src/fixd/model/definition.c \
	src/fixd/model/registry.c \
	src/fixd/model/supply.c src/fixd/model/supply.h \
	src/fixd/model/sweep.c \
	src/fixd/model/session.c src/fixd/model/session.h \
	src/fixd/model/user.c src/fixd/model/user.h \
	src/fixd/model/visibility.c src/fixd/model/visibility.h \
	src/fixd/model/waiter.c src/fixd/model/waiter.h
libmodel_la_LIBADD = libconfig.la libwire.la

libdaemon_la_SOURCES = \
	src/fixd/daemon.c src/fixd/daemon.h \
	src/fixd/host/activation.c src/fixd/host/activation.h \
	src/fixd/host/board.c src/fixd/host/board.h \
	src/fixd/host/notify.c src/fixd/host/notify.h \
	src/fixd/host/port.c src/fixd/host/port.h \
	src/fixd/host/mount_table.c src/fixd/host/mount_table.h \
	src/fixd/host/ring.c src/fixd/host/ring.h \
	src/fixd/host/snapshot.c src/fixd/host/snapshot.h \
	src/fixd/host/spawn.c src/fixd/host/spawn.h \
	src/fixd/host/survey.c src/fixd/host/survey.h \
	src/fixd/host/treedir.c src/fixd/host/treedir.h \
	src/fixd/host/viewer.c src/fixd/host/viewer.h \
	src/fixd/host/subscription.c src/fixd/host/subscription.h \
	src/fixd/host/watchset.c \
	src/fixd/host/watch.c src/fixd/host/watch.h src/fixd/host/watching.h \
	src/fixd/host/worker.c src/fixd/host/worker.h \
	src/fixd/keep/fdstore.c src/fixd/keep/fdstore.h \
	src/fixd/keep/load.c \
	src/fixd/keep/load_conn.c \
	src/fixd/keep/loading.h \
	src/fixd/keep/keep.h \
	src/fixd/keep/restart.c src/fixd/keep/restart.h \
	src/fixd/keep/rows.c src/fixd/keep/rows.h \
	src/fixd/keep/save.c \
	src/fixd/keep/state.h \
	src/fixd/keep/check.c src/fixd/keep/check.h \
	src/fixd/loop/backend.h \
	src/fixd/loop/deferred.c src/fixd/loop/deferred.h \
	src/fixd/loop/epoll.c \
	src/fixd/loop/loop.c src/fixd/loop/loop.h \
	src/fixd/loop/timer.c src/fixd/loop/timer.h \
	src/fixd/loop/uring.c \
	src/fixd/serve/attach.c \
	src/fixd/serve/cleanup.c src/fixd/serve/cleanup.h \
	src/fixd/serve/conn.c src/fixd/serve/conn.h \
	src/fixd/serve/control.h \
	src/fixd/serve/event_stream.c src/fixd/serve/event_stream.h \
	src/fixd/serve/inbox.c src/fixd/serve/inbox.h \
	src/fixd/serve/listener.c \
	src/fixd/serve/relocate.c \
	src/fixd/serve/reload.c src/fixd/serve/reload.h \
	src/fixd/serve/report.c src/fixd/serve/report.h \
	src/fixd/serve/report_remote.c src/fixd/serve/report_remote.h \
	src/fixd/serve/server.c src/fixd/serve/server.h \
	src/fixd/serve/request.c src/fixd/serve/request.h \
	src/fixd/serve/request_run.c \
	src/fixd/serve/tail.c src/fixd/serve/tail.h \
	src/fixd/serve/task.h \
	src/fixd/serve/unread.c src/fixd/serve/unread.h \
	src/fixd/serve/walk.c src/fixd/serve/walk.h \
	src/fixd/work/build.c src/fixd/work/build.h \
	src/fixd/work/build_state.h \
	src/fixd/work/client_build.c src/fixd/work/client_build.h \
	src/fixd/work/job_request.c src/fixd/work/job_request.h \
	src/fixd/work/keeper.c src/fixd/work/keeper.h \
	src/fixd/work/queue.c \
	src/fixd/work/publish.c src/fixd/work/publish.h \
	src/fixd/work/recovery.c src/fixd/work/recovery.h \
	src/fixd/work/relocation.c src/fixd/work/relocation.h \
	src/fixd/work/survivor.c src/fixd/work/survivor.h \
	src/fixd/work/transfer.c src/fixd/work/transfer.h \
	src/fixd/work/trees.c src/fixd/work/trees.h \
	src/fixd/work/wire_image.c src/fixd/work/wire_image.h \
	src/fixd/work/work.c src/fixd/work/work.h
libdaemon_la_CFLAGS = $(AM_CFLAGS) $(URING_CFLAGS)
libdaemon_la_LIBADD = libmodel.la libconfig.la libwire.la $(URING_LIBS) -lpthread

bin_PROGRAMS += fixd
fixd_SOURCES = \
	src/fixd/background.c src/fixd/background.h \
	src/fixd/main.c
fixd_LDADD = libdaemon.la

# The operator's tool.

bin_PROGRAMS += fixctl
fixctl_SOURCES = \
	src/fixctl/bench.c src/fixctl/bench.h \
	src/fixctl/bench_imports.c \
	src/fixctl/bench_measure.c \
	src/fixctl/bench_table.c \
	src/fixctl/cleanup.c \
	src/fixctl/control.c \
	src/fixctl/ctl.c \
	src/fixctl/doctor.c \
	src/fixctl/fixctl.h \
	src/fixctl/fork.c \
	src/fixctl/explain.c \
	src/fixctl/follow.c src/fixctl/follow.h \
	src/fixctl/get.c \
	src/fixctl/graph.c src/fixctl/graph.h \
	src/fixctl/history.c src/fixctl/history.h \
	src/fixctl/init.c \
	src/fixctl/instance.c src/fixctl/instance.h \
	src/fixctl/key_parts.c src/fixctl/key_parts.h \
	src/fixctl/list.c \
	src/fixctl/log.c \
	src/fixctl/main.c \
	src/fixctl/manual.c src/fixctl/manual.h \
	src/fixctl/markup.c src/fixctl/markup.h \
	src/fixctl/nvml.c src/fixctl/nvml.h \
	src/fixctl/openmetrics.c src/fixctl/openmetrics.h \
	src/fixctl/output.c src/fixctl/output.h \
	src/fixctl/program.c src/fixctl/program.h \
	src/fixctl/project.c src/fixctl/project.h \
	src/fixctl/ps.c \
	src/fixctl/remote.c src/fixctl/remote.h \
	src/fixctl/remote_tool.c \
	src/fixctl/report.c src/fixctl/report.h \
	src/fixctl/report_culprits.c \
	src/fixctl/report_html.c \
	src/fixctl/report_make.c \
	src/fixctl/report_markdown.c \
	src/fixctl/report_timeline.c \
	src/fixctl/run_changes.c \
	src/fixctl/run_command.c src/fixctl/run_command.h \
	src/fixctl/run_copies.c \
	src/fixctl/run.c src/fixctl/run.h \
	src/fixctl/run_fixtures.c \
	src/fixctl/run_keeper.c \
	src/fixctl/run_mount.c src/fixctl/run_owners.c \
	src/fixctl/run_scratch.c \
	src/fixctl/run_table.c \
	src/fixctl/samples.c src/fixctl/samples.h \
	src/fixctl/screen.c src/fixctl/screen.h \
	src/fixctl/status.c \
	src/fixctl/terminal.c src/fixctl/terminal.h \
	src/fixctl/trace.c \
	src/fixctl/transfers.c src/fixctl/transfers.h \
	src/fixctl/warm.c \
	src/fixctl/pty.c src/fixctl/pty.h \
	src/fixctl/with.c \
	src/fixctl/warming.c src/fixctl/warming.h
schemadir = $(pkgdatadir)/schema
dist_schema_DATA = \
	src/fixctl/schema/bench.json \
	src/fixctl/schema/changes.json \
	src/fixctl/schema/cleanup.json \
	src/fixctl/schema/control.json \
	src/fixctl/schema/doctor.json \
	src/fixctl/schema/event.json \
	src/fixctl/schema/explain.json \
	src/fixctl/schema/fixture.json \
	src/fixctl/schema/get.json \
	src/fixctl/schema/graph.json \
	src/fixctl/schema/init.json \
	src/fixctl/schema/instance.json \
	src/fixctl/schema/list.json \
	src/fixctl/schema/log.json \
	src/fixctl/schema/ps.json \
	src/fixctl/schema/remote.json \
	src/fixctl/schema/remote-status.json \
	src/fixctl/schema/report.json \
	src/fixctl/schema/status.json \
	src/fixctl/schema/trace.json \
	src/fixctl/schema/warm.json
fixctl_CFLAGS = $(AM_CFLAGS) $(JANSSON_CFLAGS)
fixctl_LDADD = libclient.la libwire.la $(JANSSON_LIBS) -ldl -lm

EXTRA_DIST += src/wire/messages.table src/client/libfixd.sym src/builder/libfixd-builder.sym
