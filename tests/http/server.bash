# For the scripts beside it: a server of their own.

build=${PREDICTD_BUILD:-build}
folder=$(mktemp -d /tmp/predictd-test-XXXXXX)
server=
trap 'kill $server 2>/dev/null; wait $server 2>/dev/null; rm -rf "$folder"' EXIT

port_of() {     # data or admin
    grep -o "\"$1port\":[0-9]*" "$folder/log" | tr -dc 0-9
}

# Starts the server with these flags and waits until it is ready; $port and $admin_port are its.
start_server() {
    "$build/predictd" --port 0 --admin-port 0 "$@" 2>"$folder/log" &
    server=$!
    until port=$(port_of "") && [ -n "$port" ] && curl -sf "http://127.0.0.1:$port/health" >/dev/null; do
        kill -0 $server || { cat "$folder/log"; exit 1; }
        sleep 0.05
    done
    admin_port=$(port_of admin_)
}
