"""Training corpora: one file each says where it lives, on what terms, and how its rows become questions and answers."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from coat.errors import CoatError, did_you_mean

if TYPE_CHECKING:
    from coat.data.sources.base import Corpus

# One line a corpus: the paper's in the order of Table C, then recordings that system packages hold.
REGISTRY = {
    "librispeech": "coat.data.sources.librispeech:LibriSpeech",
    "gigaspeech": "coat.data.sources.gigaspeech:GigaSpeech",
    "common_voice": "coat.data.sources.common_voice:CommonVoice",
    "voxpopuli": "coat.data.sources.voxpopuli:VoxPopuli",
    "switchboard": "coat.data.sources.switchboard:Switchboard",
    "spgispeech": "coat.data.sources.spgispeech:SpgiSpeech",
    "audiocaps_qa": "coat.data.sources.audiocaps:AudioCapsQA",
    "clotho_aqa": "coat.data.sources.clotho:ClothoAQA",
    "librisqa": "coat.data.sources.librisqa:LibriSQA",
    "iemocap_qa": "coat.data.sources.iemocap:IemocapQA",
    "audiocaps": "coat.data.sources.audiocaps:AudioCaps",
    "clotho": "coat.data.sources.clotho:Clotho",
    "meld": "coat.data.sources.meld:Meld",
    "iemocap": "coat.data.sources.iemocap:Iemocap",
    "librisqa_choice": "coat.data.sources.librisqa:LibriSQAChoice",
    "musicbench": "coat.data.sources.musicbench:MusicBench",
    "gsqa": "coat.data.sources.gsqa:Gsqa",
    "wildjailbreak": "coat.data.sources.wildjailbreak:WildJailbreak",
    "asterisk_prompts": "coat.data.sources.asterisk_prompts:AsteriskPrompts",
    "tuxpaint_stamps": "coat.data.sources.tuxpaint_stamps:TuxpaintStamps",
}


def corpus(name: str) -> Corpus:
    """A corpus by name.

    Raises:
        CoatError: None has that name.
    """
    if name not in REGISTRY:
        raise CoatError(f"There is no corpus '{name}'.", did_you_mean(name, list(REGISTRY)))
    module, attribute = REGISTRY[name].split(":")
    return getattr(import_module(module), attribute)()
