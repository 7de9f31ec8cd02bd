"""Compare an expert with its upstream module on the same weights, and write the reference for the tests.

    python -m tests.experts.parity spidr --upstream path/to/spidr [--write]
    python -m tests.experts.parity panns --upstream path/to/audioset_tagging_cnn        # pip install torchlibrosa
    python -m tests.experts.parity emotion2vec --upstream path/to/FunASR                # pip install omegaconf
    python -m tests.experts.parity resemblyzer --upstream path/to/Resemblyzer    # pip install librosa webrtcvad-wheels

Official and tiny sizes, sounds of several lengths, silence, a chirp, a click. Run by a maintainer when a port or its
upstream changes; upstream code is never committed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import types
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from coat.experts import expert_class
from tests.experts.references import seeded_state, sounds, write


def main() -> None:
    """Compare, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("expert", choices=sorted(UPSTREAM))
    parser.add_argument("--upstream", type=Path, required=True)
    parser.add_argument("--write", action="store_true", help="write tests/experts/references from the tiny size")
    args = parser.parse_args()
    commit = version_of(args.upstream)
    cls = expert_class(args.expert)
    for kind in ("tiny", "official"):
        module, run = UPSTREAM[args.expert](args.upstream, cls.random_sizes(kind))
        shapes = {name: tuple(value.shape) for name, value in module.state_dict().items()}
        state = seeded_state(shapes)
        module.load_state_dict(state)
        module.eval()
        mine = load(cls, state)
        waves = sounds(mine.sampling_rate)
        with torch.inference_mode():
            theirs = [run(module, wave) for wave in waves]
        worst = max(difference(mine, wave, expected) for wave, expected in zip(waves, theirs, strict=True))
        scale = max(float(value.abs().max()) for value in theirs)
        print(f"{args.expert} {kind}: largest difference {worst:.2e}, features up to {scale:.2f}, upstream {commit}")
        assert worst < 1e-4 * max(1.0, scale)
        if kind == "tiny" and args.write:
            write(args.expert, commit, shapes, theirs)


def version_of(upstream: Path) -> str:
    """The commit of a checkout, or the release of an unpacked wheel."""
    for path in upstream.glob("*.dist-info"):
        return path.name.removesuffix(".dist-info")
    head = ["git", "-C", str(upstream), "rev-parse", "HEAD"]
    return subprocess.run(head, capture_output=True, text=True, check=True).stdout.strip()


def load(cls: type, state: dict) -> object:
    """Our expert with upstream's weights, through the code that users come through."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "upstream.safetensors"
        save_file({k: v.contiguous() for k, v in cls.convert(state).items()}, path)
        from safetensors.torch import load_file

        weights = load_file(path)
    expert = cls(weights="random", sizes="tiny")
    expert.build(cls.sizes_of(weights))
    expert.load_state_dict(weights)
    return expert.freeze()


def difference(expert: object, wave: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest absolute difference of one clip's features."""
    with torch.inference_mode():
        features, frames = expert.features(wave[None], torch.tensor([len(wave)]))
    assert features.shape[1:] == expected.shape, (features.shape, expected.shape)
    assert int(frames[0]) == len(expected)
    return float((features[0] - expected).abs().max())


def spidr(checkout: Path, sizes: object) -> tuple:
    """The whole model; features are its student's output."""
    sys.path.insert(0, str(checkout / "src"))
    from spidr.config import SpidRConfig
    from spidr.models.spidr import SpidR

    config = SpidRConfig(
        encoder_embed_dim=sizes.width, encoder_num_layers=sizes.layers, encoder_num_heads=sizes.heads,
        encoder_ff_interm_features=sizes.inner, num_codebooks=min(8, sizes.layers), codebook_size=16,
    )  # fmt: skip

    def run(model: torch.nn.Module, wave: torch.Tensor) -> torch.Tensor:
        standardised = F.layer_norm(wave, wave.shape)[None]
        return model.student(model.feature_projection(model.feature_extractor(standardised)))[0]

    return SpidR(config), run


def panns(checkout: Path, sizes: tuple) -> tuple:
    """CNN14; features are what its classifier is given."""
    sys.path[:0] = [str(checkout / "pytorch"), str(checkout / "utils")]
    import models

    *widths, classes = sizes
    model = models.Cnn14_DecisionLevelMax(32_000, 1024, 320, 64, 50, 14_000, classes)
    for index, (before, width) in enumerate(zip([1, *widths], widths, strict=False), 1):
        setattr(model, f"conv_block{index}", models.ConvBlock(before, width))
    model.fc1 = torch.nn.Linear(widths[-1], widths[-1])
    model.fc_audioset = torch.nn.Linear(widths[-1], classes)
    tables = {k: v.clone() for k, v in model.state_dict().items() if "extractor" in k}

    def run(model: torch.nn.Module, wave: torch.Tensor) -> torch.Tensor:
        model.load_state_dict(tables, strict=False)  # the transform is no weight
        heard = {}
        hook = model.fc_audioset.register_forward_pre_hook(lambda module, inputs: heard.update(x=inputs[0].clone()))
        model(wave[None])
        hook.remove()
        return heard["x"][0]

    return model, run


def emotion2vec(checkout: Path, sizes: object) -> tuple:
    """FunASR's copy of the model, which needs no fairseq; only its own files are imported."""
    for name in ("funasr", "funasr.models", "funasr.models.emotion2vec", "funasr.utils"):
        package = types.ModuleType(name)
        package.__path__ = [str(checkout / name.replace(".", "/"))]
        sys.modules[name] = package
    loading = types.ModuleType("funasr.utils.load_utils")  # decodes files, which is not done here
    loading.load_audio_text_image_video = None
    sys.modules["funasr.utils.load_utils"] = loading
    from funasr.models.emotion2vec.model import Emotion2vec
    from omegaconf import OmegaConf

    config = OmegaConf.load(checkout / "funasr/models/emotion2vec/template.yaml").model_conf
    config.update(embed_dim=sizes.width, num_heads=sizes.heads, depth=sizes.layers, mlp_ratio=sizes.inner / sizes.width)
    audio = config.modalities.audio
    audio.update(
        prenet_depth=sizes.context_layers, num_extra_tokens=sizes.extra_tokens, num_alibi_heads=sizes.heads,
        model_depth=sizes.layers,
    )  # fmt: skip
    model = Emotion2vec(model_conf=OmegaConf.to_container(config), vocab_size=9)

    def run(model: torch.nn.Module, wave: torch.Tensor) -> torch.Tensor:
        source = F.layer_norm(wave, wave.shape)[None]
        return model.extract_features(source, padding_mask=None)["x"][0]

    return model, run


def resemblyzer(checkout: Path, sizes: tuple) -> tuple:
    """The speaker encoder over windows of 1.6 s around each quarter of a second."""
    sys.path.insert(0, str(checkout))
    from resemblyzer import audio, voice_encoder

    voice_encoder.model_hidden_size, voice_encoder.model_num_layers, voice_encoder.model_embedding_size = sizes
    whole = torch.load
    torch.load = lambda *_, **__: {"model_state": {}}  # its own weights, of its own size, are not wanted
    model = voice_encoder.VoiceEncoder("cpu", verbose=False)
    torch.load = whole

    def run(model: torch.nn.Module, wave: torch.Tensor) -> torch.Tensor:
        samples = audio.normalize_volume(wave.numpy(), -30, increase_only=True) if wave.any() else wave.numpy()
        mel = audio.wav_to_mel_spectrogram(np.pad(samples, 80 * 160).astype(np.float32))
        count = len(wave) // 4000 + 1
        return model(torch.from_numpy(np.stack([mel[25 * i : 25 * i + 160] for i in range(count)])))

    return model, run


UPSTREAM = {"spidr": spidr, "panns": panns, "emotion2vec": emotion2vec, "resemblyzer": resemblyzer}

if __name__ == "__main__":
    main()
