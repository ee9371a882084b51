#!/bin/sh
# SPDX-License-Identifier: MIT
# The rooms of the daemon, by the symbols of its objects and by what its files include: arrows point downwards only, and no circle has more
# than so many files. And a name in a backtrace says which function it is: no two of a room have the same.
set -u
cd "$FIXD_SRC/src" || exit 1
nm=${NM:-nm}
circle_max=3
symbols=$(mktemp)
others=$(mktemp)
trap 'rm -f "$symbols" "$others"' EXIT

# What each object has and needs. Of what is in the source now, the newest: an old object may lie beside it.
list() {
	for source in "$@"; do
		dir=$FIXD_BUILD/src/$(dirname "$source")
		name=$(basename "$source" .c)
		object=$(ls -t "$dir/.libs/"*"_la-$name.o" "$dir/"*"-$name.o" "$dir/.libs/$name.o" "$dir/$name.o" 2>/dev/null | grep -v /tests_ | head -n 1)
		test -z "$object" || $nm "$object" 2>/dev/null | sed "s|^|${source%.c} |"
	done
}
list fixd/*.c fixd/*/*.c | sed 's|^fixd/||' >"$symbols"
list base/*.c image/*.c wire/*.c config/*.c client/*.c builder/*.c free/*.c nss/*.c preload/*.c remote/*.c fixctl/*.c >"$others"
cd fixd || exit 1
echo 1..5
awk '
function rank(room) { return index("  loop host model work serve keep ", " " room " ") }
FNR == 1 { split(FILENAME, path, "/") }
/^#include "fixd\// {
	split($2, name, "/")
	if (name[3] ? rank(name[2]) > rank(path[1]) : 1) { print "# " FILENAME ": " $0; bad = 1 }
}
END { print (bad ? "not ok" : "ok") " 1 - no file of a room includes one above it"; exit }' */*.[ch]
awk '
FNR == 1 { n = split(FILENAME, path, "/"); room = path[2] }
/^static [^=;]*\(/ {
	line = $0
	while (match(line, /[A-Za-z_0-9]+\(/) && substr(line, RSTART, RLENGTH) ~ /^(__attribute__|_Atomic|_Alignas)/) line = substr(line, RSTART + RLENGTH)
	if (!match(line, /[A-Za-z_0-9]+\(/)) next
	name = substr(line, RSTART, RLENGTH - 1)
	if ((room, name) in where && where[room, name] != FILENAME) { print "# " name ": " where[room, name] ", " FILENAME; bad = 1 }
	where[room, name] = FILENAME
}
END { print (bad ? "not ok" : "ok") " 2 - no two functions of a room have one name" }' ../*/*.c ../fixd/*/*.c
if ! test -s "$symbols"; then
	echo "ok 3 - rooms # SKIP the objects have no symbols that nm shows"
	echo "ok 4 - circles # SKIP the objects have no symbols that nm shows"
	echo "ok 5 - circles elsewhere # SKIP the objects have no symbols that nm shows"
	exit 0
fi
judge='
function room(file) { return file ~ "/" ? substr(file, 1, index(file, "/") - 1) : "top" }
BEGIN {
	split("loop host model work serve keep top", order, " ")
	for (k in order) rank[order[k]] = k
}
{
	file = $1; kind = $(NF - 1); symbol = $NF
	if (!(file in seen)) { seen[file] = 1; files[++n] = file }
	if (kind ~ /^[TDBRV]$/) owner[symbol] = file
	if (kind == "U") uses[file, ++many[file]] = symbol
}
END {
	for (a = 1; a <= n; a++) for (u = 1; u <= many[files[a]]; u++) {
		symbol = uses[files[a], u]
		if (!(symbol in owner) || owner[symbol] == files[a]) continue
		# Elsewhere layers.sh says who sees whom; names of libc have namesakes here.
		if (!rooms && room(owner[symbol]) != room(files[a])) continue
		arrow[files[a], owner[symbol]] = 1
		if (rooms && rank[room(owner[symbol])] > rank[room(files[a])]) {
			print "# " files[a] " uses " symbol " of " owner[symbol] ", which is above it"
			bad = 1
		}
	}
	if (rooms)
		print (bad ? "not ok" : "ok") " 3 - arrows between rooms point downwards"
	for (k = 1; k <= n; k++) for (a = 1; a <= n; a++) if ((files[a], files[k]) in arrow)
		for (b = 1; b <= n; b++) if ((files[k], files[b]) in arrow) arrow[files[a], files[b]] = 1
	for (a = 1; a <= n; a++) {
		size = 0; circle = ""
		for (b = 1; b <= n; b++) if (a == b || ((files[a], files[b]) in arrow && (files[b], files[a]) in arrow)) { size++; circle = circle " " files[b] }
		if (size > largest) { largest = size; members = circle }
	}
	print "# " n " files; the largest circle:" members
	print (largest > max ? "not ok" : "ok") " " (rooms ? "4 - no circle has" : "5 - nor has one outside of the daemon") " more than " max " files"
}'
awk -v max="$circle_max" -v rooms=1 "$judge" "$symbols"
awk -v max="$circle_max" -v rooms=0 "$judge" "$others"
