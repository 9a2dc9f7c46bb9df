"""
The setting of one run: where its files are, how long it takes, on which cores.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from bench.wire import Load


class Setting(NamedTuple):
    """
    What every part is given.

    @ivar directory: for all files, on the file system whose flushes are measured.
    @ivar rounds: how many of those that take longer.
    @ivar starts: how many of process starts.
    @ivar slice_ms: how long one slice of load takes.
    @ivar load: the generator.
    """

    directory: Path
    cores: list[int]
    rounds: int
    starts: int
    slice_ms: int
    load: Load
    short: bool
