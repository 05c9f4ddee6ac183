#!/bin/bash
# run.sh PROGRAMS TARGET SECONDS: fuzzes one target by the program in that folder, from what is
# in tests/fuzz/corpus/TARGET and what was found before. That is kept in build/fuzz/.
cd "$(dirname "$0")/../.." || exit 1
programs=$1 target=$2 seconds=$3
mkdir -p "build/fuzz/$target"
dictionary=()
[ -f "tests/fuzz/$target.dict" ] && dictionary=(-dict="tests/fuzz/$target.dict")
ASAN_OPTIONS=detect_stack_use_after_return=0 "$programs/$target" \
    -max_total_time="$seconds" -timeout=20 -rss_limit_mb=3000 -max_len=4096 \
    "${dictionary[@]}" -artifact_prefix=build/fuzz/ -print_final_stats=1 \
    "build/fuzz/$target" "tests/fuzz/corpus/$target" >"build/fuzz/$target.log" 2>&1
status=$?
if [ $status != 0 ]; then
    tail -60 "build/fuzz/$target.log"
fi
echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "build/fuzz/$target.log") executions"
exit $status
