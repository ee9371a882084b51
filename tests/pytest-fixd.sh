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
# Its programs are started two thousand times: what they import is compiled once.
mkdir "$words/code" && cp -R "$FIXD_SRC/contrib/pytest-fixd/fixd" "$words/code" && chmod -R u+w "$words/code" &&
	"$python" -m compileall -q "$words/code" || exit 1
# Other plugins that this machine has are not what is tested.
FIXD_TAP=$words/tap FIXD_CODE=$words/code PYTHONDONTWRITEBYTECODE=1 PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 "$python" -m pytest -p xdist.plugin -p no:cacheprovider -n 2 -q \
	"$FIXD_SRC/contrib/pytest-fixd/tests" >"$words/log" 2>&1
status=$?
test $status = 0 || sed 's/^/# /' "$words/log"
grep -v '^1\.\.' "$words/tap"
n=$(grep -c -e '^ok' -e '^not ok' "$words/tap")
# One that has not run, or has ended early, is no success.
if test $status -gt 1 || test "$n" = 0; then
	n=$((n + 1))
	echo "not ok $n - pytest ended with status $status"
fi
echo "1..$n"
