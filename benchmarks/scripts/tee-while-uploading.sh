#!/usr/bin/env bash
# The client sends to Glance and to every target at once; the slowest of them rules the pace.
#
#   TOKEN=... tee-while-uploading.sh FILE IMAGE_URL TARGET_URL...
set -euo pipefail
file=$1 image=$2
shift 2
. "$(dirname "$0")/common.sh"

start_puts "$@"
tee "${pipes[@]}" <"$file" | curl -sSf -T - "${headers[@]}" "${octets[@]}" "$image/file"
finish_puts
add_locations "$@"
