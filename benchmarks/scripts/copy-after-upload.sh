#!/usr/bin/env bash
# What people write today: upload, then download once and PUT to every target meanwhile.
#
#   TOKEN=... copy-after-upload.sh FILE IMAGE_URL TARGET_URL...
set -euo pipefail
file=$1 image=$2
shift 2
. "$(dirname "$0")/common.sh"

curl -sSf -T "$file" "${headers[@]}" "${octets[@]}" "$image/file"
start_puts "$@"
curl -sSf "${headers[@]}" "$image/file" | tee "${pipes[@]}" >/dev/null
finish_puts
add_locations "$@"
