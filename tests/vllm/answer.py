"""Run by vLLM's environment: answer the questions of :mod:`reference` and write what came out."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np

from vllm import LLM, SamplingParams


def spoken(folder: Path, messages: list[dict]) -> list[dict]:
    """Messages as the OpenAI API has them."""

    def part(item: dict) -> dict:
        if item["type"] != "audio":
            return item
        data = base64.b64encode((folder / item["audio"]).read_bytes()).decode()
        return {"type": "audio_url", "audio_url": {"url": f"data:audio/wav;base64,{data}"}}

    return [
        m if isinstance(m["content"], str) else {**m, "content": [part(item) for item in m["content"]]}
        for m in messages
    ]


def main(reference: str, name: str, mode: str, out: str) -> None:
    """Ask an export by name: ``one`` by one with prefix caching, or in one ``batch`` without."""
    folder = Path(reference)
    llm = LLM(
        str(folder / "exports" / name), dtype="float32", enforce_eager=True, max_model_len=4096,
        max_logprobs=-1, enable_prefix_caching=mode == "one",
    )  # fmt: skip
    answer(llm, folder, name, mode, Path(out))


def answer(llm: LLM, folder: Path, name: str, mode: str, out: Path) -> None:
    """Ask one export, and keep prompts, answers and log-probabilities."""
    rows = json.loads((folder / f"{name}.json").read_text())
    # Tokens are compared, not their texts: to spell a whole vocabulary at each step takes longer than to compute it.
    params = SamplingParams(temperature=0, max_tokens=rows[0]["max_tokens"], logprobs=-1, detokenize=False)
    if mode == "batch":
        rows = [row for row in rows if not row["options"]]
        answers = llm.chat([spoken(folder, row["messages"]) for row in rows], params, use_tqdm=False)
    else:
        answers = [
            llm.chat(
                spoken(folder, row["messages"]), params, use_tqdm=False,
                mm_processor_kwargs=row["options"] or None,
            )[0]
            for row in rows
        ]  # fmt: skip
    told, logprobs = {}, {}
    for row, answered in zip(rows, answers, strict=True):
        made = answered.outputs[0]
        told[row["key"]] = {"prompt": answered.prompt_token_ids, "answer": list(made.token_ids)}
        table = np.full((len(made.logprobs), max(map(max, made.logprobs)) + 1), -np.inf)
        for step, choices in enumerate(made.logprobs):
            for token, choice in choices.items():
                table[step, token] = choice.logprob
        logprobs[row["key"]] = table
    np.savez(f"{out}.npz", **logprobs)
    Path(f"{out}.json").write_text(json.dumps(told))
