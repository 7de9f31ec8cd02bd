#!/bin/sh
# Recordings that pocket is asked about by `coat demo` and `coat pocket hear`: Debian's packages of telephone prompts and
# drum loops. Installed where we may; where not, what ships with the package and what is there is asked about.
packages="asterisk-core-sounds-en-wav sonic-pi-samples"
missing=""
for package in $packages; do
  dpkg -s "$package" >/dev/null 2>&1 || missing="$missing $package"
done
[ -z "$missing" ] && exit 0

if command -v apt-get >/dev/null 2>&1; then
  become=""
  [ "$(id -u)" = 0 ] || become="sudo -n"
  export DEBIAN_FRONTEND=noninteractive
  if $become apt-get update -qq >/dev/null 2>&1; then
    echo "Installing$missing"
    $become apt-get install -y -qq --no-install-recommends $missing >/dev/null 2>&1 && exit 0
  fi
fi
echo "Recordings to ask about may not be installed from here; on Debian and Ubuntu: sudo apt-get install$missing" >&2
exit 0
