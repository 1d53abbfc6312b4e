"""Text → token ids: Rust tokenizer, prompts, and windows over texts that are too long."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from embed_worker.errors import BadJob
from embed_worker.lake.spec import EmbeddingSpec

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

TOKENIZER = "tokenizer.json"
SPECIALS_PROBE = "a"


@dataclass(frozen=True, slots=True)
class Window:
    """One input of the engine and the passage of the text that it covers."""

    ids: tuple[int, ...]
    start: int
    """First character of the passage in the text."""
    end: int
    """Character after the last one."""


class NoTokens(ValueError):
    """A text of which the tokenizer makes nothing."""


class TextTokenizer:
    """Makes the windows of texts as the spec says. Thread-safe; encoding runs outside the GIL."""

    def __init__(self, tokenizer: "Tokenizer", spec: EmbeddingSpec) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        self._spec = spec
        prefix, suffix = self._specials()
        self._appended: tuple[int, ...] = ()
        if spec.append_token is not None:
            token = tokenizer.token_to_id(spec.append_token)
            if token is None:
                raise BadJob(f"append_token {spec.append_token!r} is not in the vocabulary of {spec.model}")
            if not suffix or suffix[-1] != token:
                self._appended = (token,)
        self._prefix, self._suffix = prefix, suffix + self._appended
        self._check_room(len(tokenizer.encode(spec.prompts.document, add_special_tokens=False).ids))

    def windows(self, texts: list[str], prompt: str = "") -> list[list[Window]]:
        """The windows of each text; an empty list where a text has no tokens at all."""
        encoded = self._tokenizer.encode_batch_fast([prompt + text for text in texts])
        empty = self._tokenizer.encode(prompt).ids
        result: list[list[Window]] = []
        for text, encoding in zip(texts, encoded, strict=True):
            ids = encoding.ids
            if ids == empty:
                result.append([])
            elif len(ids) + len(self._appended) <= self._spec.max_tokens:
                result.append([Window(tuple(ids) + self._appended, 0, len(text))])
            else:
                result.append(self._cut(text, prompt))
        return result

    def _cut(self, text: str, prompt: str) -> list[Window]:
        encoding: Encoding = self._tokenizer.encode(prompt + text, add_special_tokens=False)
        shift = len(prompt)
        first = next((i for i, (_, end) in enumerate(encoding.offsets) if end > shift), len(encoding.ids))
        head = self._prefix + tuple(encoding.ids[:first])
        ids, offsets = encoding.ids[first:], encoding.offsets[first:]
        capacity = self._check_room(first)
        windows = []
        for begin in range(0, len(ids), capacity - self._spec.overlap):
            end = min(begin + capacity, len(ids))
            passage = (max(offsets[begin][0] - shift, 0), max(offsets[end - 1][1] - shift, 0))
            windows.append(Window(head + tuple(ids[begin:end]) + self._suffix, *passage))
            if end == len(ids) or self._spec.long_texts == "truncate":
                break
        return windows

    def _check_room(self, prompt_tokens: int) -> int:
        """Tokens of text that fit into a window."""
        capacity = self._spec.max_tokens - len(self._prefix) - prompt_tokens - len(self._suffix)
        if capacity <= self._spec.overlap:
            raise BadJob(
                f"max_tokens {self._spec.max_tokens} leaves {capacity} tokens for text beside the prompt "
                f"and the special tokens, with an overlap of {self._spec.overlap}; raise max_tokens"
            )
        return capacity

    def _specials(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        encoding = self._tokenizer.encode(SPECIALS_PROBE)
        mask = encoding.special_tokens_mask
        content = [i for i, special in enumerate(mask) if not special]
        if not content:
            raise BadJob(f"the tokenizer of {self._spec.model} makes no token of {SPECIALS_PROBE!r}")
        return tuple(encoding.ids[: content[0]]), tuple(encoding.ids[content[-1] + 1 :])


def check_tokens(tokenizer: TextTokenizer, texts: list[str], prompt: str) -> list[list[Window]]:
    """The windows of texts that must have some. Raises NoTokens."""
    windows = tokenizer.windows(texts, prompt)
    if empty := [text for text, found in zip(texts, windows, strict=True) if not found]:
        raise NoTokens(f"{empty[0]!r} has no tokens for this model; write a text with words")
    return windows
