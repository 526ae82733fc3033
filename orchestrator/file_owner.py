"""Touching files with the rights of their owner, so that root follows no link where the owner may not go."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.ports import Owner


@contextmanager
def acting_as(owner: Owner | None) -> Iterator[None]:
    """Let this thread, and no other, open and make files as `owner` until the context is left; None: as is.

    For root only; nothing may be awaited inside. The kernel keeps this identity for each thread, setfsuid(2).
    """
    if owner is None:
        yield
        return
    libc = ctypes.CDLL(None)
    libc.setfsgid(owner.gid)
    libc.setfsuid(owner.uid)
    try:
        yield
    finally:
        libc.setfsuid(os.geteuid())
        libc.setfsgid(os.getegid())
