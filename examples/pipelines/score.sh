#!/bin/sh
# Scores one file, for cron, a systemd timer or make; ends with the exit code of batchscore.
#
#   URL=https://HOST/deployment/ID/forward ./score.sh INPUT OUT [OPTION...]
#
# TRIES (5) runs at most, with a pause of PAUSE_S (60), twice as long each time, after a 75 and
# after nothing else. The report is OUT.report.json, also after a bad end.
set -u

if [ $# -lt 2 ] || [ -z "${URL:-}" ]; then
  echo "usage: URL=https://HOST/deployment/ID/forward $0 INPUT OUT [OPTION...]" >&2
  exit 2
fi
input=$1 out=$2
shift 2
tries=${TRIES:-5} pause_s=${PAUSE_S:-60} child= pause= signal=

# batchscore puts its work in order at a signal, and ends with 130 or 143. Ctrl-C reaches it without
# us, a TERM is handed on. All runs beside the shell, which hears nothing of what comes while it
# waits for something in front.
stop() {
  [ $# -eq 0 ] || kill "$@" 2>/dev/null
}
trap 'signal=130; stop $pause' INT
trap 'signal=143; stop $pause $child' TERM

finish() { # PID: waits for it, also when a signal ends the waiting
  while :; do
    wait "$1"
    code=$?
    kill -0 "$1" 2>/dev/null || return 0
  done
}

try=1
while :; do
  "${BATCHSCORE:-batchscore}" score "$input" --url "$URL" -o "$out" \
    --resume --report "$out.report.json" "$@" &
  child=$!
  [ "$signal" != 143 ] || stop $child
  finish $child
  child=
  if [ "$code" -ne 75 ] || [ "$try" -ge "$tries" ]; then exit "$code"; fi
  echo "$0: try $try of $tries was cut short, the next in $pause_s s" >&2
  sleep "$pause_s" &
  pause=$!
  [ -z "$signal" ] || stop $pause
  finish $pause
  pause=
  [ -z "$signal" ] || exit "$signal"
  pause_s=$((pause_s * 2)) try=$((try + 1))
done
