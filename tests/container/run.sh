#!/bin/bash
# make container-test: builds the image of docker/Dockerfile and runs it as an operator would:
# read-only, without capabilities, as nobody. It must answer, reload, and drain.
#
# Needs root, podman and, where no registry is reachable, debootstrap. Leaves its images in
# build/container, so that the next run is quicker. BASE=image uses another base;
# BASE_TREE=folder imports a Debian tree instead of making one.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ "$(id -u)" = 0 ] || exec sudo --preserve-env=BASE,BASE_TREE "$0" "$@"

# Podman takes a machine with both versions of control groups for one with version 1 and then
# finds no controllers in version 2: hide that, for this process and its children alone.
if mountpoint -q /sys/fs/cgroup/unified && [ -z "${IN_NAMESPACE-}" ]; then
    IN_NAMESPACE=1 exec unshare --mount "$0" "$@"
fi
[ -z "${IN_NAMESPACE-}" ] || umount /sys/fs/cgroup/unified

store=$PWD/build/container
scratch=$(mktemp -d /tmp/predictd-container-XXXXXX)
name=predictd-test-$$
image=localhost/predictd-test
port=${PORT:-18080}
mkdir -p "$store"

engine=(podman --root "$store/images" --runroot "$store/run" --cgroup-manager cgroupfs
    --log-level fatal)
podman() { command "${engine[@]}" "$@"; }

cleanup() {
    podman rm --force --time 0 "$name" >/dev/null 2>&1 || :
    podman image unmount --all >/dev/null 2>&1 || :
    umount "$store/images/overlay" 2>/dev/null || :
    rm -rf "$scratch"
}
trap cleanup EXIT

passed=0
pass() { passed=$((passed + 1)); echo "ok: $*"; }
fail() {
    echo "FAILED: $*" >&2
    podman logs "$name" 2>/dev/null | tail -20 >&2 || :
    exit 1
}
expect() { # what, expected, got
    [ "$2" = "$3" ] || fail "$1: expected \"$2\", got \"$3\""
    pass "$1"
}
wait_for() { # what, seconds, command...
    local what=$1 until=$((SECONDS + $2)); shift 2
    until "$@"; do
        [ $SECONDS -lt $until ] || fail "waited in vain: $what"
        sleep 0.02
    done
}

# ---- the image ------------------------------------------------------------------------------

import_base() { # folder
    tar -C "$1" --one-file-system --exclude=./proc/\* --exclude=./sys/\* --exclude=./dev/\* \
        --exclude=./var/cache/apt/archives/\*.deb -c . |
        podman import - $local_base >"$scratch/log" 2>&1 || { cat "$scratch/log"; exit 1; }
}

local_base=localhost/debian-base
base=${BASE:-debian:12-slim}
if podman image exists "$base"; then
    :
elif podman image exists $local_base; then
    base=$local_base
elif [ -n "${BASE_TREE-}" ]; then
    base=$local_base
    import_base "$BASE_TREE"
elif ! timeout 60 "${engine[@]}" pull -q "$base" >/dev/null 2>&1; then
    base=$local_base
    echo "No registry is reachable: making a base image with debootstrap"
    /usr/sbin/debootstrap --variant=minbase bookworm "$scratch/base" >"$scratch/log" 2>&1 || {
        tail "$scratch/log"; exit 1; }
    import_base "$scratch/base"
    rm -rf "$scratch/base"
fi
echo "Building $image on $base"
podman build --quiet --format docker --network host --isolation chroot --layers \
    --build-arg BASE="$base" --build-arg REVISION="$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
    --file docker/Dockerfile --tag $image . >"$scratch/log" 2>&1 || { tail -40 "$scratch/log"; exit 1; }

inspect() { podman image inspect --format "$1" $image; }
expect "the user is a number" 65532:65532 "$(inspect '{{.User}}')"
expect "the image knows how to be checked" "[CMD /predictd --healthcheck]" \
    "$(inspect '{{.HealthCheck.Test}}')"
expect "the image has its labels" predictd \
    "$(inspect '{{index .Labels "org.opencontainers.image.title"}}')"
root=$(podman image mount $image)
size=$(du -s --apparent-size --block-size=1 "$root" | cut -f1)
programs=$(find "$root" -type f -perm -1 ! -name '*.so*' -printf '/%P\n')
expect "there is one program in the image" /predictd "$programs"
expect "nobody but root can change the image" "" "$(find "$root" -mindepth 1 ! -type l \( ! -user 0 -o -perm -2 \))"
[ "$size" -le $((60 * 1000 * 1000)) ] || fail "the image has $size bytes, more than 60 MB"
pass "the image has at most 60 MB"

# ---- a container ----------------------------------------------------------------------------

# The models as Kubernetes mounts them: names that lead through ..data, which is replaced.
models=$scratch/models
publish() { # folder, version...
    local folder=$1 version; shift
    for version; do
        mkdir -p "$models/$folder/digits/$version"
        cp models/digits/1/model.safetensors "$models/$folder/digits/$version/"
    done
    ln -s "$folder" "$models/..data_tmp"
    mv -T "$models/..data_tmp" "$models/..data"
}
publish ..2026_01 1
ln -s ..data/digits "$models/digits"
chmod -R a+rX "$scratch"

url=http://127.0.0.1:$port
answers() { curl -sf -m 2 "$url$1" >/dev/null; }
version() { curl -s -d @models/digits/sample.json "$url/predict" | grep -o '"model_version":"[0-9]*"' | tr -dc 0-9; }
serves() { [ "$(version)" = "$1" ]; }

begin=$(date +%s%N)
podman run --detach --name "$name" --read-only --read-only-tmpfs=false --cap-drop all \
    --security-opt no-new-privileges --network host --cgroups disabled \
    --ulimit nofile=4096:4096 --ulimit nproc=256:256 --volume "$models:/models:ro" \
    --env PREDICTD_PORT="$port" $image --admin-port 0 --drain-delay 1 >/dev/null
wait_for "the container is ready" 30 answers /health
to_ready=$((($(date +%s%N) - begin) / 1000000))
seconds_of() { # event: its time in the log, in seconds
    date +%s.%N -d "$(podman logs "$name" 2>&1 | grep "\"$1\"" | head -1 | grep -o '20[0-9T:.-]*Z')"
}
started=$(podman inspect --format '{{.State.StartedAt.Format "2006-01-02T15:04:05.999999999Z07:00"}}' "$name")
in_process=$(echo "$(seconds_of ready) $(date +%s.%N -d "$started")" | awk '{ printf "%.0f", ($1 - $2) * 1000 }')

pid=$(podman inspect --format '{{.State.Pid}}' "$name")
status() { sed -n "s/^$1:\t//p" "/proc/$pid/status"; }
expect "it runs as nobody" "65532 65532 65532 65532" "$(status Uid | tr '\t' ' ')"
expect "it has no capabilities" 0000000000000000 "$(status CapEff)"
expect "it cannot gain any" 1 "$(status NoNewPrivs)"
expect "it is process 1" 1 "$(status NSpid | awk '{ print $NF }')"
expect "its root cannot be written" ro "$(awk '$5 == "/" { print $6 }' "/proc/$pid/mountinfo" | cut -d, -f1)"
expect "it answers" 1 "$(version)"
expect "it finds itself healthy" ready "$(podman exec "$name" /predictd --healthcheck | tr -d '\r')"

# ---- a reload, by the swap of ..data and SIGHUP -----------------------------------------------

publish ..2026_02 1 2
podman kill --signal HUP "$name" >/dev/null
wait_for "version 2 takes over" 10 serves 2
pass "it reloads on SIGHUP"
publish ..2026_03 1
podman kill --signal HUP "$name" >/dev/null
wait_for "version 1 comes back" 10 serves 1
pass "it rolls back when the new version is gone"

# ---- the end, under load ----------------------------------------------------------------------

# Until nobody listens any more: curl's 7 (refused) ends it, everything but 200 is a loss.
load() {
    local code n=0
    while :; do
        code=$(curl -s -m 10 -o /dev/null -w '%{http_code}' -d @models/digits/sample.json "$url/predict") || {
            [ $? = 7 ] && break; echo "lost after $n"; return; }
        [ "$code" = 200 ] || { echo "status $code after $n"; return; }
        n=$((n + 1))
        # As a load balancer does: nothing new to who is not ready.
        answers /health || break
    done
    echo complete
}
load >"$scratch/load" &
client=$!
sleep 0.2
begin=$(date +%s%N)
podman stop --time 20 "$name" >/dev/null
took=$((($(date +%s%N) - begin) / 1000000))
wait $client
expect "no request was lost in the drain" complete "$(cat "$scratch/load")"
expect "it exits with 0" 0 "$(podman inspect --format '{{.State.ExitCode}}' "$name")"
[ "$took" -ge 1000 ] || fail "it stopped after $took ms, before its --drain-delay of 1 s"
pass "it goes on for its --drain-delay"

awk -v size="$size" -v outer="$to_ready" -v inner="$in_process" 'BEGIN {
    printf "image: %.1f MB unpacked; ready %d ms after the start of the process, %d ms after podman run\n",
        size / 1e6, inner, outer }'
echo "$passed passed, 0 failed"
