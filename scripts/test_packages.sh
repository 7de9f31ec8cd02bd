#!/bin/sh
# Programs that tests use, installed where we may: a browser, and encoders of other makers.
missing=""
command -v chromium >/dev/null 2>&1 || command -v google-chrome >/dev/null 2>&1 || missing="$missing chromium"
for program in ffmpeg sox lame; do
  command -v "$program" >/dev/null 2>&1 || missing="$missing $program"
done
case "$missing" in *sox*) missing="$missing libsox-fmt-all" ;; esac
[ -z "$missing" ] && exit 0

export DEBIAN_FRONTEND=noninteractive
if command -v apt-get >/dev/null 2>&1; then
  become=""
  [ "$(id -u)" = 0 ] || become="sudo -n"
  if $become apt-get update -qq >/dev/null 2>&1; then
    echo "Installing$missing"
    $become apt-get install -y -qq --no-install-recommends $missing >/dev/null 2>&1 && exit 0
  fi
fi
echo "Tests that need$missing are skipped, for they may not be installed from here." >&2
exit 0
