#!/bin/sh
# lmms-eval in an environment of its own (it pins much): sh scripts/lmms_env.sh DIR
# It asks for torchvision, whose wheels do not load beside a CPU torch; nothing of audio uses it.
set -eu
VENV=$1
VERSION=0.7.3
STAMP=$VENV/.installed-$VERSION
test -f "$STAMP" && exit 0
"${PYTHON:-python3}" -m venv "$VENV"
PIP="$VENV/bin/python -m pip --quiet --disable-pip-version-check"
$PIP install torch==2.13.0
# It imports a module of filelock that filelock 4 no longer has.
$PIP install torch==2.13.0 "lmms-eval[audio]==$VERSION" "filelock<4" --editable ".[eval]"
$PIP uninstall --yes torchvision
touch "$STAMP"
