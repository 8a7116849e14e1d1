"""What Ctrl-C does: end a command with its own exit code, or a recovery with what it found so far."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import click

from cs_lip.cli.exit_codes import INTERRUPTED
from cs_lip.recovery import Recovery, Status


class InterruptibleGroup(click.Group):
    """Commands that Ctrl-C ends with exit code 130, where click says "Aborted!" with 1, as if something had failed."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo(err=True)  # ends the line on which the terminal shows ^C
            raise click.exceptions.Exit(INTERRUPTED) from None


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


def end(recovery: Recovery) -> None:
    """The end of a command that has kept a recovery: exit code 130 where Ctrl-C cut that short."""
    if Status.INTERRUPTED in recovery.status:
        raise click.exceptions.Exit(INTERRUPTED)
