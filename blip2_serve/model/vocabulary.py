"""Single tokens as text and as bytes, to show what an answer is made of."""

from dataclasses import dataclass
from typing import Any

from tokenizers import decoders
from transformers.convert_slow_tokenizer import bytes_to_unicode

_BYTE_OF = {character: byte for byte, character in bytes_to_unicode().items()}


@dataclass(frozen=True, slots=True)
class TokenText:
    """A token's addition to a text. `data` is exact; `text` has U+FFFD where the token is a part of a character."""

    text: str
    data: bytes


class Vocabulary:
    """Looks tokens up by id, and remembers them."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._decoder = tokenizer.backend_tokenizer.decoder
        self._is_byte_level = isinstance(self._decoder, decoders.ByteLevel)
        # Tokens added to a vocabulary, special or not, stay as they are written, spaces and all.
        self._literal_ids = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
        self._seen: dict[int, TokenText] = {}

    def __getitem__(self, token_id: int) -> TokenText:
        """Look up a token; special ones are spelled out, and an id beyond the vocabulary (padded weights) is empty."""
        if token_id not in self._seen:
            self._seen[token_id] = self._look_up(token_id)
        return self._seen[token_id]

    def _look_up(self, token_id: int) -> TokenText:
        token: str = self._tokenizer.convert_ids_to_tokens(token_id) or ""
        if token and token_id not in self._literal_ids:
            if self._is_byte_level:
                # As tokenizers' decoder does: a token that is not spelled in its alphabet is taken as it is.
                is_spelled = all(character in _BYTE_OF for character in token)
                data = bytes(_BYTE_OF[character] for character in token) if is_spelled else token.encode()
                return TokenText(data.decode("utf-8", "replace"), data)
            # After another token, because a text's first token loses its space.
            token = self._decoder.decode(["a", token])[1:]
        return TokenText(token, token.encode())
