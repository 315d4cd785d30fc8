"""Checkpoints from before transformers 4.46, which set image tokens before the prompt and had no token for them.

transformers since replaces the embeddings of a token, so one has to be named that no prompt holds.
"""

from typing import Any


def name_image_token(config: Any, tokenizer: Any) -> None:
    """Set `config.image_token_index` if it is missing.

    It is the first embedding without a token, which `<image>` has in the published checkpoints too (50265 of OPT, 32100
    of T5); without one to spare it is padding, which no prompt holds.
    """
    if config.image_token_index is None:
        is_spare = len(tokenizer) < config.text_config.vocab_size
        config.image_token_index = len(tokenizer) if is_spare else tokenizer.pad_token_id
