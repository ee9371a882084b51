#!/bin/sh
# SPDX-License-Identifier: MIT
# The public headers compile by themselves, as C and as C++, and their inline function links at every optimisation.
set -u
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT
n=0
try() {
	n=$((n + 1))
	title=$1
	shift
	if "$@" >"$dir/out" 2>&1; then echo "ok $n - $title"; else echo "not ok $n - $title"; sed 's/^/# /' "$dir/out"; fi
}
cc=${CC:-cc}
cxx=$(command -v g++ || command -v clang++ || :)
cat >"$dir/t.c" <<'C'
#include <fixd.h>
#include <fixd-builder.h>
bool look(const struct fixd_view *v);
bool look(const struct fixd_view *v) { return fixd_view_current(v); }
int main(void) { return look == 0; }
C
cp "$dir/t.c" "$dir/t.cc"
flags="-I$FIXD_SRC/include -Wall -Wextra -Werror -Wno-address"
link="-L$FIXD_BUILD/.libs -lfixd -Wl,-rpath,$FIXD_BUILD/.libs"
for s in ${FIXD_SANITIZERS:-}; do link="$link -fsanitize=$s"; done
echo 1..6
for standard in c11 gnu17; do
	for level in -O0 -O2; do
		# shellcheck disable=SC2086
		try "$standard $level" $cc -std=$standard $level $flags "$dir/t.c" -o "$dir/t" $link
	done
done
for level in -O0 -O2; do
	if test -n "$cxx" && test -z "${FIXD_SANITIZERS:-}"; then
		# shellcheck disable=SC2086
		try "C++ $level" "$cxx" -std=c++11 $level $flags "$dir/t.cc" -o "$dir/t" $link
	else
		n=$((n + 1))
		echo "ok $n - C++ $level # SKIP no C++ compiler, or one without the sanitizer's runtime"
	fi
done
