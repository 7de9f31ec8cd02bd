"""What transformers answers: exports of tiny trained runs, clips, questions, and every log-probability.

Run by this package's own environment, for vLLM's cannot hold both.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import soundfile
import torch
import transformers

import coat.thinking.auto  # noqa: F401  # AutoProcessor learns of it
from coat.checkpoints import load_model
from coat.config.reading import parse_recipe
from coat.export.checkpoint import export
from coat.testing.checkpoints import random_backbone
from coat.training.run import train

FAMILIES = ("qwen2_audio", "audio_flamingo3", "music_flamingo", "glm_asr", "voxtral", "qwen2_5_omni", "qwen3_omni",
            "gemma4")  # fmt: skip
ONE_CLIP = ("audio_flamingo3", "music_flamingo", "glm_asr")
POCKET, POCKET_CLIPS = "pocket", 5
# Most at the paper's pace, one within a budget, one at a stride of two; then each at the positions of its audio.
THINKING = {name: {} for name in (*FAMILIES, POCKET)}
THINKING |= {"audio_flamingo3": {"max_tokens": 100}, "qwen2_5_omni": {"stride": 2}}
AT_AUDIO = {f"{family}-at-audio": family for family in FAMILIES}
FAMILY_OF = {**AT_AUDIO, POCKET: "qwen2_audio"}
THINKING |= {name: {**THINKING[family], "positions": "audio"} for name, family in AT_AUDIO.items()}
RATE, CLIPS = 16_000, 12
# Every log-probability of every token is compared; pocket's vocabulary has 49,216.
NEW_TOKENS = dict.fromkeys((*FAMILIES, *AT_AUDIO), 8) | {POCKET: 3}
# Ways of asking, by the processor's options; the last is for a few clips.
STRIDE = "stride"
WAYS = {"think": {}, "plain": {"audio_think": False}, STRIDE: {"audio_think_stride": 4}}
STRIDE_CLIPS = 3
ENDS = {"qwen2_audio": 29.99, "audio_flamingo3": 61.3, "music_flamingo": 61.3, "glm_asr": 61.3, "voxtral": 61.3,
        "qwen2_5_omni": 35.0, "qwen3_omni": 35.0, "gemma4": 29.99, POCKET: 9.0}  # fmt: skip


def main(place: str, family: str, pocket: str | None = None) -> None:
    """Write everything of a family, or of pocket and its trained weights; a complete folder is left as it is."""
    folder = Path(place)
    if (folder / "done").is_file():
        return
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "clips").mkdir(parents=True)
    rng = np.random.default_rng([0, *family.encode()])
    base, clips = (Path(pocket), POCKET_CLIPS) if pocket else (folder / "base", CLIPS)
    if not pocket:
        random_backbone(family, base)
        torch.save({}, base / "spk_dict.pt")
    items = questions(folder, family, rng, clips)
    for name in (family, *(name for name, of in AT_AUDIO.items() if of == family)):
        reference(folder, name, make_export(folder, name, base), items)
    (folder / "done").touch()


def make_export(folder: Path, name: str, base: Path) -> Path:
    """A run of two steps, so that nothing is at its starting value."""
    rows = []
    for index in range(4):
        path = folder / "clips" / f"train-{index}.wav"
        soundfile.write(path, np.random.default_rng(index).normal(0, 0.1, RATE).astype(np.float32), RATE)
        content = "<audio>What is said?"
        answer = {"role": "assistant", "content": "the red dog"}
        rows.append({"audios": [str(path)], "messages": [{"role": "user", "content": content}, answer]})
    manifest = folder / "train.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = parse_recipe(
        {
            "backbone": {"family": FAMILY_OF.get(name, name), "path": str(base)},
            "thinking": THINKING[name],
            "stages": [{"name": "one", "steps": 2, "learning_rate": 0.02, "experts": {"audio_reconstruction": 1.0}}],
            "data": {"train_dataset": str(manifest)},
            "training": {"batch_size": 4, "micro_batch_size": 4, "precision": "fp32"},
        }
    )
    return export(train(recipe, folder / "runs" / name), folder / "exports" / name)


def questions(folder: Path, family: str, rng: np.random.Generator, count: int) -> list[dict]:
    """Clips of all lengths; then several clips, several turns, none."""
    lengths = np.concatenate([[0.2, 1.3, ENDS[family]], rng.uniform(0.3, 8, count - 3)])
    clips = []
    for index, seconds in enumerate(lengths):
        name = f"clips/{family}-{index}.wav"
        wave = rng.normal(0, 0.1, round(float(seconds) * RATE)) * rng.uniform(0.2, 2)
        soundfile.write(folder / name, wave.astype(np.float32), RATE, subtype="FLOAT")
        clips.append(name)
    items = [{"messages": [user([clip], f"What is said? {i % 3}")]} for i, clip in enumerate(clips)]
    answer = {"role": "assistant", "content": "two boats"}
    items.append({"messages": [user(clips[:1], "What is said?"), answer, user([], "Are you sure?")]})
    items.append({"messages": [user([], "Describe")]})
    if family not in ONE_CLIP:
        items.append({"messages": [user(clips[3:5], "Which one?")]})
        items.append({"messages": [user(clips[5:6], "What is said?"), answer, user(clips[6:8], "And here?")]})
    return items


def user(clips: list[str], text: str) -> dict:
    """A user turn."""
    content = [{"type": "audio", "audio": clip} for clip in clips] + [{"type": "text", "text": text}]
    return {"role": "user", "content": content if clips else text}


def reference(folder: Path, name: str, out: Path, items: list[dict]) -> None:
    """Prompt ids, greedy answers and log-probabilities of each question, by ``WAYS``."""
    processor = transformers.AutoProcessor.from_pretrained(out)
    model = load_model(out).backbone.model.eval()
    suppressed = list(processor.think_tokens.ids)
    rows, logprobs = [], {}
    for index, item in enumerate(items):
        for way, options in WAYS.items():
            if way == STRIDE and index >= STRIDE_CLIPS:
                continue
            inputs = processor.apply_chat_template(
                absolute(folder, item["messages"]), add_generation_prompt=True, tokenize=True, return_dict=True,
                processor_kwargs={"return_tensors": "pt", **options},
            )  # fmt: skip
            made = model.generate(
                **inputs, max_new_tokens=NEW_TOKENS[name], do_sample=False, suppress_tokens=suppressed,
                output_logits=True, return_dict_in_generate=True,
            )  # fmt: skip
            size = inputs["input_ids"].shape[1]
            logits = torch.cat(made.logits)
            logits[:, suppressed] = float("-inf")
            key = f"{index}-{way}"
            logprobs[key] = logits.log_softmax(-1).float().numpy()
            rows.append(
                {"key": key, "options": options, "messages": item["messages"], "max_tokens": NEW_TOKENS[name],
                 "prompt": inputs["input_ids"][0].tolist(), "answer": made.sequences[0, size:].tolist()}
            )  # fmt: skip
    np.savez(folder / f"{name}.npz", **logprobs)
    (folder / f"{name}.json").write_text(json.dumps(rows))


def absolute(folder: Path, messages: list[dict]) -> list[dict]:
    """Messages with whole paths."""
    return [
        {**m, "content": m["content"] if isinstance(m["content"], str) else [
            {**part, "audio": str(folder / part["audio"])} if part["type"] == "audio" else part
            for part in m["content"]
        ]}
        for m in messages
    ]  # fmt: skip
