"""Greedy means greedy: nothing of a checkpoint's generation configuration but its ends changes an answer."""

import pytest
import torch
import transformers

from coat.backbones import load_backbone
from coat.config.thinking import ThinkingConfig
from coat.generation import Question, generate, reply_to, reply_to_many
from coat.testing.clips import conversation
from coat.thinking.batch import encode, make_batch
from coat.thinking.model import ThinkingModel


def asked():
    return [conversation(0.6, answer=None, seed=1), conversation(0.9, text="Describe", answer=None, seed=2)]


class Generation:
    """Greedy means greedy: nothing of a checkpoint's generation configuration but its ends changes an answer."""

    @pytest.fixture
    def penal(self, loaded, tmp_path):
        """The checkpoint with what hubs have: a penalty, sampling, and a list of ends."""
        pad = loaded.tokenizer.pad_token_id
        model = ThinkingModel(loaded, ThinkingConfig()).eval()
        batch = make_batch(model.builder, asked(), padding_side="left")
        said = loaded.generate(**model.prepare_prefill(batch), max_new_tokens=12, do_sample=False).flatten().tolist()
        extra = next(token for token in range(len(loaded.tokenizer)) if token not in (*said, *loaded.end_ids))
        loaded.save_pretrained(str(tmp_path))
        transformers.GenerationConfig(
            repetition_penalty=0.05, do_sample=True, temperature=5.0, top_k=3, no_repeat_ngram_size=1,
            eos_token_id=[*loaded.end_ids, extra], pad_token_id=pad,
        ).save_pretrained(tmp_path)  # fmt: skip
        return load_backbone(loaded.family, str(tmp_path))

    def test_penalties_and_sampling_of_the_hub_change_no_answer(self, loaded, penal):
        plain, ours = (ThinkingModel(each, ThinkingConfig()).eval() for each in (loaded, penal))
        ours.backbone.embedding.weight.data.copy_(plain.backbone.embedding.weight.data)
        expected = generate(plain, asked(), max_new_tokens=12)
        assert generate(ours, asked(), max_new_tokens=12) == expected
        torch.manual_seed(1)
        assert generate(ours, asked(), max_new_tokens=12) == expected

    def test_an_answer_ends_at_any_of_the_checkpoints_ends(self, penal):
        model = ThinkingModel(penal, ThinkingConfig()).eval()
        assert len(penal.end_ids) >= 2
        last = penal.end_ids[-1]

        def always(_, inputs, output):
            output = output.clone()
            output[..., last] = 1e4
            return output

        hook = penal.lm_head.register_forward_hook(always)
        (reply,) = reply_to(model, [encode(model.builder, asked()[0])], max_new_tokens=6)
        many = dict(reply_to_many(model, [Question(lambda: asked()[0], 0.6, 6)]))
        hook.remove()
        assert (reply.finished, reply.new_tokens) == (True, 1)
        assert many == {0: reply}

    def test_many_at_a_time_say_what_each_says_alone(self, loaded):
        model = ThinkingModel(loaded, ThinkingConfig()).eval()
        items = [conversation(0.3 + 0.4 * i, answer=None, seed=i) for i in range(4)]
        items.append(conversation(text="hello", answer=None))
        questions = [Question(lambda item=item: item, -i, 4 + i) for i, item in enumerate(items)]
        replies = dict(reply_to_many(model, questions, batch_size=2))
        expected = [generate(model, [item], max_new_tokens=4 + i)[0] for i, item in enumerate(items)]
        assert [replies[i].text for i in range(len(items))] == expected

    def test_sampling_and_penalties_are_there_when_they_are_asked_for(self, loaded):
        model = ThinkingModel(loaded, ThinkingConfig()).eval()
        plain = generate(model, asked(), max_new_tokens=12)
        assert generate(model, asked(), max_new_tokens=12, temperature=0.0, repetition_penalty=1.0) == plain
        penalised = [
            generate(model, asked(), max_new_tokens=12, repetition_penalty=penalty) for penalty in (0.05, 20.0)
        ]
        assert penalised != [plain, plain]  # of a model that repeats itself, and of one that does not
        said = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            said.append(generate(model, asked(), max_new_tokens=12, temperature=2.0, top_p=0.95))
        assert said[0] == said[1] != said[2]
