#!/bin/sh
# The package as users get it: built, its metadata checked, installed into an empty environment, and asked a question.
#   sh scripts/check_wheel.sh PYTHON
# The version of PyTorch is that of PYTHON's environment; everything is installed as pip resolves it. Then what is missing
# in a plain install must be named with its extra.
set -eu
PYTHON=$(realpath -s "$1")
DIR=$(mktemp -d)
trap 'rm -rf "$DIR"' EXIT
"$PYTHON" -m venv "$DIR/tools"
"$DIR/tools/bin/python" -m pip install --quiet build twine
"$DIR/tools/bin/python" -m build --quiet --outdir "$DIR/dist" .
"$DIR/tools/bin/python" -m twine check --strict "$DIR"/dist/*
TORCH=$("$PYTHON" -c "import torch; print(torch.__version__)")
"$PYTHON" -m venv "$DIR/empty"
"$DIR/empty/bin/python" -m pip install --quiet "torch==$TORCH" "$DIR"/dist/*.whl
"$PYTHON" -c "import sys; from coat.testing.clips import noise; import soundfile; c = noise(1.0); soundfile.write(sys.argv[1], c.waveform, c.sampling_rate)" "$DIR/clip.wav"
cd "$DIR"
"$DIR/empty/bin/coat" --version
"$DIR/empty/bin/coat" chat --miniature clip.wav "What is heard?"
"$DIR/empty/bin/coat" eval list > /dev/null
echo '{"messages": [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Yes."}]}' > rows.jsonl
if "$DIR/empty/bin/coat" data check rows.jsonl > said.txt 2>&1; then exit 1; fi
grep "coat-audio\[train\]" said.txt
du -sm "$DIR/empty/lib" | cut -f1 | xargs -I{} echo "installed: {} MB"
