"""A run as a plain checkpoint: adapter merged, heads dropped, everything a server or another library asks for.

```
DIR/
  config.json             the family's, under an architecture name of our own
  *.safetensors           in the layout of the family's hub checkpoints
  generation_config.json  with the think tokens suppressed
  tokenizer, preprocessor, chat template, processor_config.json
  processing_coat.py ...  the processor, for those without this package
  recipe.yaml README.md   how it was made, how to use it
```
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from coat.audio import Clip
from coat.checkpoints import load_model
from coat.checkpoints.references import RunRef, run_in
from coat.data.conversation import Conversation
from coat.errors import CoatError
from coat.export.agreement import Agreement
from coat.export.card import model_card
from coat.files import write_whole
from coat.thinking.batch import Batch, make_batch
from coat.thinking.model import ThinkingModel

ARCHITECTURE_PREFIX = "Coat"
WEIGHTS = ("*.safetensors", "*.bin", "*.pth", "*.gguf", "*.h5", "*.msgpack", "*.onnx", "model.safetensors.index.json")
# Mistral's own description and tokenizer, which are read before those of transformers, and know no think tokens.
MISTRAL = ("params.json", "tekken.json")
NOT_COPIED = ("README.md", ".gitattributes", ".git*", ".cache", *WEIGHTS, *MISTRAL)
REMOTE_CODE = {"processing_coat.py": "thinking/processor.py", "block.py": "thinking/block.py",
               "tokens.py": "thinking/tokens.py", "thinking.py": "config/thinking.py", "limits.py": "audio/limits.py",
               "processors.py": "backbones/processors.py", "token_counts.py": "backbones/token_counts.py"}  # fmt: skip

GUARD = (
    "{%- for message in messages %}{%- set content = message['content'] %}"
    "{%- for item in ([{'text': content}] if content is string else (content or [])) %}"
    "{%- for token in TOKENS %}{%- if token in (item['text'] or '') %}"
    "{{- raise_exception('a text holds ' + token + ': think tokens and turns are added by the server, and never "
    "written by users') }}"
    "{%- endif %}{%- endfor %}{%- endfor %}{%- endfor %}"
)


def export(
    run: str | Path | RunRef, out: str | Path, *, adapter_only: bool = False, say: Callable[[str], None] = print
) -> Path:
    """Write a run as a checkpoint that others can load, read it back, and compare.

    Args:
        run: A finished run.
        out: A folder that is not there yet; it appears whole or not at all.
        adapter_only: Write the PEFT adapter with tokenizer and processor, and no base weights.
        say: Called with each line for the user.

    Returns:
        The folder.

    Raises:
        CoatError: The folder is taken, the run is not finished, or what was read back differs.
    """
    out = Path(out)
    if out.exists():
        raise CoatError(f"{out} is there already.", "Choose another folder, or delete this one.")
    ref = run if isinstance(run, RunRef) else run_in(run)
    # Reading back holds two models at once: in the machine's memory, not the accelerator's.
    model, recipe = load_model(ref, device="cpu", load_in_4bit=False), ref.recipe
    if model.thinking.fill != "token":
        problem = f"{ref.path} was trained with thinking.fill: {model.thinking.fill}, which no server knows."
        raise CoatError(problem, "Export a run that was trained with fill: token.")
    source = ref.base
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    agreement = None
    if adapter_only:
        model.save_adapter(str(partial))
        model.backbone.tokenizer.save_pretrained(partial)
    else:
        probe = probe_batch(model)
        expected = logits_of(model, probe)
        model.merge_adapter()
        merged = logits_of(model, probe)
        model.backbone.save_pretrained(str(partial))
        _rename_architecture(partial)
        _suppress_think_tokens(partial, model)
    _write_processor(partial, model)
    base = base_files(source)
    keep_base_preprocessing(partial, base)
    copied = copy_side_files(base, partial)
    if not adapter_only:
        agreement = _read_back(partial, model, probe, expected, merged)
    write_whole(partial / "recipe.yaml", recipe.dump())
    write_whole(
        partial / "README.md", model_card(recipe, model, source, ref.folder, agreement, adapter_only=adapter_only)
    )
    partial.rename(out)
    if copied:
        say(f"Copied from the base: {', '.join(copied)}.")
    if agreement is not None:
        say(
            f"Read back: logits of a probe clip within {agreement.unmerged:.2g} of the run's "
            f"(largest {agreement.scale:.3g}), {agreement.same_choices:.1%} of choices the same."
        )
    return out


def probe_batch(model: ThinkingModel) -> Batch:
    """One question and answer about a sweep in noise, the same for every model."""
    rate = model.backbone.audio_spec.sampling_rate
    time = np.arange(round(1.3 * rate)) / rate
    sweep = np.sin(2 * np.pi * (200 + 600 * time) * time) + np.random.default_rng(0).normal(0, 0.1, len(time))
    clip = Clip((0.3 * sweep).astype(np.float32), rate, "probe")
    messages = [{"role": "user", "content": "<audio>What is heard?"}, {"role": "assistant", "content": "A tone rises."}]
    return make_batch(model.builder, [Conversation(messages, [clip], "probe")]).to(model.backbone.device)


@torch.inference_mode()
def logits_of(model: ThinkingModel, batch: Batch) -> Tensor:
    """Logits at the answer, ``(R, V)`` in float32."""
    return model(batch).response_logits.float().cpu()


def base_files(source: str) -> Path:
    """A folder with every file of the base but its weights."""
    if Path(source).is_dir():
        return Path(source)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(source, ignore_patterns=[*NOT_COPIED]))


def copy_side_files(base: Path, folder: Path) -> list[str]:
    """Copy every file of the base that is no weight and was not written anew: speaker dictionaries, licences, ..."""
    copied = []
    for path in sorted(base.rglob("*")):
        name = path.relative_to(base)
        unwanted = any(Path(part).match(pattern) for part in name.parts for pattern in NOT_COPIED)
        if path.is_file() and not unwanted and not (folder / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder / name)
            copied.append(str(name))
    return copied


def keep_base_preprocessing(folder: Path, base: Path) -> None:
    """Some families describe images in the same files as sound: what the base says and we do not, stays.

    But for a chat template, which older files hold: ours is a file of its own, and guards against turns in texts.
    """
    for name in ("preprocessor_config.json", "processor_config.json"):
        theirs, ours = base / name, folder / name
        if theirs.is_file():
            said = json.loads(theirs.read_text())
            said.pop("chat_template", None)
            merged = said | json.loads(ours.read_text())
            write_whole(ours, json.dumps(merged, indent=2))


def _rename_architecture(folder: Path) -> None:
    """A name of our own: a server without the plug-in fails loudly, and never answers without the block."""
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = [ARCHITECTURE_PREFIX + name for name in config["architectures"]]
    write_whole(folder / "config.json", json.dumps(config, indent=2))


def _suppress_think_tokens(folder: Path, model: ThinkingModel) -> None:
    """Greedy, without penalties, to any of the ends; think tokens are never produced.

    A base's sampling and penalties are not handed on: servers would take them as defaults, and answer otherwise than
    the run was evaluated.
    """
    config = {
        "do_sample": False,
        "eos_token_id": sorted(model.backbone.end_ids),
        "pad_token_id": model.backbone.tokenizer.pad_token_id,
        "suppress_tokens": sorted(model.tokens.ids),
    }
    write_whole(folder / "generation_config.json", json.dumps(config, indent=2))


def _write_processor(folder: Path, model: ThinkingModel) -> None:
    """The processor, and its source for those without this package."""
    processor = model.processor()
    processor.chat_template = guarded(processor.chat_template, model.backbone.turn_tokens)
    processor.save_pretrained(folder)
    model.backbone.feature_extractor.save_pretrained(folder)
    path = folder / "processor_config.json"
    config = json.loads(path.read_text())
    config["auto_map"] = {"AutoProcessor": "processing_coat.CoatProcessor"}
    write_whole(path, json.dumps(config, indent=2))
    for name, home in REMOTE_CODE.items():
        source = (Path(__file__).parents[1] / home).read_text()
        write_whole(folder / name, re.sub(r"from coat\.\w+\.(\w+) import", r"from .\1 import", source))


def guarded(template: str, turn_tokens: Sequence[str]) -> str:
    """A chat template that refuses think tokens and turns in texts: servers may not look at prompts without audio."""
    guard = GUARD.replace("TOKENS", str(["<|audio_think", *turn_tokens]))
    return template if guard in template else guard + template


def _read_back(folder: Path, model: ThinkingModel, probe: Batch, expected: Tensor, merged: Tensor) -> Agreement:
    """Load what was written and compare it with what was in memory, and with the run before merging."""
    held = next(model.backbone.model.parameters()).dtype
    again = load_model(folder, dtype=held, device=model.backbone.device)
    if again.tokens != model.tokens or again.thinking != model.thinking:
        raise CoatError("The export reads back with other think tokens or settings.", "Please report this.")
    logits = logits_of(again, probe)
    scale = float(merged.abs().max())
    if float((logits - merged).abs().max()) > 1e-4 * scale:
        raise CoatError(
            f"The export reads back with other logits: {float((logits - merged).abs().max()):.3g} apart.",
            "Please report this, with the versions that `coat doctor` shows.",
        )
    # Merging rounds each weight once; half precision may move logits by a few of its steps.
    allowed = 1e-4 if merged.dtype is torch.float32 and _is_float32(model) else 5e-2
    apart = float((logits - expected).abs().max())
    if apart > allowed * scale:
        raise CoatError(
            f"Merging the adapter moved logits by {apart:.3g} of {scale:.3g}: more than rounding can.",
            "Please report this, with the versions that `coat doctor` shows.",
        )
    return Agreement(apart, scale, float((logits.argmax(-1) == expected.argmax(-1)).float().mean()))


def _is_float32(model: ThinkingModel) -> bool:
    return next(model.backbone.model.parameters()).dtype is torch.float32
