"""Which records give a row: an id and a text that can be embedded, else the reason why not."""

from typing import Any

from embed_worker.steps.readers.parquet import UNREADABLE
from embed_worker.steps.values import excerpt, json_text, storable, why_not_storable


def why_not(id_: str | None, text: str | None, most_bytes: int) -> tuple[str | None, str] | None:
    """As (id, reason) why a record gives no row; None where it does."""
    if id_ is None or not id_.strip():
        return None, "no id"
    if not storable(id_):
        return id_.encode("ascii", "backslashreplace").decode(), why_not_storable(id_)
    if text is None:
        return id_, "null text"
    if not text.strip():
        return id_, "blank text" if text else "empty text"
    if not storable(text):
        return id_, why_not_storable(text)
    if text_bytes(text) > most_bytes:
        return id_, "text too long"
    return None


def text_bytes(text: str) -> int:
    """Its size in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def shown(record: dict[str, Any], reason: str, encoding: str | None) -> tuple[str, str]:
    """Detail and excerpt of a record that was set aside."""
    detail = ""
    if reason == "invalid UTF-8":
        detail = f"not {encoding}" if encoding else "set `encoding:`, such as cp1252"
    return detail, excerpt(json_text({n: v for n, v in record.items() if v is not UNREADABLE}) or "")
