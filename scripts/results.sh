#!/bin/sh
# Every figure of docs/results.md, on the small world. What is done is left as it is: stopped, it goes on.
# Some twelve hours on two cores.  sh scripts/results.sh [VENV]
set -eu
cd "$(dirname "$0")/.."
bin="${1:-.venv}/bin"
world=runs/demo
test=$world/corpus/test.jsonl
workers="${WORKERS:-2}"
labels="data.train_dataset=$world/corpus/train-labels-200-seed{seed}.jsonl"
few="data.train_dataset=$world/corpus/train-labels-50-seed{seed}.jsonl"
ask="--tasks $test --limit 150 --max-new-tokens 32"
# The recipe's own positions are the audio's.
paper="--set thinking.positions=sequence"
# Processes that each want every core slow each other down tenfold.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

[ -f $world/report.html ] || "$bin/coat" demo
"$bin/python" -m experiments.labels 50 200 --seeds 5

# Table 4, then the other arms; what both hold is trained once.
"$bin/coat" ablate recipes/small-world.yaml --set "$labels" $paper $ask --arms ladder --seeds 3 --workers "$workers" --out runs/ladder
mkdir -p runs/arms
for arm in sft block full; do
  for seed in 0 1 2; do
    [ -d runs/arms/$arm-seed$seed ] || cp -r runs/ladder/$arm-seed$seed runs/arms/
  done
done
"$bin/coat" ablate recipes/small-world.yaml --set "$labels" $paper $ask --arms sft,heads,random-block,stride-2,mixed \
  --seeds 3 --workers "$workers" --out runs/arms

# Think tokens at the positions of their audio; with strides mixed, where labels are few, asked at each of them.
"$bin/coat" ablate recipes/small-world.yaml --set "$few" $ask --arms sft,full,mixed,weights-x0.25 --seeds 5 --workers "$workers" \
  --out runs/at-audio-50
"$bin/coat" ablate recipes/small-world.yaml --set "$few" $ask --arms stride-2,stride-4 --seeds 2 --workers "$workers" --out runs/at-audio-strides
twice="--set stages.0.steps=300 --set stages.1.steps=1300"
"$bin/coat" ablate recipes/small-world.yaml --set "$few" $twice $ask --arms sft,full --seeds 5 --workers "$workers" --out runs/twice-50
"$bin/coat" ablate recipes/small-world.yaml --set "$few" $ask --arms sft,full,sft-steps-x4,full-steps-x4 --seeds 2 --workers "$workers" --out runs/four-times
"$bin/coat" ablate recipes/small-world.yaml --set "$labels" $twice $ask --arms sft,full --seeds 5 --workers "$workers" --out runs/twice-200
"$bin/coat" ablate recipes/small-world.yaml --set "$labels" $ask --arms sft,full --seeds 5 --workers "$workers" --out runs/at-audio-200
# What else a recipe sets, looked at once on the development split; half the learning rate, and the other placement, over seeds.
"$bin/coat" ablate recipes/small-world.yaml --tasks $world/corpus/dev.jsonl --limit 150 --max-new-tokens 32 --seeds 1 \
  --arms sft,full,weights-x0.25,weights-x4,equal-weights,one-stage,before_assistant,without-basic_pitch,full-rate-x0.5,sft-rate-x0.5 \
  --workers "$workers" --out runs/screens
"$bin/coat" ablate recipes/small-world.yaml --tasks $world/corpus/dev.jsonl --limit 150 --max-new-tokens 32 --seeds 1 \
  --arms sft,full,lora,sft-rate-x2,full-rate-x2,without-standin_speech,without-standin_affect,without-audio_reconstruction \
  --workers "$workers" --out runs/more-screens
"$bin/coat" ablate recipes/small-world.yaml $ask --arms sft,full,sft-rate-x0.5,full-rate-x0.5 --seeds 3 --workers "$workers" --out runs/rate
"$bin/coat" ablate recipes/small-world.yaml $ask --arms sft,full,before_assistant --seeds 3 --workers "$workers" --out runs/placement
# Backbones that have met blocks in pre-training, and have not.
for blocks in 0 0.5; do
  "$bin/python" scripts/pretrain_miniature.py --corpus $world/corpus --out runs/met-blocks/backbone-$blocks --steps 1000 --blocks $blocks
  "$bin/coat" ablate recipes/small-world.yaml $paper --set backbone.path=runs/met-blocks/backbone-$blocks \
    --set data.cache=runs/met-blocks/features-$blocks $ask --arms sft,block --seeds 1 --workers "$workers" --out runs/met-blocks/$blocks
done
# The same runs asked other questions, about other instruments and voices.
for run in runs/at-audio-50/sft-seed* runs/at-audio-50/full-seed* runs/at-audio-50/weights-x0.25-seed* runs/twice-50/*-seed* \
  runs/twice-200/*-seed* runs/placement/*-seed* runs/four-times/*-steps-x4-seed*; do
  "$bin/coat" eval run "$run" --tasks $world/corpus/dev.jsonl --limit 150 --max-new-tokens 32 --out "$run/dev"
done
for stride in off 2 4; do
  for seed in 0 1 2 3 4; do
    "$bin/coat" eval run runs/at-audio-50/mixed-seed$seed $ask --think $stride --out runs/at-audio-50-asked/$stride/mixed-seed$seed
  done
done

# How few labels; the ladder holds 200.
mkdir -p runs/curve
for arm in sft full; do
  for seed in 0 1 2; do
    [ -d runs/curve/$arm-200-seed$seed ] || cp -r runs/ladder/$arm-seed$seed runs/curve/$arm-200-seed$seed
  done
done
"$bin/python" -m experiments.learning_curve $paper --workers "$workers"

# Fewer think tokens, later turns.
"$bin/python" -m experiments.thinking_budget --trained runs/arms
"$bin/python" -m experiments.later_turns $paper --workers "$workers"

# What states and heads hold, at the end and over training.
targets=mood:voice:mood,pitch_class:program:pitch_class,family:program:instrument
"$bin/coat" probe base=$world/backbone block=runs/ladder/block-seed0 coat=runs/ladder/full-seed0 \
  --labels $world/corpus/clips.jsonl --targets $targets --tasks $test --clips 500 --max-new-tokens 32 --out runs/probes
"$bin/coat" train recipes/small-world.yaml $paper --set data.train_dataset=$world/corpus/train-labels-200-seed0.jsonl \
  --set training.save_steps=100 --set training.keep_checkpoints=20 --out runs/over-time
"$bin/coat" probe coat=runs/over-time --labels $world/corpus/clips.jsonl --targets $targets --clips 500 \
  --over-training --out runs/probes-over-training
"$bin/coat" reconstruct runs/ladder/full-seed0 --manifest $test --decoder $world/decoder.safetensors --out runs/heads.html

"$bin/coat" report runs/ladder runs/arms runs/at-audio-50 runs/at-audio-200 runs/curve/curve.html runs/budget runs/later-turns runs/probes runs/probes-over-training \
  runs/heads.html --out runs/results.html --markdown runs/results.md
