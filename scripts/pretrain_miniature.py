"""Pre-train the tiny backbone with a text-aligned objective: the paper's situation in minutes.

    python scripts/pretrain_miniature.py --corpus runs/demo/corpus --out runs/met-blocks/backbone --blocks 0.5

It learns to transcribe, to name instruments and sounds, and to follow text, so its language model hears
what those answers need. It reads and repeats the words of the other questions and answers too, as any language model
knows them, without sound. Its tower also rebuilds the spectrum from the projected audio embeddings, so that
pitch and prosody are in them, and nothing in the text objective makes the language model listen to them: a
tower that hears, a language model that does not.

``--blocks`` gives a share of the rows a thinking block that nothing supervises, of one think token for one, two or four
audio tokens, at the paper's positions: a backbone that has met blocks before CoAT trains it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from coat.backbones.features import AudioFeatures
from coat.backbones.qwen2_audio import Qwen2Audio
from coat.config.thinking import PAPER, ThinkingConfig
from coat.data.manifest import Row, read_manifest
from coat.losses import response_cross_entropy
from coat.testing.qwen2_audio import make_qwen2_audio, train_tokenizer
from coat.thinking.batch import Batch
from coat.thinking.prompt import IGNORE, PromptBuilder
from coat.thinking.tokens import add_think_tokens
from coat.training.dataset import ManifestDataset, TrainingCollator
from coat.training.progress import ProgressBar
from coat.training.steps import StepTrainer
from coat.training.stock import TrainingArguments

TASKS = ("transcription", "instrument", "event", "background", "choice", "spoken_instruction", "text_only")
FRAMES_PER_TOKEN = 4
NUM_WORD_ROWS = 1600
CONTEXT_SHARE, MAX_CONTEXT_WORDS = 0.5, 80


class _Pretraining(nn.Module):
    """Backbone and a linear decoder from each projected audio embedding to its four mel frames."""

    def __init__(self, backbone: Qwen2Audio, spectrum_weight: float) -> None:
        super().__init__()
        self.backbone = backbone
        self.spectrum_weight = spectrum_weight
        mels = backbone.feature_extractor.feature_size
        self.decoder = nn.Linear(backbone.hidden_size, FRAMES_PER_TOKEN * mels)

    def forward(self, batch: Batch) -> torch.Tensor:
        features = batch.audio
        assert features is None or isinstance(features, AudioFeatures)
        audio = self.backbone.audio_embeddings(features) if features else []
        embeddings = self.backbone.input_embeddings(batch.input_ids, audio)
        hidden = self.backbone.hidden_states(embeddings, batch.attention_mask)
        predicts = batch.labels[:, 1:] != IGNORE
        logits = self.backbone.lm_head(hidden[:, :-1][predicts])
        loss = response_cross_entropy(logits, batch.labels[:, 1:][predicts]) / max(1, int(predicts.sum()))
        if features:
            loss = loss + self.spectrum_weight * self._spectrum_loss(audio, features.values)
        return loss

    def _spectrum_loss(self, audio: list[torch.Tensor], mel: torch.Tensor) -> torch.Tensor:
        rebuilt = pad_sequence([self.decoder(row) for row in audio], batch_first=True)
        frames = mel[..., : rebuilt.shape[1] * FRAMES_PER_TOKEN].transpose(1, 2).contiguous()
        wanted = frames.view(len(frames), -1, rebuilt.shape[-1])
        real = pad_sequence([torch.ones(len(row), 1) for row in audio], batch_first=True).to(rebuilt.device)
        return ((rebuilt - wanted).square() * real).sum() / (real.sum() * rebuilt.shape[-1])


class _Trainer(StepTrainer):
    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        return model(inputs)


def pretrain(
    corpus: Path,
    folder: Path,
    *,
    steps: int = 900,
    batch_size: int = 32,
    learning_rate: float = 2e-3,
    spectrum_weight: float = 10.0,
    blocks: float = 0.0,
    seed: int = 0,
    **sizes: Any,
) -> Path:
    """Make the tiny Qwen2-Audio of a corpus, or return it if it is there.

    Args:
        corpus: From :func:`coat.synthetic.corpus.build_corpus`.
        folder: Folder of the checkpoint; it appears whole or not at all.
        steps: Optimizer steps.
        batch_size: Rows a step.
        learning_rate: Peak, on a cosine.
        spectrum_weight: Weight of the spectrum term.
        blocks: Share of the rows that have a thinking block.
        seed: Seed of weights and order.
        **sizes: Sizes of the model, see :func:`make_qwen2_audio`.
    """
    if (folder / "config.json").is_file():
        return folder
    rows = read_manifest(corpus / "train.jsonl")
    texts = [str(message["content"]).replace("<audio>", "") for row in rows for message in row.messages]
    frame = (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nAudio 1: <|im_start|>assistant\n"
    )
    tokenizer = train_tokenizer([*texts, *[frame.replace("<|im_start|>", " ")] * 50])
    tokens = add_think_tokens(tokenizer) if blocks else None
    backbone = make_qwen2_audio(tokenizer, seed=seed, **sizes)
    shares = {0: 1 - blocks} | dict.fromkeys((1, 2, 4), blocks / 3)
    thinking = ThinkingConfig(mixed={stride: share for stride, share in shares.items() if share}) if blocks else PAPER
    builder = PromptBuilder(backbone, tokens, thinking)
    taught = _with_context([row for row in rows if row.task in TASKS], seed) + _words_of(rows, seed)
    _fit(builder, taught, folder, steps, batch_size, learning_rate, spectrum_weight, seed)
    partial = folder.with_name(folder.name + ".partial")
    backbone.eval().save_pretrained(str(partial))
    partial.rename(folder)
    return folder


def _with_context(rows: list[Row], seed: int) -> list[Row]:
    """Half of the questions about audio come after other sentences.

    So the language model finds the audio at any distance, as large ones do; one that has only seen short
    questions loses it behind a block of think tokens.
    """
    rng = np.random.default_rng([seed, 29])
    sentences = sorted({row.answer for row in rows if row.task == "transcription"})
    made = []
    for row in rows:
        question = row.messages[0]["content"]
        if row.audios and rng.random() < CONTEXT_SHARE:
            words = " ".join(rng.choice(sentences, 20)).split()[: rng.integers(1, MAX_CONTEXT_WORDS)]
            question = question.replace("<audio>", f"<audio>{' '.join(words)}. ", 1)
            row = replace(row, messages=[{"role": "user", "content": question}, *row.messages[1:]])
        made.append(row)
    return made


def _words_of(rows: list[Row], seed: int) -> list[Row]:
    """Text-only rows that repeat the wordings of the tasks that are not taught."""
    others = [row for row in rows if row.task not in TASKS]
    questions = sorted({row.messages[0]["content"].replace("<audio>", "") for row in others})
    answers = sorted({row.answer for row in others})
    short = [answer for answer in answers if len(answer.split()) <= 2]
    rng = np.random.default_rng([seed, 23])
    made = []
    for index in range(NUM_WORD_ROWS):
        kind = index % 4
        if kind == 0:
            text = str(rng.choice(questions))
        elif kind == 1:
            text = str(rng.choice(answers))
        else:
            text = " ".join(rng.choice(short, kind - 1))
        messages = [{"role": "user", "content": f"Repeat: {text}"}, {"role": "assistant", "content": text}]
        made.append(Row(f"words-{index}", messages, [], "text_only"))
    return made


def _fit(
    builder: PromptBuilder, rows: list[Row], folder: Path, steps: int, batch_size: int, learning_rate: float,
    spectrum_weight: float, seed: int,
) -> None:  # fmt: skip
    assert isinstance(builder.backbone, Qwen2Audio)
    trainer = _Trainer(
        _Pretraining(builder.backbone, spectrum_weight),
        args=TrainingArguments(
            output_dir=str(folder.with_name(folder.name + ".pretraining")),
            max_steps=steps,
            dataloader_num_workers=1,
            per_device_train_batch_size=batch_size,
            learning_rate=learning_rate,
            warmup_steps=round(0.05 * steps),
            lr_scheduler_type="cosine",
            weight_decay=0.01,
            logging_steps=25,
            save_strategy="no",
            seed=seed,
            remove_unused_columns=False,
            report_to=[],
            disable_tqdm=True,
        ),
        dataset=ManifestDataset(rows),
        lengths=torch.tensor([row.seconds for row in rows]),
        collator=TrainingCollator(builder, seed=seed),
        callbacks=[ProgressBar("pre-training the tiny backbone")],
    )
    trainer.train()


def main(given: Sequence[str] | None = None) -> None:
    """Pre-train on a corpus that is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=Path("runs/demo/corpus"))
    parser.add_argument("--out", type=Path, required=True, help="Folder of the checkpoint.")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--blocks", type=float, default=0.0, help="Share of the rows that have a thinking block.")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(given)
    pretrain(args.corpus, args.out, steps=args.steps, blocks=args.blocks, seed=args.seed)


if __name__ == "__main__":
    main()
