import pytest
import torch
from transformers import GemmaConfig, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from coat.errors import CoatError
from coat.pocket.assemble import load_qwen2, qwen2_config

SIZES = {
    "vocab_size": 97, "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 6,
    "num_key_value_heads": 2, "rope_parameters": {"rope_type": "default", "rope_theta": 100_000.0},
}  # fmt: skip


def test_a_llama_is_the_qwen2_whose_biases_are_zero():
    torch.manual_seed(0)
    llama = LlamaForCausalLM(LlamaConfig(**SIZES)).eval()
    qwen2 = Qwen2ForCausalLM(Qwen2Config(**qwen2_config(llama.config))).eval()
    for name, parameter in qwen2.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.ones_(parameter)
    load_qwen2(qwen2.model, llama.model.state_dict())
    qwen2.lm_head.load_state_dict(llama.lm_head.state_dict())
    ids = torch.randint(0, 97, (2, 30))
    with torch.inference_mode():
        torch.testing.assert_close(qwen2(ids).logits, llama(ids).logits, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "config", [GemmaConfig(), LlamaConfig(**SIZES, attention_bias=True), LlamaConfig(**SIZES, mlp_bias=True)]
)
def test_what_no_qwen2_equals_is_refused(config):
    with pytest.raises(CoatError, match="cannot hold") as caught:
        qwen2_config(config)
    assert "a Qwen2" in caught.value.remedy


def test_weights_of_another_model_are_refused():
    qwen2 = Qwen2ForCausalLM(Qwen2Config(**qwen2_config(LlamaConfig(**SIZES))))
    with pytest.raises(CoatError, match="not a Llama's"):
        load_qwen2(qwen2.model, {"embed_tokens.weight": torch.zeros(97, 48)})
