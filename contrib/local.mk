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

EXTRA_DIST += contrib/demo/run contrib/demo/fixd.ini contrib/demo/to-sqlite contrib/deps contrib/check contrib/quickstart
