#!/usr/bin/env bash
# What people write today, at its best: download once, and PUT to all targets meanwhile.
#
#   TOKEN=... [UPLOAD_OPTIONS=...] copy-after-upload.sh FILE IMAGE_URL TARGET_URL...
set -euo pipefail
file=$1 image=$2
shift 2
. "$(dirname "$0")/common.sh"

# shellcheck disable=SC2086
curl -sSf ${UPLOAD_OPTIONS:-} -T "$file" "${headers[@]}" "${octets[@]}" "$image/file"
start_puts "$@"
curl -sSf "${headers[@]}" "$image/file" | tee "${pipes[@]}" >/dev/null
finish_puts
add_locations "$@"
