"""Conformance tests of forward and backward passes."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from coat.backbones import load_backbone
from coat.config.thinking import ThinkingConfig
from coat.generation import generate
from coat.heads import make_head
from coat.losses import response_cross_entropy
from coat.testing.clips import RATE, conversation
from coat.thinking.batch import make_batch
from coat.thinking.model import ThinkingModel


def trainable(backbone):
    """With an adapter that does something and a head."""
    model = ThinkingModel(backbone)
    model.add_lora(rank=4, alpha=8)
    model.heads["probe"] = make_head("transformer", backbone.hidden_size, 12, num_heads=2)
    generator = torch.Generator().manual_seed(0)
    for name, p in model.trainable().items():
        if "lora_B" in name or "trainable_tokens" in name:
            with torch.no_grad():
                p.copy_(torch.randn(p.shape, generator=generator) * 0.05)
    return model


def questions(backbone):
    pair = [conversation(0.3, 0.9, answer=None, seed=3)] if backbone.max_clips is None else []
    return [
        conversation(0.5, answer=None),
        conversation(2.3, text="Describe the audio.", answer=None, seed=2),
        conversation(text="hello", answer=None),
        *pair,
    ]


def tables_of(backbone):
    """Names of the modules that hold a row for each token."""
    names = [name for name, _ in backbone.model.named_modules() if name.endswith(tuple(backbone.token_tables))]
    return [name for name in names if hasattr(backbone.model.get_submodule(name), "weight")]


def training_batch(model):
    return make_batch(model.builder, [conversation(0.5), conversation(1.7, seed=2), conversation(text="hello")])


def gradients(model, batch):
    model.zero_grad()
    output = model(batch)
    loss = response_cross_entropy(output.response_logits, output.response_labels)
    (loss + output.predictions["probe"].float().square().mean()).backward()
    return torch.cat([p.grad.float().flatten() for p in model.trainable().values()])


def saved_and_merged(model, batch, folder, tolerance):
    """Saved as an adapter, loaded onto the base, merged, saved whole and loaded again, a model says the same."""
    expected = model.eval()(batch).response_logits
    model.save_adapter(str(folder / "adapter"))
    family, source = model.backbone.family, model.backbone.model.config._name_or_path
    adapted = ThinkingModel(load_backbone(family, source))
    adapted.load_adapter(str(folder / "adapter"))
    torch.testing.assert_close(adapted.eval()(batch).response_logits, expected)
    adapted.merge_adapter()
    torch.testing.assert_close(adapted(batch).response_logits, expected, atol=tolerance, rtol=tolerance)
    adapted.backbone.save_pretrained(str(folder / "merged"))
    again = ThinkingModel(load_backbone(family, str(folder / "merged"))).eval()
    torch.testing.assert_close(again(batch).response_logits, expected, atol=tolerance, rtol=tolerance)


class Passes:
    """Passes: batches, gradients, saved weights."""

    def test_left_padded_batches_answer_as_each_question_does_alone(self, loaded):
        model = trainable(loaded).eval()
        items = questions(loaded)
        hidden, _ = model.prefill_states(make_batch(model.builder, items, padding_side="left"))
        together = generate(model, items, max_new_tokens=12)
        for row, item in enumerate(items):
            alone, _ = model.prefill_states(make_batch(model.builder, [item], padding_side="left"))
            torch.testing.assert_close(
                loaded.logits(hidden[row, -1]), loaded.logits(alone[0, -1]), atol=1e-4, rtol=1e-4
            )
            assert generate(model, [item], max_new_tokens=12) == [together[row]]

    def test_think_tokens_may_stand_at_their_audio(self, loaded):
        """Together and alone, token by token and in one pass: the same answers, from the same positions."""
        model = ThinkingModel(loaded, ThinkingConfig(positions="audio", stride=2)).eval()
        items, count = questions(loaded), 6
        together = generate(model, items, max_new_tokens=count)
        assert together == [generate(model, [item], max_new_tokens=count)[0] for item in items]
        batch = make_batch(model.builder, items, padding_side="left")
        prefill = model.prepare_prefill(batch)
        with torch.inference_mode():
            new = loaded.generate(**prefill, max_new_tokens=count, do_sample=False)
            count = new.shape[1]
            after = batch.position_ids[:, -1:] + torch.arange(1, count)
            hidden = loaded.hidden_states(
                torch.cat([prefill["embeddings"], loaded.embedding(new[:, :-1])], 1),
                nn.functional.pad(batch.attention_mask, (0, count - 1), value=1),
                torch.cat([batch.position_ids, after], 1),
                **loaded.token_inputs(torch.cat([batch.input_ids, new[:, :-1]], 1)),
            )
        choices = loaded.lm_head(hidden[:, -count:]).argmax(-1)
        for row, choice in zip(new.tolist(), choices.tolist(), strict=True):
            end = next((place for place, token in enumerate(row) if token in loaded.end_ids), count)
            assert row[: end + 1] == choice[: end + 1]
        shown = model(batch).think_hidden
        moved = model(replace(batch, position_ids=None)).think_hidden
        assert (shown - moved).abs().max() > 1e-3, "positions are heard"

    def test_think_states_are_what_lm_head_sees(self, loaded):
        """In the stock model's own forward, given what the stock model would embed."""
        model = trainable(loaded).eval()
        batch = training_batch(model)
        output = model(batch)
        mask = batch.attention_mask
        stock = loaded.model(
            inputs_embeds=model.prepare_prefill(batch)["embeddings"],
            attention_mask=mask,
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
            output_hidden_states=True,
            **loaded.token_inputs(batch.input_ids),
        )
        where = batch.input_ids == model.tokens.think
        lengths = batch.think_lengths.tolist()
        shown = torch.cat([rows[:length] for rows, length in zip(output.think_hidden, lengths, strict=True)])
        torch.testing.assert_close(shown, stock.hidden_states[-1][where], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(loaded.logits(shown), stock.logits[where], atol=1e-4, rtol=1e-4)

    def test_losses_compare_what_stands_for_sound(self, loaded):
        """Some families fill clips up with silence, whose think tokens no expert has anything to say of."""
        model = trainable(loaded).eval()
        batch = training_batch(model)
        heard = [loaded.heard_tokens(round(seconds * RATE)) for seconds in (0.5, 1.7)]
        assert model(batch).think_mask.sum(-1).tolist() == heard == list(batch.heard_lengths)
        assert batch.num_think_tokens == sum(heard)

    def test_gradients_reach_lora_three_rows_and_heads_alone(self, loaded):
        model = trainable(loaded)
        gradients(model, training_batch(model))
        reached = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
        assert reached == set(model.trainable())
        rows = [p for name, p in model.named_parameters() if "trainable_tokens_delta" in name]
        sizes = [loaded.model.get_submodule(name).weight.shape[1] for name in tables_of(loaded)]
        assert [tuple(p.shape) for p in rows] == [(3, size) for size in sizes]
        assert all("lora_" in name or "trainable_tokens" in name or name.startswith("heads.") for name in reached)
        tower = {id(p) for p in loaded.audio_tower.parameters()}
        assert not tower & {id(p) for p in model.trainable().values()}

    def test_gradient_checkpointing_changes_no_gradient(self, loaded):
        model = trainable(loaded)
        batch = training_batch(model)
        plain = gradients(model, batch)
        loaded.language_model.train()
        loaded.language_model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        calls = []
        loaded.language_model.layers[0].self_attn.register_forward_hook(lambda *_: calls.append(1))
        again = gradients(model, batch)
        assert len(calls) == 2  # forward, and once more in the backward pass
        torch.testing.assert_close(again, plain, atol=1e-6, rtol=1e-4)

    def test_bf16_gradients_point_the_same_way(self, loaded):
        """Rounding to eight bits: direction within 3 %, length within 10 %."""
        model = trainable(loaded)
        batch = training_batch(model)
        full = gradients(model, batch)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = gradients(model, batch)
        assert torch.cosine_similarity(full, half, dim=0) > 0.97
        assert float(half.norm() / full.norm()) == pytest.approx(1, abs=0.1)

    def test_what_is_trained_is_in_full_precision_and_reads_a_backbone_in_half(self, loaded):
        """Outside autocast, as calibration does: projector and tower's adapter in float32, the rest in bfloat16."""
        model = ThinkingModel(loaded).eval()
        batch = training_batch(model)
        with torch.no_grad():
            full = torch.cat(model.audio_embeddings(batch))
            loaded.model.bfloat16()
            model.add_lora(rank=2, alpha=4, audio_tower=True, projector=True)
            half = torch.cat(model.audio_embeddings(batch))
        assert {parameter.dtype for parameter in model.trainable().values()} == {torch.float32}
        assert half.dtype == torch.bfloat16
        assert torch.cosine_similarity(full.flatten(), half.float().flatten(), dim=0) > 0.99

    def test_saved_merged_and_reloaded_weights_give_the_same_logits(self, loaded, tmp_path):
        model = trainable(loaded).eval()
        batch = training_batch(model)
        saved_and_merged(model, batch, tmp_path, 1e-5)

    def test_think_tokens_are_never_generated(self, loaded):
        """Even by a model that wants nothing else."""
        model = ThinkingModel(loaded).eval()
        with torch.no_grad():
            loaded.lm_head.weight[list(model.tokens.ids)] = 50 * loaded.lm_head.weight.abs().amax()
        items = questions(loaded)[:2]
        assert not any("audio_think" in answer for answer in generate(model, items, max_new_tokens=8))

    def test_generation_asks_for_one_position_s_logits_a_row(self, loaded):
        """Not for the whole prompt's, which the block makes longer."""
        model = ThinkingModel(loaded).eval()
        shapes = []
        hook = loaded.lm_head.register_forward_hook(lambda module, inputs, output: shapes.append(output.shape[:2]))
        generate(model, questions(loaded)[:2], max_new_tokens=3)
        hook.remove()
        assert set(shapes) == {(2, 1)}

    def test_lora_stays_in_the_language_model(self, loaded):
        model = ThinkingModel(loaded)
        names = model.add_lora(rank=2, alpha=4)
        inside = {id(module) for module in loaded.language_model.modules()}
        assert names
        assert all(id(loaded.model.get_submodule(name)) in inside for name in names)
        assert all(isinstance(loaded.model.get_submodule(name).base_layer, nn.Linear) for name in names)

    def test_projector_and_tower_are_trained_where_a_recipe_says_so(self, loaded, tmp_path):
        """Gradients reach them, and what is saved, loaded and merged has them."""
        model = ThinkingModel(loaded)
        names = model.add_lora(rank=2, alpha=4, audio_tower=True, projector=True)
        tower = {id(module) for module in loaded.audio_tower.modules()}
        assert {id(loaded.model.get_submodule(name)) in tower for name in names} == {True, False}
        batch = training_batch(model)
        model(batch).response_logits.square().mean().backward()
        parts = {model.part_of(name) for name, weight in model.trainable().items() if weight.grad is not None}
        assert parts == {"projector", "audio_tower", "language_model", None}
        with torch.no_grad():
            for index, (name, weight) in enumerate(sorted(model.trainable().items())):
                noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(index))
                weight.add_(0.02 * noise if model.part_of(name) else 0.0)
        saved_and_merged(model, batch, tmp_path, 1e-4)

    @pytest.mark.parametrize("parts", [{}, {"audio_tower": True, "projector": True}], ids=["lora", "all parts"])
    def test_shapes_of_an_adapter_are_those_of_its_file(self, loaded, tmp_path, parts):
        """By which a run that starts from it sees whether it fits."""
        model = ThinkingModel(loaded)
        model.add_lora(rank=2, alpha=4, **parts)
        model.save_adapter(str(tmp_path))
        saved = load_file(tmp_path / "adapter_model.safetensors")
        assert model.adapter_shapes() == {name: tuple(value.shape) for name, value in saved.items()}

    def test_the_projector_alone_is_trained_beside_a_frozen_language_model(self, loaded):
        model = ThinkingModel(loaded)
        assert model.add_lora(rank=2, alpha=4, language_model=False, projector=True) == []
        assert {model.part_of(name) for name in model.trainable()} == {"projector", None}
