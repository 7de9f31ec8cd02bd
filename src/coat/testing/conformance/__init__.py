"""The conformance suite: subclass it, and pytest holds your expert or backbone to what ours are held to.

See ``docs/add-an-expert.md`` and ``docs/add-a-backbone.md``. It needs pytest.
"""

from coat.testing.conformance.backbones import BackboneConformance
from coat.testing.conformance.experts import AUDIO_SPEC, ExpertConformance

__all__ = ["AUDIO_SPEC", "BackboneConformance", "ExpertConformance"]
