#!/bin/sh
# Make sure espeak-ng, fluidsynth and a General MIDI soundfont are there.
missing=""
command -v espeak-ng >/dev/null 2>&1 || missing="$missing espeak-ng"
command -v fluidsynth >/dev/null 2>&1 || missing="$missing fluidsynth"
found=""
for folder in /usr/share/sounds/sf2 /usr/share/soundfonts /opt/homebrew/share/soundfonts; do
  for font in "$folder"/*.sf2; do [ -f "$font" ] && found=1; done
done
[ -n "$found" ] || missing="$missing timgm6mb-soundfont"
[ -z "$missing" ] && exit 0

if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
  echo "Installing$missing"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing >/dev/null && exit 0
elif command -v apt-get >/dev/null 2>&1 && command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
  echo "Installing$missing"
  sudo apt-get update -qq && sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null && exit 0
fi
echo "The small world needs$missing, which may not be installed from here. Please run:" >&2
echo "  Debian, Ubuntu:  sudo apt-get install$missing" >&2
echo "  macOS:           brew install espeak-ng fluid-synth   (and put a General MIDI .sf2 into /opt/homebrew/share/soundfonts)" >&2
exit 1
