#!/bin/sh
# Everything that says "on a GPU" in benchmarks/README.md, in one command, as one page:
#
#   sh benchmarks/gpu.sh benchmarks/gpu.md          # one GPU of 80 GB: about eight minutes
#   TINY=1 sh benchmarks/gpu.sh /tmp/gpu.md         # the same commands on tiny models, on any machine
#   SECTIONS="limits prefill" sh benchmarks/gpu.sh  # some of them
#
# A section that fails or takes longer than LIMIT seconds is named on the page, and the next one is run.
set -u
PAGE=${1:-benchmarks/gpu.md}
PYTHON=${PYTHON:-python3}
LIMIT=${LIMIT:-240}
SECTIONS=${SECTIONS:-"limits prefill first_token train_step experts true_size cost launchers"}
HERE=$(dirname "$0")
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

section() { # section NAME TITLE COMMAND...
    name=$1 title=$2
    shift 2
    case " $SECTIONS " in *" $name "*) ;; *) return ;; esac
    echo "$name ..." >&2
    began=$(date +%s)
    timeout "$LIMIT" "$@" >"$WORK/out" 2>"$WORK/err"
    status=$?
    took=$(($(date +%s) - began))
    {
        printf '\n## %s\n\n`%s`, %s s\n\n' "$title" "$*" "$took"
        # Neither bars of progress nor runs of empty lines; tables drawn for a terminal as code.
        grep -v ' left [0-9:]* ' "$WORK/out" | cat -s | sed "$(grep -q '┏' "$WORK/out" && echo 's/^/    /')"
        case $status in
            0) ;;
            124) printf '\nStopped after %s s.\n' "$LIMIT" ;;
            *) printf '\nFailed: `%s`\n' "$(tail -n 1 "$WORK/err" | cut -c 1-300)" ;;
        esac
    } | sed "s|$PYTHON|python|g; s|$WORK|OUT|g" >>"$PAGE"
    [ "$status" = 0 ] || tail -n 25 "$WORK/err" >&2
}

if [ -n "${TINY:-}" ]; then
    REAL="" SHAPE=tiny TRUE="--tiny --steps 3 --rows 2 --seconds 2" MODEL=random:qwen2_audio MORE="--tiny --steps 2"
    LENGTHS="2"
else
    REAL="--real-shapes" SHAPE=7b TRUE="--steps 8" MODEL=random:qwen2_audio:real MORE="" LENGTHS="2 10 29.9 60"
fi

printf '# On a GPU\n\nWritten by `benchmarks/gpu.sh`, %s UTC, commit %s.\n' "$(date -u +'%Y-%m-%d %H:%M')" \
    "$(git -C "$HERE" rev-parse --short HEAD 2>/dev/null || echo unknown)" >"$PAGE"
# shellcheck disable=SC2086  # the lists above are lists
{
    section limits "What the machine can do at most" "$PYTHON" "$HERE/limits.py"
    section prefill "The price of thinking in answering" "$PYTHON" "$HERE/prefill.py" $REAL --repeats 3 \
        --family qwen2_audio audio_flamingo3 qwen2_5_omni --lengths $LENGTHS
    section first_token "From a question to its first token" "$PYTHON" "$HERE/first_token.py" $REAL --repeats 3 \
        --lengths $LENGTHS
    section train_step "The price of thinking in training" "$PYTHON" "$HERE/train_step.py" --shape $SHAPE --clips 4 \
        --seconds 10 --rounds 3 --checkpointing
    section experts "What experts cost" "$PYTHON" "$HERE/experts.py"
    section true_size "From a checkpoint to an export at true size" "$PYTHON" "$HERE/true_size.py" $TRUE
    section cost "What answers cost" "$PYTHON" -m coat cost $MODEL --out "$WORK/cost" --samples 2 --seeds 2 \
        --max-new-tokens 32 --cot-tokens 128 --longest 30
    section launchers "The shipped configurations of accelerate" "$PYTHON" "$HERE/launchers.py" $MORE
}
