#!/usr/bin/env bash
# Checks the dashboard's API against its own description with Schemathesis: no server error, no answer that
# the description does not have. For developers; needs Python and a package index.
#
#   cargo build -p medfed
#   scripts/api_check.sh                  # target/debug/medfed
#   EXAMPLES=200 scripts/api_check.sh     # more requests of each kind (50)
#
# MEDFED names another program, PYTHON another interpreter with its venv module.
# It serves a temporary folder with one small run on this machine's own address and sends it whatever the
# description allows and what it does not. Runs are started, small ones; they end with the script.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
medfed=${MEDFED:-$root/target/debug/medfed}
examples=${EXAMPLES:-50}
work=$(mktemp -d)
dashboard=

finish() {
  if [[ -n $dashboard ]]; then
    # A second request to stop would end a run at once: the dashboard is asked, and then goes.
    "$work/venv/bin/python" - "$url" <<'PYTHON' || true
import sys, time, urllib.request
url = sys.argv[1]
try:
    urllib.request.urlopen(urllib.request.Request(url + "api/training/stop", method="POST"), timeout=10)
except OSError:
    pass
for _ in range(100):
    with urllib.request.urlopen(url + "api/training/status", timeout=10) as answer:
        if b'"is_running":false' in answer.read():
            break
    time.sleep(0.1)
PYTHON
    kill "$dashboard" 2>/dev/null || true
    wait "$dashboard" 2>/dev/null || true
  fi
  rm -rf "$work"
}
trap finish EXIT

"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check 'schemathesis>=4,<5'

# Small runs, and one that is there from the beginning.
cat > "$work/config.yaml" <<'YAML'
model: {channels: [8, 8]}
data: {image_size: 28, samples_per_client: 60}
federated: {num_rounds: 2}
training: {local_steps: 2}
YAML
cd "$work"
"$medfed" simulate --config config.yaml > /dev/null
: > dashboard.log
"$medfed" dashboard --listen 127.0.0.1:0 --config config.yaml --results results 2>> dashboard.log &
dashboard=$!
until url=$(grep -o 'http://[^ ]*' dashboard.log); do
  kill -0 "$dashboard" || { cat dashboard.log >&2; exit 1; }
  sleep 0.1
done

# A stream of events does not end, and what a state refuses (nothing to stop, no such run) is no fault of the
# request: that check would ask for an answer without knowing the state.
"$work/venv/bin/schemathesis" run "${url}api/openapi.json" \
  --exclude-path /api/events \
  --exclude-checks positive_data_acceptance \
  --max-examples "$examples" --request-timeout 40 --continue-on-failure --no-color "$@"
