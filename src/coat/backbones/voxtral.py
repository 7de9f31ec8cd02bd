"""Voxtral (``mistralai/Voxtral-Mini-3B-2507``, ``mistralai/Voxtral-Small-24B-2507``)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from coat.backbones.features import AudioFeatures
from coat.backbones.processors import whole_windows
from coat.backbones.token_counts import FRAMES_PER_VOXTRAL_TOKEN
from coat.backbones.whisper import mel_frames
from coat.backbones.windows import WindowedBackbone
from coat.extras import need

TEKKEN = "tekken.json"


class Voxtral(WindowedBackbone):
    """Voxtral: Whisper's encoder, of which four states in a row are a token, and a Llama; up to 40 min.

    Clips are filled up with silence to whole windows of 30 s, and the language model is given all tokens of these. Only
    those that stand for sound count in the experts' losses.
    """

    family = "voxtral"
    hub_id = "mistralai/Voxtral-Mini-3B-2507"
    model_class = "VoxtralForConditionalGeneration"
    audio_token = "[AUDIO]"
    tower_over_tokens = 4
    whole_windows = True
    frames_per_token = FRAMES_PER_VOXTRAL_TOKEN
    middle_frame = 3  # of 8i, 8i + 2, 8i + 4 and 8i + 6
    max_audio_len = 2400.0

    @classmethod
    def load_tokenizer(cls, path: str) -> Any:
        """See :meth:`Backbone.load_tokenizer`; checkpoints have Mistral's own file, which transformers converts.

        Raises:
            CoatError: mistral-common, which reads the file, is not installed.
        """
        from transformers import AutoTokenizer
        from transformers.utils import cached_file

        def find(name: str) -> Any:
            return cached_file(path, name, _raise_exceptions_for_missing_entries=False)

        tekken = find(TEKKEN)
        if tekken is None or find("tokenizer.json") is not None:
            return AutoTokenizer.from_pretrained(path)
        need("voxtral")
        from transformers.integrations.mistral import convert_tekken_tokenizer

        return convert_tekken_tokenizer(tekken, chat_template=cls.default_template())

    @classmethod
    def default_template(cls) -> str:
        """Mistral's turns, of its tokenizers of version 7; checkpoints have none in Jinja."""
        return TEMPLATE

    def heard_tokens(self, num_samples: int) -> int:
        """See :meth:`Backbone.heard_tokens`."""
        return -(-mel_frames(self.feature_extractor, num_samples) // self.frames_per_token)

    def window_tokens(self, frames: int) -> int:
        """See :meth:`WhisperBackbone.window_tokens`: a window is whole, however little of it is sound."""
        return self.feature_extractor.nb_max_frames // self.frames_per_token

    def audio_features(self, waveforms: list[np.ndarray]) -> AudioFeatures:
        """Log-mel ``(W, mels, frames)`` of whole windows; a clip's range is that of all its windows together."""
        extractor = self.feature_extractor
        clips = [whole_windows(extractor, wave) for wave in waveforms]
        windows = torch.tensor([len(clip) for clip in clips])
        lengths = torch.full((int(windows.sum()),), extractor.nb_max_frames)
        counts = torch.tensor([self.num_audio_tokens(len(wave)) for wave in waveforms])
        return AudioFeatures(torch.from_numpy(np.concatenate(clips)), lengths, counts, windows)

    def encode_windows(self, features: AudioFeatures) -> list[Tensor]:
        """See :meth:`WhisperBackbone.encode_windows`."""
        states = self.audio_tower(features.values.to(self.device, self.dtype)).last_hidden_state
        return list(states.reshape(len(states), -1, self.audio_size))

    @property
    def audio_size(self) -> int:
        """See :attr:`Backbone.audio_size`."""
        return int(self.model.config.audio_config.intermediate_size)

    @property
    def assistant_header(self) -> str:
        """See :attr:`Backbone.assistant_header`: the answer follows the end of the question."""
        return "[/INST]"

    @property
    def end_of_turn(self) -> str:
        """See :attr:`Backbone.end_of_turn`."""
        return "</s>"

    @property
    def turn_tokens(self) -> tuple[str, str]:
        """See :attr:`Backbone.turn_tokens`."""
        return "[INST]", self.end_of_turn


TEMPLATE = """\
{{- bos_token }}
{%- set heard = namespace(audio=false) %}
{%- for message in messages if message['content'] is not string %}
    {%- for item in message['content'] if item['type'] in ('audio', 'input_audio', 'audio_url') %}
        {%- set heard.audio = true %}
    {%- endfor %}
{%- endfor %}
{%- for message in messages %}
    {%- if message['role'] == 'user' %}
        {{- '[INST]' }}
    {%- elif message['role'] == 'system' %}
        {%- if heard.audio %}
            {{- raise_exception('Voxtral takes no system prompt beside audio: say it in the question.') }}
        {%- endif %}
        {{- '[SYSTEM_PROMPT]' }}
    {%- elif message['role'] != 'assistant' %}
        {{- raise_exception('Roles are system, user and assistant, not ' ~ message['role'] ~ '.') }}
    {%- endif %}
    {%- if message['content'] is string %}
        {{- message['content'].rstrip(' ') if message['role'] == 'assistant' else message['content'] }}
    {%- else %}
        {%- for item in message['content'] %}
            {%- if item['type'] == 'text' %}
                {{- item['text'] }}
            {%- elif item['type'] in ('audio', 'input_audio', 'audio_url') %}
                {{- '[BEGIN_AUDIO][AUDIO]' }}
            {%- else %}
                {{- raise_exception('Content is text or audio, not ' ~ item['type'] ~ '.') }}
            {%- endif %}
        {%- endfor %}
    {%- endif %}
    {{- {'user': '[/INST]', 'system': '[/SYSTEM_PROMPT]', 'assistant': eos_token}[message['role']] }}
{%- endfor %}
"""
