"""Windows: every token once or in an overlap, specials and prompts on each, passages that can be found again."""

from collections.abc import Callable
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from embed_worker.engine.hash import byte_tokenizer
from embed_worker.engine.tokens import TextTokenizer, Window
from embed_worker.errors import BadJob
from tests.kits.attempt.jobs import make_spec

CLS, SEP = 0, 1
BYTES = TextTokenizer(byte_tokenizer(), make_spec(max_tokens=12, overlap=4))
PLAIN = byte_tokenizer()

SENTENCES = [
    "the quick brown fox jumps over the lazy dog",
    "a film about time and memory and a lost violin",
    "Query: passage: Instruct: given a question, find the answer",
    "Größe, naïveté, 東京 and a 😀 with numbers 3.14159",
]


@cache
def _bpe_json() -> str:
    """Like Qwen2's: byte-level BPE whose words carry their blank in front; adds no special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(SENTENCES * 5, trainer)
    return tokenizer.to_str()


@cache
def _bert_json() -> str:
    """Like MiniLM's: lower-casing WordPiece, [CLS] … [SEP], with truncation and padding left on in the file."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # noqa: S106
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=300, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"], show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES * 5, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=16)
    return tokenizer.to_str()


def _bpe() -> Tokenizer:
    return Tokenizer.from_str(_bpe_json())


def _bert() -> Tokenizer:
    return Tokenizer.from_str(_bert_json())


def _content(window: Window, prefix: int = 1, suffix: int = 1) -> tuple[int, ...]:
    return window.ids[prefix : len(window.ids) - suffix]


@given(st.text(max_size=80), st.integers(0, 6), st.integers(12, 40))
@example("a" * 37, 4, 12)
@example("日本語" * 9, 3, 12)
def test_windows_cover_every_token_with_the_exact_overlap(text: str, overlap: int, max_tokens: int) -> None:
    tokenizer = TextTokenizer(byte_tokenizer(), make_spec(max_tokens=max_tokens, overlap=overlap))
    [windows] = tokenizer.windows([text])
    tokens = tuple(PLAIN.encode(text, add_special_tokens=False).ids)
    if not tokens:
        assert windows == []
        return
    assert all(len(w.ids) <= max_tokens and w.ids[0] == CLS and w.ids[-1] == SEP for w in windows)
    joined = _content(windows[0])
    for before, after in pairwise(windows):
        if overlap:
            assert _content(before)[-overlap:] == _content(after)[:overlap]
        joined += _content(after)[overlap:]
    assert joined == tokens
    assert all(len(w.ids) == max_tokens for w in windows[:-1]), "all but the last are full"
    assert len(windows) == 1 or len(_content(windows[-1])) > overlap, "no window that says nothing new"


@given(st.text(max_size=60))
def test_a_text_that_fits_has_the_ids_of_a_plain_encode(text: str) -> None:
    tokenizer = TextTokenizer(byte_tokenizer(), make_spec(max_tokens=500))
    [windows] = tokenizer.windows([text])
    expected = [Window(tuple(PLAIN.encode(text).ids), 0, len(text))] if text else []
    assert windows == expected


@given(st.text(min_size=1, max_size=80))
def test_passages_are_found_again_in_the_text(text: str) -> None:
    [windows] = BYTES.windows([text])
    assert windows[0].start == 0 and windows[-1].end == len(text)
    for before, after in pairwise(windows):
        assert before.start <= after.start <= before.end <= after.end, "no gap between passages"
    for window in windows:
        # A window may begin or end within a character's bytes; the passage then holds the whole character.
        assert PLAIN.decode(list(_content(window))).strip("\ufffd") in text[window.start : window.end]


@pytest.mark.parametrize("make", [_bpe, _bert])
@pytest.mark.parametrize("prompt", ["", "passage: ", "Query:"])
def test_real_tokenizers(make: Callable[[], Tokenizer], prompt: str) -> None:
    tokenizer = TextTokenizer(make(), make_spec(max_tokens=24, overlap=5))
    plain = make()
    plain.no_truncation()
    plain.no_padding()
    texts = [*SENTENCES, " ".join(SENTENCES), "fox"]
    for text, windows in zip(texts, tokenizer.windows(texts, prompt), strict=True):
        whole = plain.encode(prompt + text)
        if len(whole.ids) <= 24:
            assert windows == [Window(tuple(whole.ids), 0, len(text))]
            continue
        assert len(windows) > 1
        assert windows[0].start == 0 and windows[-1].end == len(text)
        assert windows[0].ids[:20] == tuple(whole.ids[:20]), "the first window begins as the whole text does"
        for before, after in pairwise(windows):
            assert after.start < before.end, "the overlap shows in the passages"
        for window in windows:
            assert len(window.ids) <= 24
            passage = text[window.start : window.end]
            normal = plain.normalizer.normalize_str(passage) if plain.normalizer else passage
            decoded = plain.decode(list(window.ids))
            if "\ufffd" not in decoded and "[UNK]" not in decoded and not plain.normalizer:
                assert decoded.endswith(normal)


def test_a_word_glued_to_the_prompts_blank_belongs_to_the_text() -> None:
    """Byte-level BPE makes one token of the prompt's last blank and the text's first word."""
    tokenizer = TextTokenizer(_bpe(), make_spec(max_tokens=12, overlap=0))
    prompt, text = "Query: ", "the quick brown fox jumps over the lazy dog and a lost violin and time"
    glued = _bpe().encode(prompt + text)
    straddling = [i for i, (start, end) in enumerate(glued.offsets) if start < len(prompt) < end]
    assert straddling, "this test needs a token over the boundary"
    [windows] = tokenizer.windows([text], prompt)
    assert windows[0].start == 0 and windows[-1].end == len(text)
    for before, after in pairwise(windows):
        assert text[before.end : after.start].strip() == "", "no word between two windows is lost"
    head = tuple(glued.ids[: straddling[0]])
    assert all(w.ids[: len(head)] == head for w in windows), "the prompt is on each window"
    content = [i for w in windows for i in w.ids[len(head) :]]
    assert content == glued.ids[len(head) :], "each token of the text once, none repeated as prompt"


def test_truncate_keeps_only_the_beginning() -> None:
    tokenizer = TextTokenizer(byte_tokenizer(), make_spec(max_tokens=12, overlap=4, long_texts="truncate"))
    [windows] = tokenizer.windows(["abcdefghijklmnop"])
    assert windows == [Window(tuple(PLAIN.encode("abcdefghij").ids), 0, 10)]


def test_the_prompt_is_on_every_window_and_its_tokens_count() -> None:
    [windows] = BYTES.windows(["abcdefghij"], "p: ")
    assert [PLAIN.decode(list(w.ids)) for w in windows] == ["p: abcdefg", "p: defghij"]
    assert [(w.start, w.end) for w in windows] == [(0, 7), (3, 10)]
    assert all(len(w.ids) <= 12 for w in windows)


def test_append_token_ends_each_window_where_the_tokenizer_does_not_add_it() -> None:
    tokenizer = TextTokenizer(_bpe(), make_spec(max_tokens=12, overlap=2, append_token="<|endoftext|>"))  # noqa: S106
    end = _bpe().token_to_id("<|endoftext|>")
    [short], long = tokenizer.windows(["fox", " ".join(SENTENCES)])
    assert short.ids == (*_bpe().encode("fox").ids, end)
    assert len(long) > 2
    assert all(w.ids[-1] == end and w.ids.count(end) == 1 and len(w.ids) <= 12 for w in long)


def test_append_token_is_not_doubled() -> None:
    with_sep = TextTokenizer(byte_tokenizer(), make_spec(append_token="[SEP]"))  # noqa: S106
    [[window]] = with_sep.windows(["abc"])
    assert list(window.ids) == PLAIN.encode("abc").ids


def test_exactly_max_tokens_is_one_window_and_one_more_is_two() -> None:
    fits, over = BYTES.windows(["a" * 10, "a" * 11])
    assert [len(w.ids) for w in fits] == [12]
    assert [len(w.ids) for w in over] == [12, 7]
    appended = TextTokenizer(_bpe(), make_spec(max_tokens=8, append_token="<|endoftext|>"))  # noqa: S106
    for count in range(1, 20):
        [windows] = appended.windows(["z " * count])
        assert all(len(w.ids) <= 8 for w in windows)


@pytest.mark.parametrize("prompt", ["", "passage: "])
def test_a_text_that_the_normaliser_eats_has_no_windows(prompt: str) -> None:
    tokenizer = TextTokenizer(_bert(), make_spec(max_tokens=24))
    assert tokenizer.windows(["\u200b\u200b", "fox", ""], prompt)[0] == []
    assert tokenizer.windows(["\u200b\u200b", "fox", ""], prompt)[2] == []
    assert len(tokenizer.windows(["\u200b\u200b", "fox", ""], prompt)[1]) == 1


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"append_token": "<|nope|>"}, "append_token"),
        ({"max_tokens": 8, "overlap": 4, "prompts": {"document": "passage: "}}, "raise max_tokens"),
        ({"max_tokens": 16, "overlap": 8, "prompts": {"document": "pass: "}}, "overlap of 8"),
    ],
)
def test_a_spec_that_cannot_work_is_a_bad_job_at_once(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(BadJob, match=complaint):
        TextTokenizer(byte_tokenizer(), make_spec(**changes))


def test_a_query_prompt_that_leaves_no_room_is_a_bad_job() -> None:
    with pytest.raises(BadJob, match="raise max_tokens"):
        BYTES.windows(["some longer text"], "a very long query prompt")


def test_a_tokenizer_without_content_tokens_is_refused() -> None:
    empty = Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]"))  # noqa: S106
    empty.normalizer = normalizers.Replace("a", "")
    with pytest.raises(BadJob, match="makes no token"):
        TextTokenizer(empty, make_spec())


def test_a_huge_text_becomes_windows() -> None:
    tokenizer = TextTokenizer(byte_tokenizer(), make_spec(max_tokens=8192, overlap=0))
    [windows] = tokenizer.windows(["abcd " * 60_000])
    assert sum(len(w.ids) - 2 for w in windows) == 300_000
