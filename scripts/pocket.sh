#!/bin/sh
# How pocket learned to hear, from installed packages and a seed. Some five hours on two cores; what is done is left.
#   apt-get install flite wordnet-base asterisk-core-sounds-en asterisk-core-sounds-en-wav tuxpaint-stamps-default \
#     sonic-pi-samples fluidsynth fluid-soundfont-gm timgm6mb-soundfont
#   sh scripts/pocket.sh [VENV]
set -eu
cd "$(dirname "$0")/.."
bin="${1:-.venv}/bin"
out=runs/pocket
wheels="${WHEELS:-$out/wheels}"

[ -d $out/parts ] || "$bin/coat" pocket build --untaught --out $out/parts --wheels "$wheels"
[ -f $out/train.jsonl ] || "$bin/python" -m experiments.pocket.lessons --out $out --parts $out/parts
[ -d $out/aligned ] || "$bin/python" -m experiments.pocket.align --out $out --backbone $out/parts
"$bin/coat" train recipes/pocket.yaml --out $out/hear
"$bin/coat" train recipes/pocket-more.yaml --out $out/more
"$bin/python" -m experiments.pocket.collect $out/sequence $out/more/adapter --to $out/first.safetensors
"$bin/coat" pocket build --out $out/taught --wheels "$wheels" --hearing $out/first.safetensors
"$bin/coat" train recipes/pocket-whole.yaml --out $out/whole
"$bin/python" -m experiments.pocket.collect $out/whole/adapter --onto $out/first.safetensors --to $out/hearing.safetensors
"$bin/coat" pocket build --wheels "$wheels" --hearing $out/hearing.safetensors
"$bin/python" -m experiments.pocket.measure $out/dev.jsonl $out/hear $out/more $out/whole whisper --wheels "$wheels"
