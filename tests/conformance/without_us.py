"""For a Python that can import neither this package nor Mistral's: asks exports by transformers alone."""

import sys

sys.modules["coat"] = sys.modules["mistral_common"] = None  # as if they were not installed

import torch  # noqa: E402
import transformers  # noqa: E402
from transformers import AutoProcessor, GenerationMixin  # noqa: E402, F401  # before the forks, and not in each

torch.set_num_threads(1)


def answer(here, clip, name, suppressed):
    processor = AutoProcessor.from_pretrained(here, trust_remote_code=True)
    model = getattr(transformers, name).from_pretrained(here)
    content = [{"type": "audio", "audio": clip}, {"type": "text", "text": "What is said?"}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=True, return_dict=True,
        processor_kwargs={"return_tensors": "pt"},
    )  # fmt: skip
    ids = model.generate(**inputs, max_new_tokens=12, do_sample=False, suppress_tokens=suppressed)
    return processor.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)[0]
