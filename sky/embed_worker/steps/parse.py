"""A range of a source file → its parts: blocks at once where they can be, else record by record."""

from collections.abc import Iterator
from dataclasses import dataclass

from embed_worker.steps.fast.block import Block, Plan
from embed_worker.steps.making import Making, Parsed
from embed_worker.steps.pieces import Piece, pieces_of
from embed_worker.steps.ranges import Range
from embed_worker.steps.readers.base import Account
from embed_worker.steps.source import SourceFile
from embed_worker.steps.spec import SourceSpec

PART_BYTES = 128 << 20
"""Of a part in memory; a range that holds more becomes several."""
PART_REJECTS = 500_000
HOPELESS = 100_000
"""Records after which the reading of a source ends where not one could be used."""


@dataclass(frozen=True)
class Window:
    """Of the records that the filter keeps: how many are passed over, and how many are taken after them."""

    skip: int = 0
    take: int | None = None


WHOLE = Window()


def parse(
    spec: SourceSpec, file: SourceFile, span: Range, data: bytes, window: Window, *, give_up: bool = False
) -> Iterator[Parsed]:
    """The parts of a range, one in memory at a time. `data`: the bytes of a range of lines. `give_up`: ends after
    HOPELESS records where none could be used."""
    plan = Plan(spec)
    yield from _Parsing(plan, window, give_up).parts(pieces_of(plan, file, span, data))


class _Parsing:
    """Where parts end depends on the records and never on the window: a part that is there is the part of any run."""

    def __init__(self, plan: Plan, window: Window, give_up: bool) -> None:
        self._plan, self._window, self._give_up = plan, window, give_up
        self._making = Making(plan)
        self._account = Account(whole=True)
        self._passed = self._taken = self._rows = 0
        """Of the range, without the part in the making."""
        self._cut = False

    def parts(self, pieces: Iterator[Piece]) -> Iterator[Parsed]:
        for piece in pieces:
            if self._is_full():
                yield self._next()
            if piece.block is not None and self._is_taken_whole(piece.block):
                self._account.add(piece.block.account)
            else:
                account = Account()
                yield from self._carefully(piece, account)
                self._account.add(account)
            if not self._account.whole:
                self._account.total = 0
                break
        yield self._making.end(last=True, cut=self._cut, account=self._account)

    def _is_full(self) -> bool:
        return self._making.bytes >= PART_BYTES or self._making.rejects >= PART_REJECTS

    def _next(self) -> Parsed:
        part = self._making.end(last=False)
        self._rows += self._making.rows
        self._making = Making(self._plan)
        return part

    def _is_taken_whole(self, block: Block) -> bool:
        """Adds a block, unless the window or the reading may end within it."""
        kept, window = block.records - block.filtered, self._window
        lines = self._account.total
        if self._passed + kept <= window.skip:
            self._making.add(block, lines, outside=True)
            self._passed += kept
            return True
        useless = self._give_up and not (self._rows or self._making.rows or block.own.num_rows)
        if (
            self._passed < window.skip
            or (window.take is not None and self._taken + kept >= window.take)
            or (useless and self._taken + kept >= HOPELESS)
            or not self._making.has_room(block, PART_REJECTS)
        ):
            return False
        self._making.add(block, lines)
        self._taken += kept
        return True

    def _carefully(self, piece: Piece, account: Account) -> Iterator[Parsed]:
        """Record by record, in Python: this decides what is right."""
        lines = self._account.total
        for row in piece.careful(account):
            if self._making.rejects >= PART_REJECTS or (piece.endless and self._is_full()):
                yield self._next()
            if not self._making.passes(row):
                continue
            if self._passed < self._window.skip:
                self._passed += 1
                self._making.pass_over()
                continue
            self._taken += 1
            self._making.take(row, lines)
            if self._taken == self._window.take:
                self._cut = True
                return
            if self._give_up and self._taken == HOPELESS and not (self._rows or self._making.rows):
                return
