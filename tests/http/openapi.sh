#!/bin/bash
# What /openapi.json says is what the server answers: openapi.py.
set -eu
folder=$(mktemp -d /tmp/predictd-test-XXXXXX)
trap 'rm -rf "$folder"' EXIT
PYTHONDONTWRITEBYTECODE=1 python3 tests/http/openapi.py "${PREDICTD_BUILD:-build}/predictd" "$folder"
