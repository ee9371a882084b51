#!/bin/sh
# SPDX-License-Identifier: MIT
# The manual pages are clean, and say something about every option, key, command and function.
set -u
cd "$FIXD_SRC" || exit 1
n=0
result() {
	n=$((n + 1))
	if test -z "$2"; then echo "ok $n - $1"; else echo "$2" | sed 's/^/# /'; echo "not ok $n - $1"; fi
}
for page in man/*.[1-8]; do
	if test "${MANDOC:-no}" = no; then
		n=$((n + 1))
		echo "ok $n - $page # SKIP mandoc is not installed"
	else
		result "$page" "$("$MANDOC" -Tlint -Wwarning "$page" 2>&1)"
	fi
done
# Every link of the site leads to a page and a place in it, and nothing is fetched from anywhere else.
site() {
	out=$(mktemp -d) || return
	man/site "$MANDOC" . "$out" man/*.[1-8] 2>&1
	cd "$out" || return
	grep -o '\(href\|src\)="[^"]*"' ./*.html | sed 's|^\./||; s/:[a-z]*="/ /; s/"$//' | sort -u | while read -r page link; do
		file=${link%%#*}
		case $link in *:*) echo "$page: $link is elsewhere" ;; esac
		test -z "$file" || test -e "$file" || echo "$page: there is no $file"
		case $link in *'#'*) grep -qF "id=\"${link#*#}\"" "${file:-$page}" || echo "$page: there is no $link" ;; esac
	done
	for page in "$FIXD_SRC"/man/*.[1-8]; do grep -q "href=\"${page##*/}.html\"" index.html || echo "${page##*/} is not in the index"; done
	cd "$FIXD_SRC" && rm -r "$out"
}
if test "${MANDOC:-no}" = no; then
	n=$((n + 1))
	echo "ok $n - the site # SKIP mandoc is not installed"
else
	result "the site" "$(site)"
fi
missing() {
	page=$1
	while read -r word; do grep -qF -- "$(echo "$word" | sed 's/-/\\-/g')" "$page" || grep -qF -- "$word" "$page" || echo "$word is not in $page"; done
}
result "fixd(8) has every option" "$("$FIXD_BUILD/fixd" --help | grep -o -- '--[a-z-]*' | sed 's/^--//' | sort -u | missing man/fixd.8)"
result "fixctl(1) has a section for every command" "$("$FIXD_BUILD/fixctl" --help | sed -n 's/^  \([a-z][a-z]*\) .*/\1/p' |
	while read -r c; do grep -qx "\.Ss $c" man/fixctl.1 || echo "there is no .Ss $c"; done)"
result "fixctl(1) has every option" "$(for c in $("$FIXD_BUILD/fixctl" --help | sed -n 's/^  \([a-z][a-z]*\) .*/\1/p' | grep -v help); do
	"$FIXD_BUILD/fixctl" help "$c" | grep -o -- '--[a-z-]*' | sed 's/^--//'; done | sort -u | missing man/fixctl.1)"
result "fixctl(1) has every field of the report" "$(sed -n 's/^	X([A-Z_]*, "\([a-z_]*\)").*/\1/p' src/wire/report.h | missing man/fixctl.1)"
result "fixd.ini(5) has every key" "$(sed -n 's/^	{ "\([a-z-]*\)", .*/\1/p' src/config/keys.c | sort -u | missing man/fixd.ini.5)"
result "libfixd(3) has every function" "$(sed -n 's/^	\(fixd_[a-z_]*\);/\1/p' src/client/libfixd.sym | missing man/libfixd.3)"
result "libfixd-builder(3) has every function" "$(sed -n 's/^	\(fixd_[a-z_]*\);/\1/p' src/builder/libfixd-builder.sym | missing man/libfixd-builder.3)"
result "fixd-protocol(7) has every request, and its number" "$(sed -n 's/^	X(\([a-z]*\), \([0-9]*\), struct.*/\1 (\2)/p' src/wire/wire.h | tr a-z A-Z | missing man/fixd-protocol.7)"
echo "1..$n"
