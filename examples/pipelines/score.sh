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
tries=${TRIES:-5} pause_s=${PAUSE_S:-60} child= signal=

# batchscore puts its work in order at a signal, and ends with 130 or 143. Ctrl-C reaches it without
# us, a TERM is handed on. It runs beside the shell, which hears nothing of a signal while it waits
# for what runs in front; for the same reason a pause is made of seconds.
trap 'signal=130' INT
trap 'signal=143; [ -z "$child" ] || kill "$child" 2>/dev/null' TERM

try=1
while [ -z "$signal" ]; do
  "${BATCHSCORE:-batchscore}" score "$input" --url "$URL" -o "$out" \
    --resume --report "$out.report.json" "$@" &
  child=$!
  [ "$signal" != 143 ] || kill "$child"
  while :; do
    wait "$child"
    code=$?
    kill -0 "$child" 2>/dev/null || break # a signal ends the waiting, not yet the child
  done
  child=
  if [ "$code" -ne 75 ] || [ "$try" -ge "$tries" ]; then exit "$code"; fi

  echo "$0: try $try of $tries was cut short, the next in $pause_s s" >&2
  waited_s=0
  while [ "$waited_s" -lt "$pause_s" ] && [ -z "$signal" ]; do
    sleep 1
    waited_s=$((waited_s + 1))
  done
  pause_s=$((pause_s * 2)) try=$((try + 1))
done
exit "$signal"
