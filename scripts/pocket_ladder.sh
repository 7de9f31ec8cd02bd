#!/bin/sh
# The figures of docs/results.md, "A real small model": notes of sampled instruments on pocket, with real teachers. About two hours
# on two cores that have AVX512-BF16; what is done is left.
#   apt-get install flite wordnet-base asterisk-core-sounds-en asterisk-core-sounds-en-wav tuxpaint-stamps-default \
#     sonic-pi-samples fluidsynth fluid-soundfont-gm timgm6mb-soundfont
#   sh scripts/pocket_ladder.sh [VENV]
set -eu
cd "$(dirname "$0")/.."
bin="${1:-.venv}/bin"
out=runs/pocket
wheels="${WHEELS:-$out/wheels}"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

"$bin/coat" pocket build --wheels "$wheels"
[ -d $out/parts ] || "$bin/coat" pocket build --untaught --out $out/parts --wheels "$wheels"
[ -f $out/train.jsonl ] || "$bin/python" -m experiments.pocket.lessons --out $out --parts $out/parts
[ -f $out/notes-test.jsonl ] || "$bin/python" -m experiments.pocket.notes --out $out
"$bin/coat" ablate recipes/pocket-notes.yaml --arms baseline,sft,full --seeds "${SEEDS:-2}" --tasks $out/notes-test.jsonl \
  --max-new-tokens 48 --workers "${WORKERS:-2}" --out $out/ladder-50
"$bin/coat" eval compare $out/ladder-50/sft-seed0/eval $out/ladder-50/full-seed0/eval
grep '"pitch_class"' $out/notes-test.jsonl > $out/notes-test-pitch.jsonl
"$bin/coat" reconstruct $out/ladder-50/full-seed0 --manifest $out/notes-test-pitch.jsonl --clips 60 --out $out/reconstructions.html
"$bin/python" -m experiments.pocket.layers --out $out whisper=$out/parts pocket $out/ladder-50/sft-seed0 $out/ladder-50/full-seed0
"$bin/python" -m experiments.pocket.measure $out/notes-test.jsonl whisper --wheels "$wheels"
