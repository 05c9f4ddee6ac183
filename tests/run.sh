#!/bin/bash
# Runs every test of the given build folders (programs in FOLDER/tests, then the scripts in
# tests/http with FOLDER's programs) and ends with the sum, "N passed, N failed".
cd "$(dirname "$0")/.." || exit 1
: "${PREDICTD_DATA:=$PWD/data}"
export PREDICTD_DATA
export ASAN_OPTIONS="${ASAN_OPTIONS:-detect_stack_use_after_return=0}"
export UBSAN_OPTIONS="${UBSAN_OPTIONS:-print_stacktrace=1}"
export TSAN_OPTIONS="${TSAN_OPTIONS:-halt_on_error=1}"
passed=0 failed=0 skipped=0 failures=()
log=$(mktemp)
trap 'rm -f "$log"' EXIT

count() {       # the number in cmocka's closing line of that kind, 0 without one
    sed -n "s/^\[ *$1 *\] \([0-9]*\) test(s).*/\1/p" "$log" | awk '{ n += $1 } END { print n + 0 }'
}

tally() {       # name, status, seconds
    local p f s
    p=$(count PASSED) f=$(count FAILED) s=$(count SKIPPED)
    if [ "$p$f$s" = 000 ]; then                     # not a cmocka program: one test
        case $2 in 0) p=1 ;; 77) s=1 ;; *) f=1 ;; esac
    elif [ "$2" != 0 ] && [ "$f" = 0 ]; then        # died behind its last report
        f=1
    fi
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    printf '%-52s %4d passed %3d failed %3d skipped %4d s\n' "$1" "$p" "$f" "$s" "$3"
    grep -hE '^\[ *SKIPPED *\] [^0-9]|^(skipped|onnx):' "$log" | sort -u | head -20 | sed 's/^/    /'
    if [ "$f" != 0 ]; then
        failures+=("$1")
        tail -60 "$log" | sed 's/^/    /'
    fi
}

for build in "$@"; do
    export PREDICTD_BUILD=$build
    scripts=()
    [ -x "$build/predictd" ] && scripts=(tests/http/*.sh)
    for test in "$build"/tests/test_* "${scripts[@]}"; do
        [ -f "$test" ] && [ -x "$test" ] || continue
        begin=$SECONDS
        timeout 600 "$test" >"$log" 2>&1 </dev/null
        tally "$test" $? $((SECONDS - begin))
    done
done

for failure in "${failures[@]}"; do
    echo "failed: $failure"
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" != 0 ]
