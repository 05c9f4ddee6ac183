#!/bin/bash
# Every metric that docker/grafana/predictd.json asks for is one that the server has.
set -eu
build=${PREDICTD_BUILD:-build}
folder=$(mktemp -d /tmp/predictd-test-XXXXXX)
"$build/predictd" --models models --port 0 --admin-port 0 --threads 1 2>"$folder/log" &
server=$!
trap 'kill $server 2>/dev/null; wait $server 2>/dev/null; rm -rf "$folder"' EXIT

until port=$(grep -o '"port":[0-9]*' "$folder/log" | tr -dc 0-9) && [ -n "$port" ] &&
    curl -sf "http://127.0.0.1:$port/health" >/dev/null; do
    kill -0 $server || { cat "$folder/log"; exit 1; }
    sleep 0.05
done
curl -sf -d @models/digits/sample.json "http://127.0.0.1:$port/models/digits/predict" >/dev/null
curl -sf "http://127.0.0.1:$port/metrics" >"$folder/metrics"

asked=$(grep -oE '\b(predictd|process)_[a-z_]+' docker/grafana/predictd.json | sort -u)
[ -n "$asked" ]
for name in $asked; do
    grep -qE "^$name[{ ]" "$folder/metrics" || { echo "the dashboard asks for $name, which the server does not have"; exit 1; }
done
