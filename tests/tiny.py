"""A tiny random language model, saved as a local folder, for tests that walk through the model side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

WORDS = (
    "the a of to and in is it you that he was for on are with as I his they be at one have this from or had by hot but "
    "some what there we can out other were all your when up use word how said an each she user assistant system hello "
    "bold **list** 1. 2. 3. - * # ! ? : ; \n \n\n recipe garden story code python number thank sorry help question"
)
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def tiny_tokenizer() -> Any:
    """Train a byte-level BPE tokenizer of about 400 entries on a few words, with ChatML tokens and template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([WORDS, " ".join(reversed(WORDS.split(" ")))] * 3, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<|endoftext|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=CHATML,
    )


def tiny_config(family: str = "llama") -> Any:
    """Return the configuration of a four-layer model, 32 wide."""
    from transformers import LlamaConfig, Qwen2Config

    kinds = {"llama": LlamaConfig, "qwen2": Qwen2Config}
    return kinds[family](
        vocab_size=420,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        initializer_range=0.2,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=0,
    )


def tiny_model_folder(path: Path, family: str = "llama", seed: int = 0) -> Path:
    """Save a tiny random model of the family "llama" or "qwen2" with tokenizer and chat template; return the folder."""
    import torch
    from transformers import LlamaForCausalLM, Qwen2ForCausalLM

    torch.manual_seed(seed)
    kinds = {"llama": LlamaForCausalLM, "qwen2": Qwen2ForCausalLM}
    model = kinds[family](tiny_config(family))
    model.save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return path
