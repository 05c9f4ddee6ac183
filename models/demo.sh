#!/bin/sh
# The main job in view: serve the committed model, train a better version while it serves,
# publish, reload, and go on serving until Ctrl-C. Works in build/run.
set -eu
cd "$(dirname "$0")/.."
run=build/run
rm -rf $run && mkdir -p $run/models/digits
cp -r models/digits/recipe.json models/digits/1 $run/models/digits/

say() {
    printf '\n\033[1m%s\033[0m\n' "$*"
}

show() {        # a command as one would type it, and what it prints
    printf '$ %s\n' "$*"
    "$@"
    case $1 in curl) echo ;; esac
}

# The terminal's Ctrl-C is for this script alone: a server that got it too would take the signal
# from here for a second one, which ends it at once instead of draining.
finish() {
    trap - INT TERM HUP EXIT
    kill -TERM $server 2>/dev/null || :
    wait $server && say "Drained: every request has its answer."
    exit 0
}

# A busy port means the next free one.
port=8080
while :; do
    setsid build/predictd --models $run/models --port $port --admin-port $((port + 1)) 2>$run/server.log &
    server=$!
    trap finish INT TERM HUP
    trap 'kill -TERM $server 2>/dev/null || :' EXIT
    until curl -sf "http://127.0.0.1:$port/health" >/dev/null 2>&1 && kill -0 $server 2>/dev/null; do
        if ! kill -0 $server 2>/dev/null; then
            break
        fi
        sleep 0.05
    done
    if kill -0 $server 2>/dev/null; then
        break
    fi
    if ! grep -q 'in use' $run/server.log || [ $port -ge 8180 ]; then
        cat $run/server.log
        exit 1
    fi
    port=$((port + 2))
done

say "Version 1 of models/digits is being served on port $port. A prediction:"
show curl -s -d @models/digits/sample.json http://127.0.0.1:$port/predict

say "Version 2 is trained while version 1 serves:"
show build/predictd-train fit $run/models/digits/recipe.json

say "The new version takes over, without a lost request:"
show curl -s -X POST http://127.0.0.1:$((port + 1))/reload

say "The same prediction again:"
show curl -s -d @models/digits/sample.json http://127.0.0.1:$port/predict

say "How much better it became, on 4,000 images that neither has seen:"
for version in 1 2; do
    printf 'version %s  ' $version
    build/predictd-train evaluate $run/models/digits/$version/model.safetensors | grep accuracy
done

say "Serving on http://127.0.0.1:$port until Ctrl-C; the log is $run/server.log."
wait $server
