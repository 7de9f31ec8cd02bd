"""The model card of an export."""

from __future__ import annotations

import json
from pathlib import Path

from coat.config.recipe import Recipe
from coat.config.thinking import ThinkingConfig
from coat.experts import expert_class
from coat.export.agreement import Agreement
from coat.thinking.model import ThinkingModel
from coat.versions import VERSION

BLOCK = (
    "After audio and question stands a block of think tokens, one for each audio token, consumed in the same "
    "prefill ([CoAT](https://arxiv.org/abs/2606.18273)). No decoding step is added; the prefill and the "
    "cache are longer by the block, and so each later token reads a little more. The processor in this "
    "folder writes the block; a prompt without it is not what the model was trained on."
)
PLAIN = "Fine-tuned without a thinking block: the processor in this folder writes none."


def model_card(
    recipe: Recipe, model: ThinkingModel, source: str, run: Path, agreement: Agreement | None, *, adapter_only: bool
) -> str:
    """Markdown with what the hub reads in its header, how to use the checkpoint, and how it was made.

    Args:
        recipe: The run's.
        model: The run's.
        source: The base, hub id or folder.
        run: The run's folder, for its last metrics.
        agreement: With the run, if it was compared.
        adapter_only: The folder holds no base weights.
    """
    stages = "\n".join(
        f"| {stage.name} | {stage.steps} | {stage.learning_rate:g} | {_experts(stage.experts)} |"
        for stage in recipe.stages
    )
    name = model.backbone.hub_id if Path(source).is_dir() else source
    title = " with Continuous Audio Thinking" if model.thinking.enabled else ", fine-tuned"
    base = "Base: a local checkpoint" if Path(source).is_dir() else f"Base `{source}`"
    checked = (
        f"Read back after writing: logits of a probe clip within {agreement.unmerged:.2g} of the run's "
        f"(largest {agreement.scale:.3g}).\n\n"
        if agreement
        else ""
    )
    return (
        _header(source, adapter_only) + f"# {name.rpartition('/')[2]}{title}\n\n"
        f"{BLOCK if model.thinking.enabled else PLAIN}\n\n"
        f"{_usage(model, source, adapter_only)}"
        "## How it was made\n\n"
        f"{base}, family `{recipe.backbone.family}`, placement `{recipe.thinking.placement}`, "
        f"{_stride(model.thinking)}, LoRA rank {recipe.lora.rank} (alpha {recipe.lora.alpha}), batch "
        f"{recipe.training.batch_size}, seed {recipe.training.seed}, coat {VERSION}. "
        "The whole recipe is in `recipe.yaml`.\n\n"
        f"| stage | steps | learning rate | experts |\n| --- | --- | --- | --- |\n{stages}\n\n"
        f"{_last_metrics(run)}{_licences(recipe)}{checked}"
    )


def _header(source: str, adapter_only: bool) -> str:
    base = "" if Path(source).is_dir() else f"base_model: {source}\n"
    library = "peft" if adapter_only else "transformers"
    return f"---\n{base}library_name: {library}\npipeline_tag: audio-text-to-text\ntags: [coat, audio]\n---\n\n"


def _usage(model: ThinkingModel, source: str, adapter_only: bool) -> str:
    load = f"model = transformers.{model.backbone.model_class}.from_pretrained(here)\n"
    if adapter_only:
        base = "BASE" if Path(source).is_dir() else source
        load = (
            f'model = transformers.{model.backbone.model_class}.from_pretrained("{base}")\n'
            "if len(processor.tokenizer) > model.get_input_embeddings().num_embeddings:\n"
            "    model.resize_token_embeddings(len(processor.tokenizer))\n"
            "model = peft.PeftModel.from_pretrained(model, here)\n"
        )
    serve = "" if adapter_only else "```bash\ncoat serve DIR      # vLLM where it is installed\n```\n\n"
    imports = "import peft\nimport transformers\n" if adapter_only else "import transformers\n"
    return (
        f"## Use it\n\n{serve}```python\n{imports}\n"
        'here = "."  # this folder or repository\n'
        "# with the package installed, `from coat import CoatProcessor` in place of trust_remote_code\n"
        "processor = transformers.AutoProcessor.from_pretrained(here, trust_remote_code=True)\n"
        f"{load}"
        'content = [{"type": "audio", "audio": "clip.wav"}, {"type": "text", "text": "What is heard?"}]\n'
        "inputs = processor.apply_chat_template(\n"
        '    [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=True, return_dict=True,\n'
        '    processor_kwargs={"return_tensors": "pt"},\n'
        ").to(model.device)\n"
        f"ids = model.generate(**inputs, max_new_tokens=256, do_sample=False, "
        f"suppress_tokens={list(model.tokens.ids)})\n"
        'print(processor.batch_decode(ids[:, inputs["input_ids"].shape[1]:], skip_special_tokens=True)[0])\n'
        "```\n\n"
    )


def _stride(thinking: ThinkingConfig) -> str:
    most = "" if thinking.max_tokens is None else f", at most {thinking.max_tokens} think tokens a clip"
    return f"stride {thinking.stride}{most}"


def _experts(experts: dict) -> str:
    return ", ".join(f"{name} ({weight})" for name, weight in experts.items()) or "none"


def _last_metrics(run: Path) -> str:
    path = run / "metrics.jsonl"
    if not path.is_file():
        return ""
    last: dict[str, dict] = {}
    for line in path.read_text().splitlines():
        row = json.loads(line)
        last[row["stage"]] = {**last.get(row["stage"], {}), **row}
    losses = sorted({name for row in last.values() for name in row if name.startswith("loss")})
    table = "\n".join(
        f"| {stage} | " + " | ".join(f"{row[name]:.3f}" if name in row else "" for name in losses) + " |"
        for stage, row in last.items()
    )
    head = f"| stage | {' | '.join(losses)} |\n|{' --- |' * (len(losses) + 1)}\n"
    return f"Last training losses:\n\n{head}{table}\n\n" if losses else ""


def _licences(recipe: Recipe) -> str:
    names = recipe.active_experts()
    if not names:
        return ""
    lines = "\n".join(
        f"- {name}: {expert_class(recipe.experts.get(name, {}).get('kind', name)).licence}" for name in names
    )
    return f"Experts it learned from, and the licences of their weights:\n\n{lines}\n\n"
