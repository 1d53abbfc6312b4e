"""Opens a source file: what its first bytes show, unpacking, encoding. Known causes are named, never called damage."""

import codecs
import io
import re
from collections.abc import Callable
from typing import IO, Any

import fsspec.compression
import pyarrow as pa

from embed_worker.extras import EXTRAS, sentence
from embed_worker.steps.errors import SourceError

HEAD = 1 << 20
"""Bytes that are looked at before anything is read."""
CHUNK = 1 << 18
PACKED = {
    b"\x1f\x8b\x08": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz",
    b"\x04\x22\x4d\x18": "lz4",
}  # fmt: skip
OTHERS: dict[bytes, str] = {
    b"PK\x03\x04": "a zip archive or an Excel file; name the file in it: zip://FILE::{url}",
    b"7z\xbc\xaf": "a 7z archive; unpack it",
    b"Rar!": "a rar archive; unpack it",
    b"\x1f\x9d": "packed by compress (.Z); unpack it",
    b"%PDF-": "a PDF, no data",
    b"\xd0\xcf\x11\xe0": "an old Excel file; save it as CSV",
    b"\x00\x05\x16\x07": "an AppleDouble file (._…) that macOS left; name the file beside it",
    b"version https://git-lfs": "a Git LFS pointer, not the data; run `git lfs pull`",
    b"ARROW1": "an Arrow (feather) file; write it as Parquet",
    b"Obj\x01": "an Avro file; write it as Parquet",
    b"ORC": "an ORC file; write it as Parquet",
    b"SQLite format 3": "an SQLite database; export the table",
    b"\x89HDF": "an HDF5 file; write it as Parquet",
    b"\x80\x04\x95": "a Python pickle; write it as Parquet",
    b"\x80\x05\x95": "a Python pickle; write it as Parquet",
}  # fmt: skip
MARKS = {
    codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF32_LE: "utf-32-le", codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be",
}  # fmt: skip
"""Longer marks first: UTF-32's begins as UTF-16's."""


class Unpacked(io.RawIOBase):
    """A stream of bytes with its head given back, that counts line ends as they pass."""

    def __init__(self, head: bytes, rest: IO[bytes], line_end: bytes = b"\n") -> None:
        self._head, self._rest, self._line_end = head, rest, line_end
        self.lines = 0
        """Line ends so far, and one for a last line without."""
        self.bytes = 0
        self._last = line_end

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = len(buffer)
        data = self._head[:size] if self._head else self._rest.read(size)
        if self._head:
            self._head = self._head[size:]
        buffer[: len(data)] = data
        if data:
            self.bytes += len(data)
            self.lines += data.count(self._line_end)
            self._last = data[-1:]
        elif self._last != self._line_end:
            self.lines += 1
            self._last = self._line_end
        return len(data)


def head_of(stream: IO[bytes]) -> bytes:
    """The first bytes, as many as there are: a pipe or a decompressor gives fewer at a time."""
    found = bytearray()
    while len(found) < HEAD and (data := stream.read(HEAD - len(found))):
        found += data
    return bytes(found)


def packing_of(head: bytes) -> str | None:
    """The compression that the first bytes show."""
    found = next((kind for magic, kind in PACKED.items() if head.startswith(magic)), None)
    if found == "bz2" and not re.match(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)", head):
        return None  # a text may begin so
    return found


def unpacked(
    open_stored: Callable[[], IO[bytes]], url: str, compression: str, named: str | None, window: int
) -> IO[bytes]:
    """The decompressed bytes; `compression` is `infer`, `none` or one of them, `named` what the name says."""
    stored = open_stored()
    head = stored.read(64) or b""
    if stored.seekable():
        stored.seek(0)
    else:  # a stream: it is asked for once more
        stored.close()
        stored = open_stored()
    shown = packing_of(head)
    if compression == "infer" and shown is None and named is not None and head:
        raise SourceError(
            f"{url} is cut off, damaged or not {named}: it begins with {head[:8]!r}; fetch it again, or set "
            "`compression: none` if it is unpacked"
        )
    if compression == "none" or (compression == "infer" and shown is None):
        return stored
    kind = shown if compression == "infer" else compression
    if shown != kind and head:
        raise SourceError(f"{url} is not {kind}: it begins with {head[:8]!r}; correct `compression:` or remove it")
    if kind == "zstd":
        return _zstd(stored, url, head, window)
    if kind == "lz4":
        return _arrow(stored, kind)
    opened: IO[bytes] = fsspec.compression.compr[kind](stored, mode="rb")
    return opened


def _arrow(stored: IO[bytes], kind: str) -> IO[bytes]:
    # Arrow's: it reads every frame of the file, and notices a cut one.
    found: IO[bytes] = pa.input_stream(stored, compression=kind)
    return found


def _zstd(stored: IO[bytes], url: str, head: bytes, window: int) -> IO[bytes]:
    wanted = zstd_window(head)
    if wanted > window:
        raise SourceError(
            f"{url} is packed with a zstd window of {wanted >> 20:,} MiB (--long={wanted.bit_length() - 1}), and "
            f"{window >> 20:,} MiB are allowed; set `decompression_window: {wanted}`, or unpack it"
        )
    if wanted <= 128 << 20:
        return _arrow(stored, "zstd")
    try:
        import zstandard
    except ImportError as error:
        raise SourceError(
            f"{url} is packed with a zstd window of {wanted >> 20:,} MiB: {sentence('zstd', *EXTRAS['zstd'])}, "
            "or unpack it"
        ) from error
    reader = zstandard.ZstdDecompressor(max_window_size=wanted).stream_reader(stored, read_across_frames=True)
    found: IO[bytes] = reader
    return found


def zstd_window(head: bytes) -> int:
    """Bytes of memory that the first frame wants, by its header; 0 where it does not say."""
    if len(head) < 6 or head[4] & 0x20:  # a single segment's window is its content
        return 0
    exponent, mantissa = head[5] >> 3, head[5] & 7
    base = 1 << (10 + exponent)
    return base + (base >> 3) * mantissa


def check_head(url: str, head: bytes, *, of_text: bool) -> None:
    """Raises SourceError where the first bytes show that this is no data of ours."""
    if (kind := packing_of(head)) is not None:
        raise SourceError(f"{url} is {kind}, packed twice or read with `compression: none`; unpack it")
    for magic, what in OTHERS.items():
        if head.startswith(magic):
            raise SourceError(f"{url} is {what.format(url=url)}")
    start = head[:2048].removeprefix(codecs.BOM_UTF8).lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head")) or (start.startswith(b"<") and b"<html" in start):
        raise SourceError(f"{url} is an HTML page, such as one to sign in or to say an error; fetch the file itself")
    if start.startswith(b"<?xml"):
        raise SourceError(f"{url} is XML, such as a store's error; fetch the file itself, or convert it")
    if of_text and head.startswith(b"PAR1"):
        raise SourceError(f"{url} is Parquet; set `format: parquet`")


def as_utf8(stream: IO[bytes], url: str, head: bytes, encoding: str | None) -> tuple[bytes, IO[bytes]]:
    """Head and rest of a text file in UTF-8 without a byte order mark."""
    mark = next((mark for mark in MARKS if head.startswith(mark)), None)
    marked = MARKS[mark] if mark is not None else None
    if mark is not None and (encoding is None or encoding.startswith(marked or "") or marked.startswith(encoding)):  # type: ignore[union-attr]
        head, encoding = head[len(mark) :], marked
    if encoding in (None, "utf-8", "utf-8-sig", "ascii"):
        if encoding is None and b"\x00" in head[:4096] and (guess := _wide(head[:4096])):
            raise SourceError(f"{url} looks like {guess} without a byte order mark; set `encoding: {guess}`")
        return head, stream
    if encoding in ("utf-16", "utf-32"):
        raise SourceError(f"{url} has no byte order mark; set `encoding: {encoding}-le` or `{encoding}-be`")
    recoded = _Recoded(head, stream, str(encoding))
    return head_of(recoded), recoded  # type: ignore[arg-type,return-value]


def _wide(head: bytes) -> str | None:
    if len(head) < 20:
        return None
    even, odd = head[::2].count(0), head[1::2].count(0)
    if odd > 0.4 * len(head) / 2 and even < odd / 8:
        return "utf-16-le"
    return "utf-16-be" if even > 0.4 * len(head) / 2 and odd < even / 8 else None


class _Recoded(io.RawIOBase):
    """Text of another encoding as UTF-8; a byte that it has no character for becomes half a surrogate pair."""

    def __init__(self, head: bytes, rest: IO[bytes], encoding: str) -> None:
        self._given, self._rest = head, rest
        self._decoder = codecs.getincrementaldecoder(encoding)("embed_worker.mark")
        self._ready = b""
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready and not self._ended:
            data = self._given or self._rest.read(CHUNK)
            self._given = b""
            self._ended = not data
            self._ready = self._decoder.decode(data, final=not data).encode("utf-8", "surrogatepass")
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size


def _mark(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "".join(chr(0xDC00 + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error("embed_worker.mark", _mark)
