"""Steps on a model that two processes hold in shards (FSDP2), against one that is whole.

Run in processes of one group, with a recipe and a folder as arguments. Prints ``equal`` if all is.
"""

import faulthandler
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch.distributed.fsdp import fully_shard

from coat.checkpoints.building import adapt, add_heads, build_experts, build_model, feature_dims
from coat.checkpoints.weights import load_weights, save_weights
from coat.config.reading import load_recipe
from coat.data.manifest import read_manifest
from coat.losses import response_cross_entropy
from coat.training.dataset import TrainingCollator


def build(recipe):
    torch.manual_seed(0)
    model = build_model(recipe)
    adapt(model, recipe)
    add_heads(model, feature_dims(build_experts(recipe, model)), recipe)
    return model.train()


def step(model, collate, rows, world):
    """One plain descent step over all processes' rows; text alone on one of them."""
    names = ["audio_reconstruction"]
    for batch in collate.batches(rows):
        output = model(batch, names, whole_path=True)
        loss = response_cross_entropy(output.response_logits, output.response_labels) * world
        if output.idle is not None:
            loss = loss + output.idle
        else:
            loss = loss + output.predictions[names[0]].square().sum() * world
        loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= 1e-3 * parameter.grad
                parameter.grad = None


def main():
    faulthandler.dump_traceback_later(120, exit=True)  # processes that wait for each other would wait for ever
    recipe, folder = load_recipe(sys.argv[1]), Path(sys.argv[2])
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    rows = read_manifest(recipe.data.train_dataset)
    shares = [[next(row for row in rows if row.audios)], [next(row for row in rows if not row.audios)]]
    model = build(recipe)
    for layer in [*model.backbone.language_model.layers, *model.backbone.audio_tower.layers, *model.heads.values()]:
        fully_shard(layer)
    fully_shard(model)
    collate = TrainingCollator(model.builder, idle_audio=True)
    for _ in range(2):
        step(model, collate, shares[rank], world)
    save_weights(model, folder / "shards", writes=rank == 0)
    dist.barrier()
    with torch.no_grad():  # as a resumed run and the best weights of a stage are loaded: whole, into shards
        for parameter in model.trainable().values():
            parameter.zero_()
    load_weights(model, folder / "shards", trainable=True)
    save_weights(model, folder / "again", writes=rank == 0)
    dist.barrier()
    if rank == 0:
        for name in ("heads.safetensors", "adapter/adapter_model.safetensors"):
            before, after = (load_file(folder / part / name) for part in ("shards", "again"))
            assert before.keys() == after.keys()
            assert all(torch.equal(value, after[key]) for key, value in before.items())
        whole = build(recipe)
        for _ in range(2):
            step(whole, TrainingCollator(whole.builder), shares[0] + shares[1], 1)
        save_weights(whole, folder / "whole")
        for name in ("heads.safetensors", "adapter/adapter_model.safetensors"):
            ours, theirs = (load_file(folder / part / name) for part in ("shards", "whole"))
            assert ours.keys() == theirs.keys()
            for key, value in ours.items():
                torch.testing.assert_close(value, theirs[key], rtol=1e-3, atol=1e-5)
        sys.stdout.write("equal\n")
    dist.barrier()
    dist.destroy_process_group()
