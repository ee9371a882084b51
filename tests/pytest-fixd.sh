#!/bin/sh
# SPDX-License-Identifier: MIT
# The tests of the pytest plugin, with an interpreter that has pytest, pytest-xdist and numpy.
for python in /usr/bin/python3 "${PYTHON3:-python3}"; do
	"$python" -c 'import pytest, xdist, numpy, setuptools' 2>/dev/null && break
	python=
done
if test -z "$python"; then
	echo "1..0 # SKIP python3-pytest, python3-pytest-xdist, python3-numpy or python3-setuptools is not installed"
	exit 0
fi
if test -n "$FIXD_SANITIZERS"; then
	echo "1..0 # SKIP the library under a sanitizer is tested by tests/daemon; pytest itself does not run under one"
	exit 0
fi
words=$(mktemp -d) || exit 1
trap 'rm -rf "$words"' EXIT
FIXD_TAP=$words/tap PYTHONDONTWRITEBYTECODE=1 "$python" -m pytest -p no:cacheprovider -n 2 -q "$FIXD_SRC/contrib/pytest-fixd/tests" >"$words/log" 2>&1 ||
	sed 's/^/# /' "$words/log"
cat "$words/tap"
