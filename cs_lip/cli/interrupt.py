"""Ctrl-C that keeps what was found so far."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import click


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """What a recovery can ask as its ``cancel``: whether Ctrl-C was pressed within the block.

    The first Ctrl-C lets the recovery end with its best so far, which is then written as usual; a second one ends the
    program at once. Only the main thread of a program hears signals, so elsewhere the answer stays False.
    """
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed.is_set
        return

    def listen(number: int, frame: FrameType | None) -> None:
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()
        click.echo("\nInterrupted: what was found so far is kept; press Ctrl-C again to leave at once.", err=True)

    before = signal.signal(signal.SIGINT, listen)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)
