"""Run as a process that cannot import this package: asks exports by transformers alone, each in a fork of its own.

A line of JSON on its input asks one question: ``{"here", "clip", "name", "suppressed", "out"}``. The answer is written
to ``out`` (``{"answer"}``, or ``{"error"}``), and then a line to its output.
"""

import json
import os
import sys
import traceback
from pathlib import Path


def answer(here, clip, name, suppressed):
    import transformers

    processor = transformers.AutoProcessor.from_pretrained(here, trust_remote_code=True)
    model = getattr(transformers, name).from_pretrained(here)
    content = [{"type": "audio", "audio": clip}, {"type": "text", "text": "What is said?"}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=True, return_dict=True,
        processor_kwargs={"return_tensors": "pt"},
    )  # fmt: skip
    ids = model.generate(**inputs, max_new_tokens=12, do_sample=False, suppress_tokens=suppressed)
    return processor.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)[0]


def main():
    sys.modules["coat"] = None  # as if it were not installed
    import torch
    from transformers import AutoProcessor, GenerationMixin  # noqa: F401  # once, and not in each fork

    for line in sys.stdin:
        asked = json.loads(line)
        out = Path(asked.pop("out"))
        child = os.fork()
        if child == 0:
            torch.set_num_threads(1)
            try:
                said = {"answer": answer(**asked)}
            except BaseException:
                said = {"error": traceback.format_exc()}
            out.write_text(json.dumps(said))
            os._exit(0)
        os.waitpid(child, 0)
        sys.stdout.write("done\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
