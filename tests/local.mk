# TAP everywhere. `make check` runs all; a single one: make check TESTS=tests/daemon/invalidation.py
LOG_DRIVER = env AM_TAP_AWK='$(AWK)' $(SHELL) $(top_srcdir)/build-aux/tap-driver.sh
PY_LOG_DRIVER = $(LOG_DRIVER)
SH_LOG_DRIVER = $(LOG_DRIVER)
TEST_EXTENSIONS = .py .sh
PY_LOG_COMPILER = $(top_srcdir)/tests/with-python
AM_TESTS_ENVIRONMENT = \
	FIXD_BUILD='$(abs_top_builddir)'; FIXD_SRC='$(abs_top_srcdir)'; FIXD_SANITIZERS='$(sanitizers)'; \
	FIXD_BUILDER='$(abs_top_builddir)/fixd-builder'; CC='$(CC)'; MANDOC='$(MANDOC)'; PYTHON3='$(PYTHON3)'; \
	export FIXD_BUILD FIXD_SRC FIXD_SANITIZERS FIXD_BUILDER CC MANDOC PYTHON3;

if HAVE_SECCOMP
check_PROGRAMS += tests/no-uring
tests_no_uring_SOURCES = tests/no-uring.c
tests_no_uring_CFLAGS = $(AM_CFLAGS) $(SECCOMP_CFLAGS)
tests_no_uring_LDADD = $(SECCOMP_LIBS)
endif

daemon_tests = \
	tests/daemon/builds.py \
	tests/daemon/clients.py \
	tests/daemon/invalidation.py \
	tests/daemon/tools.py
TESTS += $(daemon_tests)
EXTRA_DIST += $(daemon_tests) tests/daemon/harness.py tests/with-python
