"""Where weights go."""

import torch

from coat.checkpoints.devices import default_device
from coat.features.store import FeatureStore


def test_a_build_for_gpus_on_a_machine_without_one_computes_on_the_processor(backbone, tmp_path, monkeypatch):
    """PyTorch names the accelerator that it was built for, whether there is one or not."""
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda *_: torch.device("cuda"))
    assert default_device() == torch.device("cpu")
    assert FeatureStore(tmp_path, backbone, {}).device == torch.device("cpu")
