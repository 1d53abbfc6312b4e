"""Processes of a pool, and the end of the one that started them."""

import multiprocessing
import os
import threading


def end_with_parent() -> None:
    """Called in a process of a pool: it would wait for work of a parent that was killed for ever, since it holds both
    ends of their pipe."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent,), name="parent", daemon=True).start()


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)
