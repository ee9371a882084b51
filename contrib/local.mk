# The demo is built with `make check`, and by contrib/quickstart.

check_LTLIBRARIES += contrib/demo/wordnet.la
contrib_demo_wordnet_la_SOURCES = contrib/demo/plugin.c contrib/demo/wordnet.h
contrib_demo_wordnet_la_CFLAGS = $(AM_CFLAGS) -fvisibility=default
contrib_demo_wordnet_la_LIBADD = libfixd-builder.la
contrib_demo_wordnet_la_LDFLAGS = -module -avoid-version -shared -rpath /nowhere

check_PROGRAMS += contrib/demo/suite contrib/demo/private
contrib_demo_suite_SOURCES = contrib/demo/suite.c contrib/demo/measure.h contrib/demo/wordnet.h
contrib_demo_suite_LDADD = libclient.la
contrib_demo_private_SOURCES = contrib/demo/private.c contrib/demo/plugin.c contrib/demo/measure.h
contrib_demo_private_LDADD = libfixd-builder.la
contrib_demo_private_LDFLAGS = -no-install

demo: all contrib/demo/wordnet.la contrib/demo/suite$(EXEEXT) contrib/demo/private$(EXEEXT)
	$(srcdir)/contrib/demo/run $(abs_builddir)
.PHONY: demo

# In a build of --enable-coverage, after `make check` or any part of it: which lines have run, room by room.
coverage:
	$(srcdir)/contrib/coverage $(abs_builddir)
# What clang-tidy and the analyzer have to say: nothing. LINT_FILES names some of them.
lint:
	$(srcdir)/contrib/lint $(abs_builddir) $(LINT_FILES)
.PHONY: coverage lint
EXTRA_DIST += \
	contrib/HACKING \
	contrib/check \
	contrib/check-kernel \
	contrib/check-kernel-guest \
	contrib/ci/github-fleet.yml \
	contrib/ci/github.yml \
	contrib/ci/gitlab-fleet.yml \
	contrib/ci/gitlab.yml \
	contrib/ci/README \
	contrib/ci/apache.conf \
	contrib/ci/nginx.conf \
	contrib/ci/with-remote \
	contrib/clang-tidy \
	contrib/coverage \
	contrib/demo/fixd.ini \
	contrib/demo/run \
	contrib/demo/to-sqlite \
	contrib/deps \
	contrib/fuzz \
	contrib/lint \
	contrib/protocol \
	contrib/quickstart

# Completion.

bashcompletiondir = $(datadir)/bash-completion/completions
dist_bashcompletion_DATA = contrib/completions/fixctl
zshcompletiondir = $(datadir)/zsh/site-functions
dist_zshcompletion_DATA = contrib/completions/_fixctl
fishcompletiondir = $(datadir)/fish/vendor_completions.d
dist_fishcompletion_DATA = contrib/completions/fixctl.fish

# The pytest plugin: a Python package of its own, installed with pip from its directory.

pytest_fixd = \
	contrib/pytest-fixd/COPYING \
	contrib/pytest-fixd/README \
	contrib/pytest-fixd/bench/django \
	contrib/pytest-fixd/bench/run \
	contrib/pytest-fixd/django/settings.py \
	contrib/pytest-fixd/django/shop/__init__.py \
	contrib/pytest-fixd/django/shop/models.py \
	contrib/pytest-fixd/django/cluster.sh \
	contrib/pytest-fixd/django/fill.py \
	contrib/pytest-fixd/django/fixd.ini \
	contrib/pytest-fixd/django/conftest.py \
	contrib/pytest-fixd/django/pytest.ini \
	contrib/pytest-fixd/django/test_shop.py \
	contrib/pytest-fixd/django/test_server.py \
	contrib/pytest-fixd/fixd/__init__.py \
	contrib/pytest-fixd/fixd/_again.py \
	contrib/pytest-fixd/fixd/_asked.py \
	contrib/pytest-fixd/fixd/_arrays.py \
	contrib/pytest-fixd/fixd/_blame.py \
	contrib/pytest-fixd/fixd/_by_self.py \
	contrib/pytest-fixd/fixd/_canonical.py \
	contrib/pytest-fixd/fixd/_checkpoint.py \
	contrib/pytest-fixd/fixd/_classes.py \
	contrib/pytest-fixd/fixd/_command_line.py \
	contrib/pytest-fixd/fixd/_commands.py \
	contrib/pytest-fixd/fixd/_configured.py \
	contrib/pytest-fixd/fixd/_daemon.py \
	contrib/pytest-fixd/fixd/_directories.py \
	contrib/pytest-fixd/fixd/_dropped.py \
	contrib/pytest-fixd/fixd/_early.py \
	contrib/pytest-fixd/fixd/_ends.py \
	contrib/pytest-fixd/fixd/_explain.py \
	contrib/pytest-fixd/fixd/_definition.py \
	contrib/pytest-fixd/fixd/_fingerprint.py \
	contrib/pytest-fixd/fixd/_fixtures.py \
	contrib/pytest-fixd/fixd/_forked.py \
	contrib/pytest-fixd/fixd/_handle.py \
	contrib/pytest-fixd/fixd/_hazards.py \
	contrib/pytest-fixd/fixd/_history.py \
	contrib/pytest-fixd/fixd/_ledger.py \
	contrib/pytest-fixd/fixd/_lib.py \
	contrib/pytest-fixd/fixd/_limit.py \
	contrib/pytest-fixd/fixd/_reads.py \
	contrib/pytest-fixd/fixd/_remote.py \
	contrib/pytest-fixd/fixd/_renewal.py \
	contrib/pytest-fixd/fixd/_runtime.py \
	contrib/pytest-fixd/fixd/_rerun.py \
	contrib/pytest-fixd/fixd/_live.py \
	contrib/pytest-fixd/fixd/_member.py \
	contrib/pytest-fixd/fixd/_made_of.py \
	contrib/pytest-fixd/fixd/_parts.py \
	contrib/pytest-fixd/fixd/_objects.py \
	contrib/pytest-fixd/fixd/_outside.py \
	contrib/pytest-fixd/fixd/_patterns.py \
	contrib/pytest-fixd/fixd/_process.py \
	contrib/pytest-fixd/fixd/_python.py \
	contrib/pytest-fixd/fixd/_scattered.py \
	contrib/pytest-fixd/fixd/_setting.py \
	contrib/pytest-fixd/fixd/_source.py \
	contrib/pytest-fixd/fixd/_suspended.py \
	contrib/pytest-fixd/fixd/_teardown.py \
	contrib/pytest-fixd/fixd/_use.py \
	contrib/pytest-fixd/fixd/_values.py \
	contrib/pytest-fixd/fixd/_variables.py \
	contrib/pytest-fixd/fixd/_warm.py \
	contrib/pytest-fixd/fixd/_witness.py \
	contrib/pytest-fixd/fixd/plugin.py \
	contrib/pytest-fixd/fixd/py.typed \
	contrib/pytest-fixd/fixd/shared_session_scope/__init__.py \
	contrib/pytest-fixd/fixd/shared_session_scope/_tokens.py \
	contrib/pytest-fixd/fixd/shared_session_scope/store.py \
	contrib/pytest-fixd/fixd/shared_session_scope/types.py \
	contrib/pytest-fixd/pyproject.toml \
	contrib/pytest-fixd/tests/conftest.py \
	contrib/pytest-fixd/tests/starter.py \
	contrib/pytest-fixd/tests/test_arrays.py \
	contrib/pytest-fixd/tests/test_asked.py \
	contrib/pytest-fixd/tests/test_blame.py \
	contrib/pytest-fixd/tests/test_checkpoint.py \
	contrib/pytest-fixd/tests/test_cleanup.py \
	contrib/pytest-fixd/tests/test_code.py \
	contrib/pytest-fixd/tests/test_connections.py \
	contrib/pytest-fixd/tests/test_databases.py \
	contrib/pytest-fixd/tests/test_habits.py \
	contrib/pytest-fixd/tests/test_identity.py \
	contrib/pytest-fixd/tests/test_install.py \
	contrib/pytest-fixd/tests/test_live.py \
	contrib/pytest-fixd/tests/test_made_of.py \
	contrib/pytest-fixd/tests/test_python.py \
	contrib/pytest-fixd/tests/test_readme.py \
	contrib/pytest-fixd/tests/test_recipes.py \
	contrib/pytest-fixd/tests/test_remote.py \
	contrib/pytest-fixd/tests/test_sharing.py \
	contrib/pytest-fixd/tests/test_surroundings.py \
	contrib/pytest-fixd/tests/test_use.py \
	contrib/pytest-fixd/tests/test_values.py \
	contrib/pytest-fixd/tests/test_warm.py \
	contrib/pytest-fixd/tests/test_watch.py \
	contrib/pytest-fixd/tests/test_writable.py
EXTRA_DIST += $(pytest_fixd)

bench-pytest: all
	FIXD_BUILD='$(abs_top_builddir)' $(srcdir)/contrib/pytest-fixd/bench/run
bench-django: all
	FIXD_BUILD='$(abs_top_builddir)' $(srcdir)/contrib/pytest-fixd/bench/django
# All of the suite of Django, in four ways; check runs a part of it.
check-django: all
	FIXD_BUILD='$(abs_top_builddir)' FIXD_DJANGO=all PYTHONDONTWRITEBYTECODE=1 PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 /usr/bin/python3 -m pytest -p xdist.plugin \
		-p no:cacheprovider -q --durations=0 $(srcdir)/contrib/pytest-fixd/tests/test_databases.py
.PHONY: bench-pytest bench-django check-django

# The adapters: headers, and a suite for each framework as an example; tests/shim/adapters.py runs them.

old_adaptersdir = $(includedir)
dist_old_adapters_HEADERS = \
	contrib/adapters/fixd-check.h \
	contrib/adapters/fixd-cmocka.h \
	contrib/adapters/fixd-criterion.h \
	contrib/adapters/fixd-cunit.h \
	contrib/adapters/fixd-gtest.h \
	contrib/adapters/fixd-test.h
adaptersdir = $(includedir)/fixd
dist_adapters_HEADERS = \
	contrib/adapters/fixd/boost.h \
	contrib/adapters/fixd/catch2.h \
	contrib/adapters/fixd/check.h \
	contrib/adapters/fixd/cmocka.h \
	contrib/adapters/fixd/criterion.h \
	contrib/adapters/fixd/cunit.h \
	contrib/adapters/fixd/cxx.h \
	contrib/adapters/fixd/doctest.h \
	contrib/adapters/fixd/gtest.h \
	contrib/adapters/fixd/test.h

cmakedir = $(datadir)/cmake/fixd
dist_cmake_DATA = contrib/cmake/FixdFixtures.cmake contrib/cmake/FixdForkTests.cmake contrib/cmake/fixd-config.cmake
nodist_cmake_DATA = contrib/cmake/fixd-config-version.cmake

EXTRA_DIST += \
	contrib/adapters/README \
	contrib/adapters/examples/CMakeLists.txt \
	contrib/adapters/examples/Makefile \
	contrib/adapters/examples/boost.cc \
	contrib/adapters/examples/catch2.cc \
	contrib/adapters/examples/check.c \
	contrib/adapters/examples/cmocka.c \
	contrib/adapters/examples/criterion.c \
	contrib/adapters/examples/cunit.c \
	contrib/adapters/examples/doctest.cc \
	contrib/adapters/examples/fixd.ini \
	contrib/adapters/examples/forks.cc \
	contrib/adapters/examples/gtest.cc \
	contrib/adapters/examples/legacy.sh \
	contrib/adapters/examples/meson.build \
	contrib/adapters/examples/own.sh \
	contrib/adapters/examples/plain.c

# The package for Go, of which a module's go.mod says where it is.

godir = $(pkgdatadir)/go
dist_go_DATA = \
	contrib/go/README \
	contrib/go/board.go \
	contrib/go/errors.go \
	contrib/go/example_test.go \
	contrib/go/fixd.go \
	contrib/go/fixd_test.go \
	contrib/go/go.mod \
	contrib/go/link.go \
	contrib/go/mapping.go \
	contrib/go/messages.go \
	contrib/go/packet.go \
	contrib/go/socket.go \
	contrib/go/testing.go \
	contrib/go/view.go \
	contrib/go/wire.go

EXTRA_DIST += contrib/go/testdata/fixd.ini contrib/go/testdata/words

# The crate for Rust, of which a Cargo.toml says where it is.

rustdir = $(pkgdatadir)/rust
dist_rust_DATA = \
	contrib/rust/Cargo.toml \
	contrib/rust/README \
	contrib/rust/build.rs \
	contrib/rust/rustfmt.toml

rustsrcdir = $(rustdir)/src
dist_rustsrc_DATA = \
	contrib/rust/src/connection.rs \
	contrib/rust/src/error.rs \
	contrib/rust/src/ffi.rs \
	contrib/rust/src/lib.rs \
	contrib/rust/src/plain.rs \
	contrib/rust/src/tests.rs \
	contrib/rust/src/view.rs

EXTRA_DIST += contrib/rust/tests/daemon.rs contrib/rust/tests/fixd.ini contrib/rust/tests/words

# The packages of Debian: contrib/package makes and tries them.

EXTRA_DIST += contrib/package \
	contrib/debian/changelog \
	contrib/debian/control \
	contrib/debian/copyright \
	contrib/debian/fixd.docs \
	contrib/debian/fixd.examples \
	contrib/debian/fixd.install \
	contrib/debian/fixd.lintian-overrides \
	contrib/debian/fixd.postinst \
	contrib/debian/fixd.postrm \
	contrib/debian/libfixd-dev.examples \
	contrib/debian/libfixd-dev.install \
	contrib/debian/libfixd-preload.install \
	contrib/debian/libfixd0.install \
	contrib/debian/libfixd0.lintian-overrides \
	contrib/debian/not-installed \
	contrib/debian/python3-pytest-fixd.docs \
	contrib/debian/python3-pytest-fixd.install \
	contrib/debian/python3-pytest-fixd.lintian-overrides \
	contrib/debian/python3-pytest-fixd.postinst \
	contrib/debian/python3-pytest-fixd.prerm \
	contrib/debian/rules \
	contrib/debian/source/format \
	contrib/debian/tests/control \
	contrib/debian/tests/smoke

# For systemd: units of the machine and of a user, the machine's user and directories.

systemdsystemunitdir = $(prefix)/lib/systemd/system
systemduserunitdir = $(prefix)/lib/systemd/user
sysusersdir = $(prefix)/lib/sysusers.d
tmpfilesdir = $(prefix)/lib/tmpfiles.d

systemdsystemunit_DATA = contrib/systemd/fixd.service contrib/systemd/fixd.socket
systemduserunit_DATA = contrib/systemd/user/fixd.service contrib/systemd/user/fixd.socket
sysusers_DATA = contrib/systemd/sysusers/fixd.conf
tmpfiles_DATA = contrib/systemd/tmpfiles/fixd.conf

units_in = contrib/systemd/fixd.service.in contrib/systemd/user/fixd.service.in
EXTRA_DIST += $(units_in) contrib/systemd/fixd.socket contrib/systemd/user/fixd.socket $(sysusers_DATA) $(tmpfiles_DATA)
CLEANFILES += $(units_in:.in=)

contrib/systemd/fixd.service contrib/systemd/user/fixd.service: %: %.in
	@$(MKDIR_P) $(@D)
	$(AM_V_GEN)sed 's,@bindir[@],$(bindir),' $(srcdir)/$@.in >$@
