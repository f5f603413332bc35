# Sourced by the scripts beside it, after "file" and "image" are set: PUTs to all targets at once.

headers=(-H "X-Auth-Token: $TOKEN")
# uWSGI answers no Expect: 100-continue, for which curl would wait a second before each upload.
octets=(-H "Content-Type: application/octet-stream" -H "Expect:")
name=${image##*/}
pipes=()
puts=()
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

start_puts() {
    local target pipe
    for target in "$@"; do
        pipe=$scratch/${#pipes[@]}
        mkfifo "$pipe"
        curl -sSf -T - -H "Expect:" "$target$name" <"$pipe" &
        pipes+=("$pipe")
        puts+=($!)
    done
}

finish_puts() {
    local put
    for put in "${puts[@]}"; do wait "$put"; done
}

add_locations() {
    local target patch=
    for target in "$@"; do
        patch+=",{\"op\":\"add\",\"path\":\"/locations/-\",\"value\":{\"url\":\"$target$name\",\"metadata\":{}}}"
    done
    curl -sSf -o /dev/null -X PATCH "${headers[@]}" --data "[${patch#,}]" \
        -H "Content-Type: application/openstack-images-v2.1-json-patch" "$image"
}
