#!/bin/sh
# SPDX-License-Identifier: MIT
# Arrows between the layers point one way, and public symbols are those of the version scripts.
set -u
cd "$FIXD_SRC/src" || exit 1
echo 1..12
n=0
allow() {
	layer=$1
	shift
	n=$((n + 1))
	bad=$(find "$layer" -name "*.[ch]" -exec grep -n '^#include "[a-z-]*/' {} + | grep -v "\"$layer/" | grep -vE "\"($(echo "$@" | tr ' ' '|'))/")
	if test -z "$bad"; then echo "ok $n - $layer sees only: $*"; else echo "$bad" | sed 's/^/# /'; echo "not ok $n - $layer sees only: $*"; fi
}
allow base none
allow image base
allow wire base image
allow config base image wire
allow client base image wire
allow builder base image wire
allow fixd base image wire config
allow fixctl base image wire client
allow free none
allow nss none
allow remote base image
allow preload base wire free
