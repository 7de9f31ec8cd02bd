"""Audio encoders of transformers with random weights and few of them, on disk as the hub has them."""

import torch
import transformers as tf

WAV2VEC2 = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
    "conv_dim": (16,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2, "vocab_size": 8,
}  # fmt: skip


def wav2vec2(config, model, **options):
    return model(config(**WAV2VEC2 | options)), tf.Wav2Vec2FeatureExtractor(do_normalize=True)


def whisper():
    config = tf.WhisperConfig(
        d_model=32, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=48, decoder_layers=1,
        decoder_attention_heads=2, decoder_ffn_dim=48, num_mel_bins=80, vocab_size=64, pad_token_id=0,
        bos_token_id=1, eos_token_id=2, decoder_start_token_id=3, begin_suppress_tokens=None,
    )  # fmt: skip
    return tf.WhisperModel(config), tf.WhisperFeatureExtractor()


def ast():
    config = tf.ASTConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48)
    return tf.ASTModel(config), tf.ASTFeatureExtractor()


def clap():
    audio = tf.ClapAudioConfig(
        depths=[1, 1, 1, 1], num_attention_heads=[1, 1, 1, 1], patch_embeds_hidden_size=8, hidden_size=64,
        projection_dim=16, num_hidden_layers=4,
    )  # fmt: skip
    text = tf.ClapTextConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=1, intermediate_size=16)
    config = tf.ClapConfig(text_config=text.to_dict(), audio_config=audio.to_dict(), projection_dim=16)
    return tf.ClapModel(config), tf.ClapFeatureExtractor(truncation="rand_trunc", padding="repeatpad")


def encodec():
    config = tf.EncodecConfig(num_filters=4, hidden_size=16, codebook_size=16, codebook_dim=16, num_lstm_layers=1)
    return tf.EncodecModel(config), tf.EncodecFeatureExtractor(sampling_rate=24_000)


def mimi():
    config = tf.MimiConfig(
        num_filters=4, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, head_dim=16,
        intermediate_size=48, codebook_size=16, codebook_dim=16, vector_quantization_hidden_dimension=16,
        upsample_groups=32, num_quantizers=2, num_semantic_quantizers=1,
    )  # fmt: skip
    return tf.MimiModel(config), tf.EncodecFeatureExtractor(sampling_rate=24_000)


MAKERS = {
    "wav2vec2": lambda: wav2vec2(tf.Wav2Vec2Config, tf.Wav2Vec2Model),
    "hubert": lambda: wav2vec2(tf.HubertConfig, tf.HubertModel),
    "wavlm": lambda: wav2vec2(tf.WavLMConfig, tf.WavLMModel),
    "data2vec-audio": lambda: wav2vec2(
        tf.Data2VecAudioConfig, tf.Data2VecAudioModel, num_conv_pos_embeddings=2, conv_pos_kernel_size=5
    ),
    "whisper": whisper,
    "ast": ast,
    "clap": clap,
    "encodec": encodec,
    "mimi": mimi,
}


def make(kind, folder):
    """Write one and return its folder."""
    torch.manual_seed(0)
    model, extractor = MAKERS[kind]()
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return str(folder)
