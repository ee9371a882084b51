# TAP everywhere. `make check` runs all; a single one: make check TESTS=tests/daemon/invalidation.py
LOG_DRIVER = env AM_TAP_AWK='$(AWK)' $(SHELL) $(top_srcdir)/build-aux/tap-driver.sh
PY_LOG_DRIVER = $(LOG_DRIVER)
SH_LOG_DRIVER = $(LOG_DRIVER)
TEST_EXTENSIONS = .py .sh
PY_LOG_COMPILER = $(top_srcdir)/tests/with-python
AM_TESTS_ENVIRONMENT = \
	FIXD_BUILD='$(abs_top_builddir)'; FIXD_SRC='$(abs_top_srcdir)'; FIXD_SANITIZERS='$(sanitizers)'; \
	FIXD_BUILDER='$(abs_top_builddir)/fixd-builder'; CC='$(CC)'; MANDOC='$(MANDOC)'; PYTHON3='$(PYTHON3)'; \
	export FIXD_BUILD FIXD_SRC FIXD_SANITIZERS FIXD_BUILDER CC MANDOC PYTHON3; unset FIXD_SOCKET FIXD_DISABLE FIXD_TIMEOUT;

AM_TEST_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests -UNDEBUG

unit_tests = tests/unit/base tests/unit/image tests/unit/arena tests/unit/starts tests/unit/timer tests/unit/usage tests/unit/wire tests/fuzz/inputs tests/client/library
# An interpreter does not run under the thread sanitizer.
thread_tests = tests/unit/base tests/unit/wire tests/client/library
check_PROGRAMS += $(unit_tests)

tests_unit_base_SOURCES = tests/unit/base.c tests/tap.h
tests_unit_base_CPPFLAGS = $(AM_TEST_CPPFLAGS)
tests_unit_base_LDADD = libbase.la
tests_unit_image_SOURCES = tests/unit/image.c tests/tap.h
tests_unit_image_CPPFLAGS = $(AM_TEST_CPPFLAGS)
tests_unit_image_LDADD = libimage.la
tests_unit_starts_SOURCES = tests/unit/starts.c src/preload/starts.c src/preload/starts.h tests/tap.h
tests_unit_starts_CPPFLAGS = $(AM_TEST_CPPFLAGS)
tests_unit_timer_SOURCES = tests/unit/timer.c src/fixd/loop/timer.c src/fixd/loop/timer.h tests/tap.h
tests_unit_timer_CPPFLAGS = $(AM_TEST_CPPFLAGS)
tests_unit_timer_LDADD = libbase.la
tests_unit_usage_SOURCES = tests/unit/usage.c src/builder/usage.c src/builder/usage.h src/builder/processes.c src/builder/processes.h tests/tap.h
tests_unit_usage_CPPFLAGS = $(AM_TEST_CPPFLAGS)
tests_unit_usage_LDADD = libimage.la
tests_unit_wire_SOURCES = tests/unit/wire.c tests/tap.h
tests_unit_wire_CPPFLAGS = $(AM_TEST_CPPFLAGS)
tests_unit_wire_LDADD = libwire.la
tests_unit_arena_SOURCES = tests/unit/arena.c src/image/arena.c src/image/audit.c src/image/symbol.c tests/tap.h
tests_unit_arena_CPPFLAGS = $(AM_TEST_CPPFLAGS)
tests_unit_arena_CFLAGS = $(AM_CFLAGS) $(JEMALLOC_CFLAGS)
tests_unit_arena_LDADD = libimage.la $(JEMALLOC_LIBS) -ldl
tests_unit_arena_LDFLAGS = -Wl,--export-dynamic-symbol=malloc_conf
tests_fuzz_inputs_SOURCES = tests/fuzz/inputs.c tests/tap.h
tests_fuzz_inputs_CPPFLAGS = $(AM_TEST_CPPFLAGS)
tests_fuzz_inputs_LDADD = libconfig.la libwire.la
tests_client_library_SOURCES = tests/client/library.c tests/tap.h
tests_client_library_CPPFLAGS = $(AM_TEST_CPPFLAGS)
tests_client_library_LDADD = libclient.la -lpthread

# The model of the daemon without a daemon: each decision, and random lives of it (make simulate: STEPS and SEED).
model_world = tests/model/world.c tests/model/world_clock.c tests/model/world_wrong.c tests/model/world.h tests/tap.h src/fixd/loop/deferred.c src/fixd/loop/timer.c
model_tests = tests/model/decisions tests/model/clones tests/model/states
check_PROGRAMS += $(model_tests) tests/model/simulate
tests_model_decisions_SOURCES = tests/model/decisions.c tests/model/asker.c tests/model/asker.h $(model_world)
tests_model_decisions_CPPFLAGS = $(AM_TEST_CPPFLAGS)
tests_model_decisions_LDADD = libmodel.la
tests_model_clones_SOURCES = tests/model/clones.c tests/model/asker.c tests/model/asker.h $(model_world)
tests_model_clones_CPPFLAGS = $(AM_TEST_CPPFLAGS)
tests_model_clones_LDADD = libmodel.la
tests_model_states_SOURCES = tests/model/states.c $(model_world)
tests_model_states_CPPFLAGS = $(AM_TEST_CPPFLAGS)
tests_model_states_LDADD = libmodel.la
tests_model_simulate_SOURCES = tests/model/simulate.c tests/model/life.c tests/model/life.h tests/model/restart.c tests/model/restart.h src/fixd/keep/save.c src/fixd/keep/load.c \
	src/fixd/keep/load_conn.c src/fixd/keep/rows.c src/fixd/keep/check.c $(model_world)
tests_model_simulate_CPPFLAGS = $(AM_TEST_CPPFLAGS)
tests_model_simulate_LDADD = libmodel.la
simulate: tests/model/simulate
	tests/model/simulate $${STEPS:-1000000} $${SEED:-1}
.PHONY: simulate

# One target each: a test of some thousand inputs, or with --enable-fuzz a program of libFuzzer (make fuzz).
fuzz_targets = tests/fuzz/config tests/fuzz/protocol tests/fuzz/publication tests/fuzz/state tests/fuzz/manifest tests/fuzz/client
if FUZZ
fuzz_main = tests/fuzz/input.h
fuzz_link = -fsanitize=fuzzer
else
fuzz_main = tests/fuzz/input.h tests/fuzz/replay.c tests/tap.h
fuzz_link =
endif
# A configuration is kept from one daemon to the next.
fuzz_inside_link = $(fuzz_link) -Wl,--wrap=config_free
fuzz_inside = tests/fuzz/inside.c tests/fuzz/inside.h tests/fuzz/peers.c tests/fuzz/peers.h
EXTRA_DIST += tests/fuzz/failed
check_PROGRAMS += $(fuzz_targets)
tests_fuzz_config_SOURCES = tests/fuzz/config.c $(fuzz_main)
tests_fuzz_config_CPPFLAGS = $(AM_TEST_CPPFLAGS)
tests_fuzz_config_LDFLAGS = $(fuzz_link)
tests_fuzz_config_LDADD = libconfig.la libimage.la
tests_fuzz_protocol_SOURCES = tests/fuzz/protocol.c $(fuzz_main) $(fuzz_inside)
tests_fuzz_protocol_CPPFLAGS = $(AM_TEST_CPPFLAGS)
tests_fuzz_protocol_LDFLAGS = $(fuzz_inside_link)
tests_fuzz_protocol_LDADD = libdaemon.la
tests_fuzz_publication_SOURCES = tests/fuzz/publication.c $(fuzz_main) $(fuzz_inside)
tests_fuzz_publication_CPPFLAGS = $(AM_TEST_CPPFLAGS)
tests_fuzz_publication_LDFLAGS = $(fuzz_inside_link)
tests_fuzz_publication_LDADD = libdaemon.la
tests_fuzz_state_SOURCES = tests/fuzz/state.c $(fuzz_main) $(fuzz_inside)
tests_fuzz_state_CPPFLAGS = $(AM_TEST_CPPFLAGS)
tests_fuzz_state_LDFLAGS = $(fuzz_inside_link)
tests_fuzz_state_LDADD = libdaemon.la
tests_fuzz_manifest_SOURCES = tests/fuzz/manifest.c $(fuzz_main)
tests_fuzz_manifest_CPPFLAGS = $(AM_TEST_CPPFLAGS)
tests_fuzz_manifest_LDFLAGS = $(fuzz_link)
tests_fuzz_manifest_LDADD = libimage.la
tests_fuzz_client_SOURCES = tests/fuzz/client.c $(fuzz_main)
tests_fuzz_client_CPPFLAGS = $(AM_TEST_CPPFLAGS)
tests_fuzz_client_LDFLAGS = $(fuzz_link)
tests_fuzz_client_LDADD = libclient.la -lpthread

if HAVE_SECCOMP
check_PROGRAMS += tests/without
tests_without_SOURCES = tests/without.c
tests_without_CFLAGS = $(AM_CFLAGS) $(SECCOMP_CFLAGS)
tests_without_LDADD = $(SECCOMP_LIBS)
endif

daemon_tests = \
	tests/daemon/bench.py \
	tests/daemon/builds.py \
	tests/daemon/clients.py \
	tests/daemon/events.py \
	tests/daemon/examples.py \
	tests/daemon/faults.py \
	tests/daemon/fleet.py \
	tests/daemon/forks.py \
	tests/daemon/go.py \
	tests/daemon/invalidation.py \
	tests/daemon/manager.py \
	tests/daemon/recipes.py \
	tests/daemon/relocation.py \
	tests/daemon/remote.py \
	tests/daemon/report.py \
	tests/daemon/restart.py \
	tests/daemon/runs.py \
	tests/daemon/rust.py \
	tests/daemon/servers.py \
	tests/daemon/schema.py \
	tests/daemon/services.py \
	tests/daemon/clones.py \
	tests/daemon/sharing.py \
	tests/daemon/terminal.py \
	tests/daemon/tools.py \
	tests/daemon/tutorial.py
shim_tests = tests/shim/adapters.py tests/shim/blame.py tests/shim/calls.py tests/shim/changes.py tests/shim/copyup.py tests/shim/programs.py tests/shim/run.py tests/shim/tools.py tests/shim/user.py
script_tests = tests/systemd.py tests/headers.sh tests/layers.sh tests/rooms.sh tests/shim-calls.sh tests/abi.sh tests/protocol.sh tests/manuals.sh tests/pytest-fixd.sh
TESTS += $(unit_tests) $(model_tests) tests/model/simulate $(fuzz_targets) $(daemon_tests) $(shim_tests) $(script_tests)
EXTRA_DIST += $(daemon_tests) $(shim_tests) $(script_tests) \
	tests/abi.txt \
	tests/blame/calls.c \
	tests/blame/containers.cc \
	tests/blame/fields.c \
	tests/blame/leaks.c \
	tests/blame/library.c \
	tests/blame/library.h \
	tests/blame/suite.h \
	tests/blame/words.c \
	tests/blame/words.h \
	tests/daemon/harness.py \
	tests/daemon/manual.py \
	tests/daemon/mounts.py \
	tests/daemon/server \
	tests/daemon/wire.py \
	tests/shim/calls.c \
	tests/shim/errors.c \
	tests/shim/odd.c \
	tests/shim/sockets.c \
	tests/shim/stage.py \
	tests/with-python

# The library and everything below it under valgrind; the daemon of the test runs beside it, as it is.
check-valgrind: $(check_PROGRAMS) fixd$(EXEEXT) fixd-builder$(EXEEXT)
	@$(AM_TESTS_ENVIRONMENT) for t in tests/unit/base tests/unit/wire tests/unit/image tests/client/library; do \
		valgrind --quiet --error-exitcode=9 --leak-check=full ./$$t >$$t.valgrind 2>&1 || { cat $$t.valgrind; exit 1; }; \
	done
.PHONY: check-valgrind
CLEANFILES += tests/unit/*.valgrind tests/client/*.valgrind

# Six targets, FUZZ_RUNS (10,000,000) executions each, under sanitizers, in a build directory of their own; needs clang.
fuzz:
	$(srcdir)/contrib/fuzz
.PHONY: fuzz

# Every system call of daemon, helper and client, and every operation of the ring, fails once, and for ever; FAULT_ROOMS for some of them.
EXTRA_PROGRAMS += tests/faults/session
tests_faults_session_SOURCES = tests/faults/session.c
tests_faults_session_LDADD = libfixd.la
tests_faults_session_LDFLAGS = -no-install
EXTRA_DIST += tests/faults/loop.py tests/faults/ring.c
CLEANFILES += tests/faults/session tests/faults/ring.so
tests/faults/ring.so: tests/faults/ring.c
	@$(MKDIR_P) tests/faults
	$(CC) $(CPPFLAGS) $(CFLAGS) -shared -fPIC -o $@ $(srcdir)/tests/faults/ring.c -ldl
check-faults: all tests/faults/session$(EXEEXT) tests/faults/ring.so
	$(AM_TESTS_ENVIRONMENT) $(srcdir)/tests/with-python $(srcdir)/tests/faults/loop.py $(FAULT_ROOMS)
.PHONY: check-faults

# A daemon for a long time: killed KILLS (1,000) times with all that belongs to it; and with SOAK_CLIENTS (1,000) clients for SOAK_SECONDS (600).
EXTRA_PROGRAMS += tests/soak/clients
tests_soak_clients_SOURCES = tests/soak/clients.c
tests_soak_clients_LDADD = libfixd.la
tests_soak_clients_LDFLAGS = -no-install
EXTRA_DIST += tests/soak/soak.py
CLEANFILES += tests/soak/clients
KILLS = 1000
SOAK_CLIENTS = 1000
SOAK_SECONDS = 600
check-kills: all tests/soak/clients$(EXEEXT)
	$(AM_TESTS_ENVIRONMENT) $(srcdir)/tests/with-python $(srcdir)/tests/soak/soak.py kills $(KILLS)
soak: all tests/soak/clients$(EXEEXT)
	$(AM_TESTS_ENVIRONMENT) $(srcdir)/tests/with-python $(srcdir)/tests/soak/soak.py soak $(SOAK_CLIENTS) $(SOAK_SECONDS)
# A thousand clones of PostgreSQL, with kills of servers, helpers and the daemon in between.
check-clones: all
	$(AM_TESTS_ENVIRONMENT) FIXD_CLONES=$${CLONES:-1000} FIXD_TEST_SLOWNESS=10 $(srcdir)/tests/with-python $(srcdir)/tests/daemon/servers.py \
		test_clones_and_kills
# Hosts in network namespaces: one has nginx, the others daemons and checkouts.
HOSTS = 12
check-fleet: all
	$(AM_TESTS_ENVIRONMENT) HOSTS=$(HOSTS) FIXD_TEST_SLOWNESS=10 $(srcdir)/tests/with-python $(srcdir)/tests/daemon/hosts.py
EXTRA_DIST += tests/daemon/hosts.py
.PHONY: check-kills soak check-clones check-fleet

# The benchmarks are not part of check: their figures need a quiet machine and a person who reads them.
EXTRA_PROGRAMS += tests/bench/bench
tests_bench_bench_SOURCES = tests/bench/attach.c tests/bench/bench.h tests/bench/daemon.c tests/bench/floods.c tests/bench/main.c tests/bench/memory.c tests/bench/run.c \
	tests/bench/throughput.c
tests_bench_bench_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)
tests_bench_bench_CFLAGS = $(AM_CFLAGS) $(JANSSON_CFLAGS)
tests_bench_bench_LDADD = libclient.la libimage.la $(JANSSON_LIBS)
CLEANFILES += tests/bench/bench bench.json

bench: all tests/bench/bench$(EXEEXT)
	FIXD_BUILD='$(abs_top_builddir)' FIXD_BUILDER='$(abs_top_builddir)/fixd-builder' tests/bench/bench $(BENCH)
	case '$(BENCH)' in ''|run) FIXD_BUILD='$(abs_top_builddir)' FIXD_BUILDER='$(abs_top_builddir)/fixd-builder' $(srcdir)/tests/bench/trees.py ;; esac
	case '$(BENCH)' in ''|clones) FIXD_BUILD='$(abs_top_builddir)' FIXD_BUILDER='$(abs_top_builddir)/fixd-builder' $(srcdir)/tests/bench/clones.py ;; esac
	case '$(BENCH)' in ''|fork) FIXD_BUILD='$(abs_top_builddir)' FIXD_BUILDER='$(abs_top_builddir)/fixd-builder' $(srcdir)/tests/bench/forks.py ;; esac
	case '$(BENCH)' in ''|blame) FIXD_BUILD='$(abs_top_builddir)' FIXD_SRC='$(abs_top_srcdir)' $(srcdir)/tests/bench/blame.py ;; esac
	case '$(BENCH)' in ''|remote) FIXD_BUILD='$(abs_top_builddir)' FIXD_SRC='$(abs_top_srcdir)' FIXD_BUILDER='$(abs_top_builddir)/fixd-builder' $(srcdir)/tests/bench/remote.py ;; esac
EXTRA_DIST += tests/bench/blame.py tests/bench/clones.py tests/bench/forks.py tests/bench/remote.py tests/bench/trees.py
.PHONY: bench
