#!/bin/sh
# The package as users get it: built, its metadata checked, installed into an empty environment, and asked a question.
#   sh scripts/check_wheel.sh PYTHON
# PyTorch comes from PYTHON's environment, for it is large; everything else from the index, as pip resolves it.
set -eu
PYTHON=$(realpath -s "$1")
DIR=$(mktemp -d)
trap 'rm -rf "$DIR"' EXIT
"$PYTHON" -m pip install --quiet build twine
"$PYTHON" -m build --quiet --outdir "$DIR/dist" .
"$PYTHON" -m twine check --strict "$DIR"/dist/*
TORCH=$("$PYTHON" -c "import torch; print(torch.__version__)")
"$PYTHON" -m venv "$DIR/empty"
"$DIR/empty/bin/python" -m pip install --quiet "torch==$TORCH" "$DIR"/dist/*.whl
"$PYTHON" -c "import sys; from coat.testing.clips import noise; import soundfile; c = noise(1.0); soundfile.write(sys.argv[1], c.waveform, c.sampling_rate)" "$DIR/clip.wav"
cd "$DIR"
"$DIR/empty/bin/coat" --version
"$DIR/empty/bin/coat" chat --miniature clip.wav "What is heard?"
du -sm "$DIR/empty/lib" | cut -f1 | xargs -I{} echo "installed: {} MB"
