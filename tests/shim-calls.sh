#!/bin/sh
# SPDX-License-Identifier: MIT
# In the shim each call of a function that the shim has in front of libc says which one is meant: REAL(f), SEEN(f) or kernel().
set -u
cd "$FIXD_SRC/src/preload" || exit 1
echo 1..1
# The memory of objects is given back by free(), which is that of src/free, and knows what is whose.
wrappers=$(sed -n 's/^SHIM [^(]*[ *]\([a-z][a-z_0-9]*\)(.*/\1/p' ./*.c | grep -vx 'free\|realloc' | sort -u | paste -sd'|' -)
bad=$(for f in *.c; do
	sed -E 's|/\*.*||; s|^ \*.*||; s/(REAL|SEEN)\([a-z_0-9]+\)\(/(/g' "$f" | grep -nE "(^|[^_A-Za-z0-9>.\"])($wrappers)\(" |
		grep -vE '^[0-9]+:(SHIM |\s*#define |(int|FILE|char|extern)[^=]*;$)' | sed "s|^|$f:|"
done)
if test -z "$bad"; then
	echo "ok 1 - each call says which one it is"
else
	echo "$bad" | sed 's/^/# /'
	echo "not ok 1 - each call says which one it is"
fi
