"""Templates: exactly the words and the values, and no code."""

import re
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embed_worker.steps.template import Template

names = st.text(string.ascii_letters + string.digits + "_- .é", min_size=1, max_size=8)
words = st.text(st.characters(codec="utf-8"), max_size=12).filter(lambda word: not word.endswith("\\"))
ESCAPE = re.compile(r"\\(?=[nrt])")


@given(st.lists(st.one_of(words.map(lambda w: ("text", w)), names.map(lambda n: ("column", n))), max_size=8), st.data())
def test_a_template_says_exactly_its_words_and_the_values(parts: list[tuple[str, str]], data: st.DataObject) -> None:
    columns = [name for kind, name in parts if kind == "column"]
    if not columns:
        return
    written = "".join(
        ESCAPE.sub(r"\\\\", word).replace("{", "{{").replace("}", "}}") if kind == "text" else f"{{{word}}}"
        for kind, word in parts
    )
    row = {name: data.draw(words) for name in columns}
    template = Template(written)
    assert template.columns == list(dict.fromkeys(columns))
    assert template.render(row) == "".join(word if kind == "text" else row[word] for kind, word in parts)


class _Spy:
    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"a template reached for {name}")

    def __format__(self, spec: str) -> str:
        raise AssertionError("a template called a format")


@pytest.mark.parametrize(
    "text", ["{a!r}", "{a:>10}", "{}", "{a[0]}", "{a[b]}", "{a!s:x}", "{a:{b}}", "{", "}", "{a", "a}b{c}"]
)
def test_tricks_of_str_format_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="template"):
        Template(text)


def test_a_dotted_name_is_the_name_of_a_column_and_nothing_else() -> None:
    template = Template("{a.b}")
    assert template.columns == ["a.b"]
    assert template.render({"a": _Spy(), "a.b": "the column"}) == "the column"
    assert template.render({"a": _Spy()}) is None


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"a": None, "b": None}, None), ({}, None), ({"a": "x"}, "x/"), ({"a": 1, "b": 2.5}, "1/2.5"),
        ({"a": True, "b": None}, "true/"), ({"a": ["x", "é"], "b": {"k": 1}}, '["x","é"]/{"k":1}'),
        ({"a": "é".encode(), "b": 0}, "é/0"),
    ],
)  # fmt: skip
def test_values_that_are_no_text_are_said_as_json_says_them(row: dict[str, Any], said: str | None) -> None:
    assert Template("{a}/{b}").render(row) == said


@given(st.text(st.characters(codec="utf-8"), max_size=8), st.text(st.characters(codec="utf-8"), max_size=8))
def test_any_column_can_be_named(name: str, value: str) -> None:
    template = Template('a{"' + name.replace('"', '""') + '"}b')
    assert template.columns == [name]
    assert template.render({name: value}) == f"a{value}b"


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("{a}\\n{b}", "1\n2"), ("{a}\n{b}", "1\n2"), ("{a}\\t{b}", "1\t2"), ("{a}\\\\n{b}", "1\\n2"),
        ("C:\\x\\{a}", "C:\\x\\1"),
    ],
)  # fmt: skip
def test_line_breaks_in_single_quotes(written: str, said: str) -> None:
    assert Template(written).render({"a": 1, "b": 2}) == said


@pytest.mark.parametrize("text", ['{"a}', '{"a"b}', '{a"b}', '{"'])
def test_quoted_names_that_do_not_end(text: str) -> None:
    with pytest.raises(ValueError, match="template"):
        Template(text)


def test_the_cure_is_a_template_that_works() -> None:
    with pytest.raises(ValueError, match="only") as caught:
        Template("{What? (e.g.: x)}")
    cure = str(caught.value).rsplit("is written ", 1)[1]
    assert Template(cure).columns == ["What? (e.g.: x)"]
