#!/bin/sh
# SPDX-License-Identifier: MIT
# The rooms of the daemon, by the symbols of its objects and by what its files include: arrows point downwards only, and no circle has more
# than so many files.
set -u
cd "$FIXD_SRC/src/fixd" || exit 1
nm=${NM:-nm}
circle_max=3
symbols=$(mktemp)
trap 'rm -f "$symbols"' EXIT

# Of what is in the source now, the newest: an old object may lie beside it.
for source in *.c */*.c; do
	dir=$FIXD_BUILD/src/fixd/$(dirname "$source")
	name=$(basename "$source" .c)
	for object in $(ls -t "$dir/.libs/libdaemon_la-$name.o" "$dir/libdaemon_la-$name.o" "$dir/.libs/$name.o" "$dir/$name.o" 2>/dev/null); do
		test -f "$object" || continue
		$nm "$object" 2>/dev/null | sed "s|^|${source%.c} |" >>"$symbols"
		break
	done
done
echo 1..3
awk '
function rank(room) { return index("  loop host model work serve keep ", " " room " ") }
FNR == 1 { split(FILENAME, path, "/") }
/^#include "fixd\// {
	split($2, name, "/")
	if (name[3] ? rank(name[2]) > rank(path[1]) : 1) { print "# " FILENAME ": " $0; bad = 1 }
}
END { print (bad ? "not ok" : "ok") " 1 - no file of a room includes one above it"; exit }' */*.[ch]
if ! test -s "$symbols"; then
	echo "ok 2 - rooms # SKIP the objects have no symbols that nm shows"
	echo "ok 3 - circles # SKIP the objects have no symbols that nm shows"
	exit 0
fi
awk -v max="$circle_max" '
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
		arrow[files[a], owner[symbol]] = 1
		if (rank[room(owner[symbol])] > rank[room(files[a])]) {
			print "# " files[a] " uses " symbol " of " owner[symbol] ", which is above it"
			bad = 1
		}
	}
	print (bad ? "not ok" : "ok") " 2 - arrows between rooms point downwards"
	for (k = 1; k <= n; k++) for (a = 1; a <= n; a++) if ((files[a], files[k]) in arrow)
		for (b = 1; b <= n; b++) if ((files[k], files[b]) in arrow) arrow[files[a], files[b]] = 1
	for (a = 1; a <= n; a++) {
		size = 0; circle = ""
		for (b = 1; b <= n; b++) if (a == b || ((files[a], files[b]) in arrow && (files[b], files[a]) in arrow)) { size++; circle = circle " " files[b] }
		if (size > largest) { largest = size; members = circle }
	}
	print "# " n " files; the largest circle:" members
	print (largest > max ? "not ok" : "ok") " 3 - no circle has more than " max " files"
}' "$symbols"
