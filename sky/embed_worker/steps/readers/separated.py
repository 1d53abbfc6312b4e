"""CSV and TSV: header, then a record after another; a record that cannot be told from its neighbours stops the run."""

import copy
import io
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import IO

from embed_worker.steps.dialect import NONE, Dialect
from embed_worker.steps.errors import SourceError
from embed_worker.steps.readers.base import Account, Fault, Row
from embed_worker.steps.readers.fields import FieldParser, Marks, Parsed
from embed_worker.steps.readers.header import Header, header_of, sep_line
from embed_worker.steps.readers.quoting import decide_quoting
from embed_worker.steps.readers.record_lines import AHEAD, RecordLines
from embed_worker.steps.values import excerpt

EVIDENCE = 5000
"""Lines that are looked at, once a file, to see whether quotes enclose fields."""


def read(
    head: bytes,
    rest: IO[bytes],
    url: str,
    dialect: Dialect,
    delimiter: str,
    needed: Collection[str],
    account: Account,
) -> Iterator[Row]:
    reader = Separated(head, rest, url, dialect, delimiter)
    reader.open(needed, account)
    yield from reader.rows(account)


@dataclass(frozen=True)
class Opening:
    """What the lines of a file so far say of the others."""

    names: list[str]
    marks: Marks
    undecided: bool
    """Whether quotes enclose fields is for the first field to show that begins with one."""
    proved: bool
    """Quotes are known to enclose fields here."""
    nulls: frozenset[str]


class Separated(RecordLines):
    """A file, read from its begin to its end."""

    def __init__(self, head: bytes, rest: IO[bytes], url: str, dialect: Dialect, delimiter: str) -> None:
        super().__init__(head, rest)
        self.url, self.dialect = url, dialect
        self._header: Header | None = None
        tabbed = delimiter == "\t" or len(delimiter) > 1
        self.undecided = dialect.quote is None and tabbed
        quote = dialect.quote or ("" if tabbed else '"')
        escape = None if dialect.escape in (None, NONE) else dialect.escape
        self._use(Marks(delimiter, None if quote in ("", NONE) else quote, escape, dialect.skip_blank_after_delimiter))
        self.nulls = frozenset({*dialect.null_values, *(["\\N"] if escape == "c-style" else [])})
        self._proved = dialect.quote is not None

    @property
    def opening(self) -> Opening | None:
        """None where the file has no header."""
        if self._header is None:
            return None
        return Opening(self._header.names, self.marks, self.undecided, self._proved, self.nulls)

    def again(self, data: bytes) -> "Separated":
        """A reader of the lines that were taken last."""
        found = copy.copy(self)
        found._read_on(data, io.BytesIO(), b"\n")
        return found

    def open(self, needed: Collection[str], account: Account) -> None:
        """Reads the header."""
        self.account = account
        self._header = self._read_header(needed)
        self._count()

    def _use(self, marks: Marks) -> None:
        self.marks, self._parser = marks, FieldParser(marks)

    def rows(self, account: Account, size: int | None = None) -> Iterator[Row]:
        """The records from here on, lines numbered as in the file. With `size`, until so many bytes are read, or it has
        become known how fields are quoted."""
        if self._header is None:
            self.account = account
            self._count()
            return
        self.account, header = account, self._header
        width = len(header.names)
        end, known = None if size is None else self.lines.bytes + size, (self.undecided, self._proved)
        while True:
            done = end is not None and (self.lines.bytes >= end or known != (self.undecided, self._proved))
            if done and self.lines.is_whole:
                break
            line = self._next()
            if line == "":
                break
            first = self.lines.number
            if line is None:
                self._account(1)
                yield Row(Fault("line too long"), first)
                continue
            if line in ("\n", "\r\n", "\r"):
                self.account.accounted += 1
                self.account.note("blank lines")
                continue
            if self.undecided and '"' in line and self._leading_quote(line):
                self._decide(line, width)
            parsed = self._parser.parse(line, self._more)
            if parsed.fault is None and not parsed.ended and len(parsed.fields) == width:
                if not self._proved and parsed.quoted:
                    self._prove(parsed, width, first)
                self._account(parsed.lines)
                yield Row(header.record(parsed.fields, self.nulls), first)
            else:
                yield Row(self._faulty(parsed, line, width, first), first)
        self._count()

    def _read_header(self, needed: Collection[str]) -> Header | None:
        if not isinstance(self.dialect.header, int):
            return Header(list(self.dialect.column_names), self.dialect)
        line: str | None = ""
        for number in range(1, self.dialect.header + 1):
            line = self._next()
            while line in ("\n", "\r\n", "\r") and number == self.dialect.header == 1:
                self.account.accounted += 1
                self.account.note("blank lines")
                line = self._next()
            if line == "":
                return None
            if line and number == 1 and (delimiter := sep_line(line)) is not None:  # Excel's own: sep=;
                self.account.accounted += 1
                if self.dialect.delimiter is None:
                    self._use(Marks(delimiter, self.marks.quote or '"', self.marks.escape, self.marks.skip_blank))
                    self.undecided = False
                line = self._next()
            if number < self.dialect.header:
                self.account.accounted += 1
        if not line:
            raise SourceError(f"{self.url}: its line {self.lines.number} is too long for a header")
        if self.undecided and self._leading_quote(line):
            self._decide(line, None)
        parsed = self._parser.parse(line, self._more)
        if parsed.fault is not None or parsed.ended:
            raise SourceError(f"{self.url}: its first line is no header ({excerpt(line)!r}); see `header` and `quote`")
        self.account.accounted += parsed.lines
        return header_of(self.url, parsed.fields, self.dialect, needed, self.marks, line)

    # -- faults -----------------------------------------------------------------------------------------------

    def _faulty(self, parsed: Parsed, line: str, width: int, first: int) -> Fault:
        """Why a record gives no row; the lines that are not its own are given back."""
        named = "`columns` names" if self.dialect.header == NONE else "the header has"
        wrong = f"{len(parsed.fields)} fields, {named} {width}"
        if parsed.lines == 1 and not parsed.ended:
            if parsed.fault is None:
                self._account(1)
                return Fault("wrong number of fields", wrong, excerpt(line))
            alone = self._lenient_end([line], width) is not None
        else:
            alone = False
        if not alone:
            self._settle(parsed, line, width, first)
        reason = parsed.fault or ("quote is never closed" if parsed.ended else "wrong number of fields")
        lines = len(self._taken)
        self._account(lines)
        span = f"lines {first} to {first + lines - 1}" if lines > 1 else ""
        cure = "a quote after a backslash: see `escape`" if '\\"' in line else ""
        detail = wrong if parsed.fault is None and not parsed.ended else ""
        return Fault(reason, "; ".join(word for word in (detail, span, cure) if word), excerpt(line))

    def _settle(self, parsed: Parsed, line: str, width: int, first: int) -> None:
        """Leaves in `_taken` the lines of one broken record. SourceError where both readings of them make sense."""
        ended, number = parsed.ended, self.lines.number
        self._give_back(1)
        following = self._ahead()
        texts = [line, *following]
        clean = bool(following) and self._is_clean(following, width)
        whole = parsed.fault is None and not ended
        joined = parsed.lines if whole else None if ended else self._lenient_end(texts, width)
        if ended and not clean and number - first < AHEAD:
            raise SourceError(
                f"{self.url} is cut off or damaged: the quoted field that begins in line {first} is never closed: "
                f"{excerpt(line)!r}; fetch it again, mend the line, or set `quote: none`"
            )
        if (clean and joined is not None) or ended:
            until = f"line {first + joined - 1}" if joined is not None else "the end of the file"
            raise SourceError(
                f"{self.url}: line {first} opens a quote that is never closed, or in mid-field: {excerpt(line)!r}. "
                f"Read with quotes, it is one record up to {until}; read without, a record of one line, as the next "
                f"is: {excerpt(following[0]) if following else ''!r}. Set `quote: none`, or mend line {first}"
            )
        if joined is not None:
            self._take_again(joined - 1)
        elif not clean:  # neither reading helps: up to where a record begins that is one
            for at in range(1, len(following)):
                if self._is_clean(following[at:], width):
                    self._take_again(at)
                    return

    def _is_clean(self, lines: list[str], width: int) -> bool:
        """A record begins here that is whole, has all its fields, and no quote where none belongs."""
        rest = iter(lines[1:])
        parsed = self._parser.parse(lines[0], lambda: next(rest, None))
        return parsed.fault is None and not parsed.ended and not parsed.stray and len(parsed.fields) == width

    def _lenient_end(self, lines: list[str], width: int) -> int | None:
        """Lines of a record whose quotes close only before a delimiter or a line end, if it then has its fields, and
        none that opens within."""
        quote, delimiter = self.marks.quote or "", self.marks.delimiter
        fields, within = 0, False
        for number, line in enumerate(lines, start=1):
            text = line.rstrip("\r\n")
            at = 0
            while True:
                if not within and text.startswith(quote, at):
                    within, at = True, at + 1
                if within:
                    close = text.find(quote, at)
                    while close >= 0 and not (close + 1 == len(text) or text.startswith(delimiter, close + 1)):
                        if close == 0 or text.endswith(delimiter, 0, close):
                            return None  # another field opens here
                        close = text.find(quote, close + 1)
                    if close < 0:
                        break
                    within, at = False, close + 1
                else:
                    hit = text.find(delimiter, at)
                    at = hit if hit >= 0 else len(text)
                fields += 1
                if at >= len(text):
                    return number if fields == width else None
                at += len(delimiter)
            if fields > width:
                return None
        return None

    def _prove(self, parsed: Parsed, width: int, first: int) -> None:
        """A field over several lines, each of which is a whole record too, wants a proof that quotes enclose fields."""
        plain = [(line or b"").decode("utf-8", "replace").count(self.marks.delimiter) + 1 for line in self._taken]
        if parsed.lines > 1 and all(count == width for count in plain):
            ahead = self._ahead(EVIDENCE)
            one_line = (self._parser.parse(line, lambda: None) for line in ahead)
            if not any(p.quoted and not p.fault and not p.ended and len(p.fields) == width for p in one_line):
                raise SourceError(
                    f"{self.url}: the quote in line {first} closes in line {first + parsed.lines - 1}, and each of "
                    f"these lines is a record too: {excerpt(self._taken[0] or b'')!r}. Set `quote: none` if they are, "
                    "`quote: '\"'` if they are one"
                )
        self._proved = True

    # -- quoting ----------------------------------------------------------------------------------------------

    def _leading_quote(self, line: str) -> bool:
        return line.startswith('"') or f'{self.marks.delimiter}"' in line

    def _decide(self, line: str, width: int | None) -> None:
        """The first field that begins with a quote: whether fields are quoted here. SourceError where both may be."""
        lines = [line, *self._ahead(EVIDENCE)]
        cut = len(lines) > EVIDENCE
        quoted = decide_quoting(lines, self.marks, width, self.url, self.lines.number, cut)
        self.undecided = False
        if quoted:
            self._use(Marks(self.marks.delimiter, '"', self.marks.escape, self.marks.skip_blank))
