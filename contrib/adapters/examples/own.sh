#!/bin/sh
# SPDX-License-Identifier: MIT
# A test with a server of its own, which it ruins: the next test has another one. What it is given besides is run, too.
test "$(wc -l <"$FIXD_FIXTURE_server/words")" -eq 3 || exit 1
rm "$FIXD_FIXTURE_server/words"
"$@"
