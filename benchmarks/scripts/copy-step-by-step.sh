#!/usr/bin/env bash
# What people write today, as it is written down: upload, download once, PUT to each target.
#
#   TOKEN=... copy-step-by-step.sh FILE IMAGE_URL TARGET_URL...
set -euo pipefail
file=$1 image=$2
shift 2
. "$(dirname "$0")/common.sh"

curl -sSf -T "$file" "${headers[@]}" "${octets[@]}" "$image/file"
copy=$(mktemp -p "$(dirname "$file")")
trap 'rm -rf "$copy" "$scratch"' EXIT
curl -sSf "${headers[@]}" -o "$copy" "$image/file"
for target in "$@"; do
    curl -sSf -T "$copy" -H "Expect:" "$target$name"
done
add_locations "$@"
