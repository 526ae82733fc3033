"""A disk so small that a test can fill it: a tmpfs mounted on a folder."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_MB = bytes(2**20)


@contextmanager
def small_disk(folder: Path, *, size: str) -> Iterator[None]:
    """Have `folder`, made if missing, lie on a disk of its own, of a size like `64k` or `20m`.

    The test is skipped where nothing can be mounted.
    """
    folder.mkdir(exist_ok=True)
    arguments = ["-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", str(folder)]
    mount = subprocess.run(["mount", *arguments], check=False, capture_output=True, text=True)
    if mount.returncode != 0:
        pytest.skip(f"NOT RUN: no tmpfs can be mounted here: {mount.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Take what space the disk of `folder` has left, to the last byte, and give it back afterwards."""
    filler = folder / "filler"
    try:
        with filler.open("wb", buffering=0) as file:
            for piece in (_MB, b"\0" * 4096, b"\0"):
                with contextlib.suppress(OSError):
                    while file.write(piece):
                        pass
        yield
    finally:
        filler.unlink()
