"""Whether the fields of a tab-separated file are quoted: each reading is tried on what follows the first such quote."""

from collections.abc import Iterable
from dataclasses import replace

from embed_worker.steps.errors import SourceError
from embed_worker.steps.readers.fields import FieldParser, Marks, Parsed, without_end
from embed_worker.steps.values import excerpt


def decide_quoting(lines: list[str], marks: Marks, width: int | None, url: str, first: int, cut: bool) -> bool:
    """True where a quote encloses a field. `cut`: the file goes on. SourceError with both readings where both fit."""
    plain, quoted = replace(marks, quote=None), replace(marks, quote='"')
    width = width or len(FieldParser(plain).parse(lines[0], lambda: None).fields)
    bad_plain = sum(len(one.fields) != width for one in _records(lines, plain))
    records = list(_records(lines, quoted))
    if records and records[-1].ended and cut:
        records.pop()  # what was looked at ends within it
    bad_quoted = sum(one.fault is not None or one.ended or len(one.fields) != width for one in records)
    if bad_plain == 0 and (bad_quoted > 0 or not _closes_in_its_line(lines, marks.delimiter)):
        return False
    if bad_quoted == 0 and (bad_plain > 0 or _proves(lines, records, marks.delimiter)):
        return True
    shown = next(line for line in lines if line.startswith('"') or f'{marks.delimiter}"' in line)
    at = first + lines.index(shown)
    as_quoted = FieldParser(quoted).parse(shown, lambda: None).fields
    as_plain = FieldParser(plain).parse(shown, lambda: None).fields
    differ = next((i for i, field in enumerate(as_plain) if i >= len(as_quoted) or field != as_quoted[i]), 0)
    raise SourceError(
        f"{url}: in line {at} a field begins with a quote, and it is not clear whether quotes enclose fields here. "
        f"`quote: none` reads {excerpt(as_plain[differ], 60)!r}, "
        f"`quote: '\"'` reads {excerpt(as_quoted[differ] if differ < len(as_quoted) else '', 60)!r}; set one of them"
    )


def _records(lines: list[str], marks: Marks) -> Iterable[Parsed]:
    parser, rest = FieldParser(marks), iter(lines)
    for line in rest:
        if without_end(line):
            yield parser.parse(line, lambda: next(rest, None))


def _closes_in_its_line(lines: list[str], delimiter: str) -> bool:
    return any(
        len(field) > 1 and field.startswith('"') and field.endswith('"')
        for line in lines
        for field in without_end(line).split(delimiter)
    )


def _proves(lines: list[str], records: list[Parsed], delimiter: str) -> bool:
    """Quotes that only a writer that encloses fields leaves: doubled ones, or around all that are no numbers."""
    inner = [field[1:-1] for line in lines for field in without_end(line).split(delimiter)
             if len(field) > 1 and field.startswith('"') and field.endswith('"')]  # fmt: skip
    doubled = any('""' in text for text in inner) and all('"' not in text.replace('""', "") for text in inner)
    doubled &= not any(one.stray for one in records)  # which such a writer would have enclosed
    return doubled or (len(records) > 1 and all(one.quoted and not one.words for one in records))
