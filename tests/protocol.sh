#!/bin/sh
# SPDX-License-Identifier: MIT
# What lists the messages (a header, the manual, the tests' and Go's constants) is what is made of their table.
set -u
echo 1..1
if differs=$(python3 "$FIXD_SRC/contrib/protocol" --check 2>&1); then
	echo "ok 1 - all is as it is made of the table"
else
	echo "$differs" | sed 's/^/# /'
	echo "not ok 1 - all is as it is made of the table"
fi
