"""Finds ids that were seen before, in bounded memory: SQLite on a scratch disk."""

import errno
import hashlib
import sqlite3
from pathlib import Path


class SeenIds:
    """A set of ids by 128-bit digest. 30 million ids take about 1 GB of scratch disk and 64 MB of memory."""

    def __init__(self, folder: Path) -> None:
        self._db = sqlite3.connect(folder / "ids.sqlite", isolation_level=None)
        self._db.execute("PRAGMA journal_mode=OFF")
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.execute("PRAGMA cache_size=-65536")
        self._db.execute("CREATE TABLE ids (digest BLOB PRIMARY KEY) WITHOUT ROWID")
        self._db.execute("BEGIN")

    def add(self, id_: str) -> bool:
        """False where the id was there already."""
        digest = hashlib.blake2b(id_.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        try:
            return self._db.execute("INSERT OR IGNORE INTO ids VALUES (?)", (digest,)).rowcount == 1
        except sqlite3.OperationalError as error:
            if "full" not in str(error):
                raise
            raise OSError(errno.ENOSPC, "no space left for the set of ids") from error

    def close(self) -> None:
        self._db.close()
