#!/bin/sh
# SPDX-License-Identifier: MIT
# What programs and plugins that were compiled before rely on: the symbols of the libraries, and where the fields of public structs lie.
# The list is abi.txt; what is added to it is at its end of a struct, and nothing in it changes after a release.
set -u
list=$FIXD_SRC/tests/abi.txt
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
echo 1..2

for library in fixd fixd-builder; do
	${NM:-nm} -D --defined-only "$FIXD_BUILD/.libs/lib$library.so" | awk -v l="lib$library" '$2 == "T" || $2 == "W" || $2 == "D" { sub(/@.*/, "", $3); if ($3 ~ /^fixd_/) print l, $3 }'
done | LC_ALL=C sort >"$dir/symbols"
grep '^lib' "$list" | LC_ALL=C sort >"$dir/expected"
if diff "$dir/expected" "$dir/symbols" >"$dir/diff"; then
	echo "ok 1 - symbols"
else
	sed 's/^/# /' "$dir/diff"
	echo "not ok 1 - symbols"
fi

if test "$(uname -m)" != x86_64; then
	echo "ok 2 - structs # SKIP the list is that of x86-64"
	exit 0
fi
{
	echo '#include <stdio.h>'
	echo '#include <fixd.h>'
	echo 'int main(void) {'
	grep '^struct' "$list" | while read -r _ name size fields; do
		echo "printf(\"struct $name %zu\", sizeof(struct $name));"
		for f in $fields; do
			f=${f%%=*}
			echo "printf(\" $f=%zu\", __builtin_offsetof(struct $name, $f));"
		done
		echo 'printf("\\n");'
	done
	echo 'return 0; }'
} >"$dir/layout.c"
if ${CC:-cc} -I "$FIXD_SRC/include" -o "$dir/layout" "$dir/layout.c" 2>"$dir/error" && "$dir/layout" >"$dir/is"; then
	grep '^struct' "$list" >"$dir/should"
	if diff "$dir/should" "$dir/is" >"$dir/diff"; then
		echo "ok 2 - structs"
		exit 0
	fi
	sed 's/^/# /' "$dir/diff"
else
	sed 's/^/# /' "$dir/error"
fi
echo "not ok 2 - structs"
