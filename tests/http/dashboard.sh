#!/bin/bash
# Every metric that the dashboard and the alerts of docker/ ask for is one that the server has, and so
# is every label; promtool reads the rules, where there is one.
set -eu
. tests/http/server.bash
start_server --models models --threads 1
curl -sf -d @models/digits/sample.json "http://127.0.0.1:$port/models/digits/predict" >/dev/null
curl -sf "http://127.0.0.1:$port/metrics" >"$folder/metrics"

asked=$(grep -ohE '\b(predictd|process|nv)_[a-z_]+' docker/grafana/predictd.json docker/alerts.yml | sort -u)
[ -n "$asked" ]
for name in $asked; do
    case $name in
        # of a server with a certificate only
        predictd_certificate_*) where=server/api/metrics.c pattern="\"$name\"" ;;
        *) where=$folder/metrics pattern="^$name(_bucket)?[{ ]" ;;
    esac
    grep -qE "$pattern" "$where" || { echo "$name is asked for, and the server does not have it"; exit 1; }
done
python3 -m json.tool docker/grafana/predictd.json >/dev/null

if command -v promtool >/dev/null; then
    promtool check rules docker/alerts.yml
    promtool check config --syntax-only docker/prometheus.yml
    promtool test rules tests/http/alerts_test.yml
else
    echo "skipped: there is no promtool"
fi
