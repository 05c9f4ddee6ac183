#!/bin/bash
# What clients send that were written for other servers: curl as TensorFlow Serving's and KServe's
# documents call it, Node's fetch, Prometheus, and by clients.py those in Python. Programs that are
# not there are named.
set -eu
. tests/http/server.bash
mkdir -p "$folder/models/measures/1"
python3 tests/http/write_bundle.py "$folder/models/measures/1/model.safetensors"
start_server --models "$folder/models"
url=http://127.0.0.1:$port

expect() {      # what, in the text
    case $2 in *"$1"*) ;; *) echo "expected $1 in: $2"; exit 1 ;; esac
}

# tensorflow.org/tfx/serving/docker: curl sends it as a form.
expect '"predictions":[' "$(curl -sf -d '{"instances": [[1.0, 2.0, 5.0, 0.5]]}' -X POST "$url/v1/models/measures:predict")"
expect '"state":"AVAILABLE"' "$(curl -sf "$url/v1/models/measures" | tr -d ' \n')"
# kserve.github.io: from a file, with all of curl's header lines.
echo '{"inputs":[{"name":"x","shape":[2,4],"datatype":"FP32","data":[[6.8,2.8,4.8,1.4],[6.0,3.4,4.5,1.6]]}]}' >"$folder/input.json"
expect '"shape":[2,3]' "$(curl -sf -v -H "Host: measures.example.com" -H "Content-Type: application/json" \
    "$url/v2/models/measures/infer" -d "@$folder/input.json" 2>/dev/null)"
# A body that curl announces first, from standard input, in chunks, and over HTTP/1.0.
for options in "-H Expect:100-continue" "-H Transfer-Encoding:chunked" "--http1.0" "--compressed"; do
    # shellcheck disable=SC2086
    expect '"outputs":[' "$(curl -sf $options --data-binary @- "$url/v2/models/measures/infer" <"$folder/input.json")"
done

if command -v node >/dev/null; then
    node --input-type=module -e '
        const url = process.argv[1];
        const post = async (path, body) => (await fetch(url + path, {method: "POST",
            headers: {"content-type": "application/json"}, body: JSON.stringify(body)})).json();
        const rows = Array.from({length: 20}, () => post("/v1/models/measures:predict", {instances: [[1, 0, 0, 0]]}));
        for (const answer of await Promise.all(rows))
            if (Math.abs(answer.predictions[0].reduce((a, b) => a + b) - 1) > 1e-6) process.exit(1);
        const refused = await post("/v1/models/measures:predict", {instances: [[1]]});
        if (!refused.error) process.exit(1);' "$url"
else
    echo "skipped: there is no node"
fi

# The real Prometheus scrapes, and reads every sample.
if command -v prometheus >/dev/null; then
    printf 'global: {scrape_interval: 200ms}\nscrape_configs:\n  - job_name: predictd\n    static_configs: [{targets: ["127.0.0.1:%s"]}]\n' \
        "$port" >"$folder/prometheus.yml"
    (cd "$folder" && exec prometheus --config.file=prometheus.yml --storage.tsdb.path=tsdb \
        --web.listen-address=127.0.0.1:0 2>"$folder/prometheus.log") &
    prometheus=$!
    trap 'kill $server $prometheus 2>/dev/null; wait $server $prometheus 2>/dev/null; rm -rf "$folder"' EXIT
    query() {
        local at
        at=$(grep -hoE 'address=127.0.0.1:[1-9][0-9]*' "$folder/prometheus.log" | head -1 | cut -d= -f2)
        [ -n "$at" ] && curl -sf "http://$at/api/v1/query" --data-urlencode "query=$1"
    }
    for _ in $(seq 300); do
        found=$(query 'up{job="predictd"} == 1 and on(instance) predictd_predictions_total > 0') || found=
        case $found in *'"value"'*) break ;; esac
        kill -0 $prometheus || { cat "$folder/prometheus.log"; exit 1; }
        sleep 0.1
    done
    expect '"value"' "$found"
    kill $prometheus
else
    echo "skipped: there is no prometheus"
fi

for python in python3 /usr/bin/python3; do
    if "$python" -c 'import geventhttpclient, rapidjson, requests' 2>/dev/null; then
        PYTHONDONTWRITEBYTECODE=1 "$python" tests/http/clients.py "$port" "$admin_port"
        exit 0
    fi
done
echo "skipped: there is no Python with geventhttpclient, rapidjson and requests"
