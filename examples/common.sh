# What the examples share. To be sourced at the start of a `run`, with the example's name in $example and its arguments in "$@".
# It brings up a lab, or takes the one of --lab NAME, and puts it into $lab; at the end everything is as it was.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

usage() {
  echo "usage: examples/$example/run [--lab NAME]" >&2
  exit 125
}

flotilla() { node "$root/dist/cli/main.js" "$@"; }
# The docker client, and any command, on host $1 of the lab.
docker_on() { flotilla lab docker --name "$lab" "$@"; }
on_host() { local n=$1; shift; flotilla lab exec --name "$lab" "$n" -- "$@"; }
address() { flotilla lab status --name "$lab" --json | json ".hosts[$1 - 1].address"; }
# An expression of the JSON on standard input: json '.length'
json() { node -e 'const text = require("fs").readFileSync(0, "utf8"); console.log(eval("(" + text + ")" + process.argv[1]))' "$1"; }

say() { printf '\n== %s\n' "$*"; }
fail() { printf 'NOT SEEN: %s\n' "$*" >&2; exit 1; }

# expect CODE COMMAND…: runs it, shows what it prints, keeps that in $output, and goes on only if it exits with CODE.
expect() {
  local want=$1 code=0
  shift
  echo "\$ $*"
  output=$("$@" 2>&1) || code=$?
  printf '%s\n' "$output" | sed 's/^/  /'
  [ "$code" = "$want" ] || fail "exit code $want of '$*'; it was $code"
  [ "$code" = 0 ] || echo "  (exit code $code)"
}

# within SECONDS WHAT COMMAND…: tries until the command succeeds.
within() {
  local until=$((SECONDS + $1)) what=$2 began=$SECONDS
  shift 2
  until "$@"; do
    [ "$SECONDS" -lt "$until" ] || fail "$what, within $((until - began)) s"
    sleep 0.3
  done
  echo "$what, after $((SECONDS - began)) s"
}

# Continuous requests from host $1 to $2, until stop_load; which fails unless all of them were answered.
start_load() {
  mkfifo "$scratch/end"
  on_host "$1" node "$root/packaging/lab/load/load.mjs" "$2" 8 <"$scratch/end" >"$scratch/load" &
  load=$!
  exec {load_end}>"$scratch/end"
  sleep 1
}
stop_load() {
  sleep 1
  end_load || fail "the load ran to its end"
  local failed ok
  ok=$(json .ok <"$scratch/load")
  failed=$(json .failed <"$scratch/load")
  echo "load: $ok requests answered, $failed failed"
  [ "$failed" = 0 ] || fail "no failed request; $(cat "$scratch/load")"
  [ "$ok" -gt 100 ] || fail "more than 100 requests"
}
end_load() {
  [ -n "${load:-}" ] || return 0
  exec {load_end}>&-
  rm -f "$scratch/end"
  local pid=$load
  load=
  wait "$pid"
}

gone() { ! flotilla service ls --format '{{.Name}}' | grep -qx "$1"; }

clean_up() {
  local code=$?
  trap '' INT TERM
  end_load || true
  # What an example started, it ends in a function of this name.
  if declare -F stop >/dev/null; then stop; fi
  # What an example took from a lab that stays, it gives back in a function of this name.
  if declare -F mend >/dev/null && [ -z "${own_lab:-}" ]; then mend; fi
  if [ -n "${own_lab:-}" ]; then flotilla lab down --name "$own_lab" || code=1; fi
  if [ -z "${own_lab:-}" ] && [ -n "${service:-}" ] && ! gone "$service"; then
    flotilla service rm "$service" >/dev/null && within 30 "the lab is as it was" gone "$service" || code=1
  fi
  rm -rf "$scratch"
  [ "$code" = 0 ] && printf '\n%s: seen\n' "$example" || printf '\n%s: NOT all of it was seen\n' "$example" >&2
  exit "$code"
}

lab=
case $# in
  0) ;;
  2) [ "$1" = --lab ] && lab=$2 || usage ;;
  *) usage ;;
esac
[ -f "$root/dist/cli/main.js" ] || { echo "not built yet; run: npm ci" >&2; exit 1; }
scratch=$(mktemp -d)
trap clean_up EXIT
trap 'exit 130' INT TERM
if [ -z "$lab" ]; then
  own_lab=$example lab=$example
  say "A lab of three Docker hosts, with a manager each"
  # What a killed run left.
  flotilla lab down --name "$lab" 2>/dev/null
  flotilla lab up --name "$lab" --hosts 3 --managers 3
fi
FLOTILLA_HOST=$(flotilla lab status --name "$lab" --json | json '.managers.join()')
export FLOTILLA_HOST NO_COLOR=1
