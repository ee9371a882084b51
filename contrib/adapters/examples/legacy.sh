#!/bin/sh
# SPDX-License-Identifier: MIT
# A test that knows nothing of fixd: it reads words.txt, and makes a mess of it.
test "$(wc -l <words.txt)" -eq 3 || exit 1
echo x >words.txt
test "$(cat words.txt)" = x
