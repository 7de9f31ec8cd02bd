#!/bin/sh
# The oldest transformers, PEFT and accelerate that pyproject.toml allows, laid over the environment of the tests:
#   sh scripts/oldest_env.sh DIR VENV
# With OLDEST_TORCH=1 the oldest PyTorch too, which comes with gigabytes of CUDA.
set -eu
DIR=$1
BELOW=$2
STAMP=$DIR/.installed
test -f "$STAMP" && test "$STAMP" -nt pyproject.toml && exit 0
rm -rf "$DIR"
"${PYTHON:-python3}" -m venv "$DIR"
OLDEST=$("$DIR/bin/python" - <<'P'
import os, re, tomllib

names = {"transformers", "peft", "accelerate"} | ({"torch"} if os.environ.get("OLDEST_TORCH") else set())
for line in tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"]:
    name, version = re.match(r"([\w-]+)>=([\d.]+)", line).groups()
    if name in names:
        print(f"{name}=={version}")
P
)
PIP="$DIR/bin/python -m pip --quiet --disable-pip-version-check"
if [ -n "${OLDEST_TORCH:-}" ]; then
  $PIP install $OLDEST
else
  $PIP install $(echo "$OLDEST" | grep transformers) librosa  # which that transformers decodes files by
  $PIP install --no-deps $(echo "$OLDEST" | grep -v transformers)
fi
site() { "$1/bin/python" -c "import sysconfig; print(sysconfig.get_paths()['purelib'])"; }
echo "import site; site.addsitedir('$(site "$BELOW")')" > "$(site "$DIR")/below.pth"
touch "$STAMP"
