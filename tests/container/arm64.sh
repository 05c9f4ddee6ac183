#!/bin/bash
# make arm64-test: cross-builds everything for arm64 in a Debian of its own, runs its unit tests
# under qemu's user emulation, and lets the arm64 server answer.
#
# Needs root, debootstrap and curl. Leaves its Debian in build/arm64, so that the next run is
# quicker. BASE_TREE=folder copies a Debian tree instead of making one.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ "$(id -u)" = 0 ] || exec sudo --preserve-env=BASE_TREE "$0" "$@"

# Mounts in a namespace of its own end with it, also when this is killed.
[ -n "${IN_NAMESPACE-}" ] || IN_NAMESPACE=1 exec unshare --mount "$0" "$@"

triplet=aarch64-linux-gnu
tree=$PWD/build/arm64
log=$(mktemp)
trap 'rm -f "$log"' EXIT
quietly() { "$@" >"$log" 2>&1 || { tail -40 "$log"; exit 1; }; }
inside() { command "${enter[@]}" "$@"; }
enter=(chroot "$tree" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C)

if [ ! -e "$tree/ready" ]; then
    echo "Making a Debian with a compiler for arm64"
    rm -rf "$tree" && mkdir -p "$tree"
    if [ -n "${BASE_TREE-}" ]; then
        tar -C "$BASE_TREE" --one-file-system --exclude=./proc/\* --exclude=./sys/\* \
            --exclude=./dev/\* --exclude=./var/cache/apt/archives/\*.deb -c . | tar -C "$tree" -x
    else
        quietly /usr/sbin/debootstrap --variant=minbase bookworm "$tree"
    fi
    cp /etc/resolv.conf "$tree/etc/"
fi
mkdir -p "$tree"/{proc,dev}
mount -t proc proc "$tree/proc"
mount --rbind /dev "$tree/dev"
if [ ! -e "$tree/ready" ]; then
    inside dpkg --add-architecture arm64
    quietly inside apt-get update -q
    quietly inside env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
        make pkg-config qemu-user-static gcc-$triplet libc6-dev-arm64-cross \
        lib{microhttpd,gnutls28,jansson,openblas,cmocka}-dev:arm64 libcurl4-openssl-dev:arm64 zlib1g-dev:arm64
    touch "$tree/ready"
fi

echo "Building for arm64"
mkdir -p "$tree/source"
rm -rf "$tree"/source/{engine,trainer,server,tests,models}
cp -r Makefile engine trainer server tests models "$tree/source/"
quietly inside make -C /source -j"$(nproc)" CROSS=$triplet all tests

# What starts another program, by itself or by a helper, needs more than the emulation of one
# process; test_digits trains for minutes.
starts_programs() {
    local helpers
    helpers=$(sed -n 's|^#include "\(tests/.*\)\.h"|\1.h \1.c|p' "tests/$1.c" 2>/dev/null)
    # shellcheck disable=SC2086
    grep -qsE 'server_fixture|execv|execl|system\(|popen' "tests/$1.c" $helpers
}

passed=0 failed=0
for test in "$tree/source/build/$triplet"/tests/test_*; do
    name=${test##*/}
    if starts_programs "$name" || [ "$name" = test_digits ]; then
        echo "not under emulation: $name"
    elif inside sh -c "cd /source && exec timeout 300 qemu-aarch64-static build/$triplet/tests/$name" \
        >"$log" 2>&1 </dev/null; then
        passed=$((passed + 1)); echo "ok: $name"
    else
        failed=$((failed + 1)); echo "FAILED: $name"; tail -20 "$log"
    fi
done

# Not by a function, whose process would not be the server's.
"${enter[@]}" qemu-aarch64-static "/source/build/$triplet/predictd" --models /source/models \
    --port "${PORT:-18081}" --admin-port 0 --threads 2 >"$log" 2>&1 &
server=$!
trap 'kill $server 2>/dev/null || :; rm -f "$log"' EXIT
url=http://127.0.0.1:${PORT:-18081}
for _ in $(seq 600); do
    curl -sf "$url/health" >/dev/null && break
    kill -0 $server 2>/dev/null || break
    sleep 0.1
done
answer=$(curl -s -d @models/digits/sample.json "$url/models/digits/predict" || :)
status=0
kill $server && wait $server || status=$?
if [[ $answer == '{"predictions":[['*'"model_version":"1"'* ]] && [ $status = 0 ]; then
    passed=$((passed + 1)); echo "ok: the server answers and drains"
else
    failed=$((failed + 1)); echo "FAILED: the server answered $answer and ended with $status"; tail "$log"
fi
echo "$passed passed, $failed failed"
[ $failed = 0 ]
