#!/bin/bash
# What both ports say at /metrics is the text format 0.0.4: metrics.py; and by promtool's rules well
# named, where there is one, but for Triton's names.
set -eu
. tests/http/server.bash
mkdir -p "$folder/models/m/1"
python3 tests/http/write_bundle.py "$folder/models/m/1/model.safetensors"
start_server --models "$folder/models"
for _ in 1 2 3; do
    curl -sf -d '{"instances":[[1,2,3,4],[5,6,7,8]]}' "http://127.0.0.1:$port/predict" >/dev/null
done
curl -s -d '{}' "http://127.0.0.1:$port/v2/models/m/infer" >/dev/null
sum=$(sha256sum "$folder/models/m/1/model.safetensors" | cut -d' ' -f1)
PYTHONDONTWRITEBYTECODE=1 python3 tests/http/metrics.py "$port" "$admin_port" "$sum"

if command -v promtool >/dev/null; then
    curl -sf "http://127.0.0.1:$port/metrics" >"$folder/text"
    # Counters without _total, abbreviated units, gauges that end in _count: as Triton's are.
    if promtool check metrics <"$folder/text" 2>&1 | grep -v '^nv_inference_'; then
        exit 1
    fi
else
    echo "skipped: there is no promtool"
fi
