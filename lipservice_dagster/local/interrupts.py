"""Ending on a signal: SIGTERM and a closed terminal's SIGHUP end a block as Ctrl-C does, whatever holds them back.

Dagster catches the first and Ctrl-C's while it runs steps, and can let one pass unheard. So what arrives is also noted
beside the handlers, and sent again each second until it is heard.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt in the block, once, on SIGINT, SIGTERM or SIGHUP; later ones leave its clean-up alone.

    SIGHUP that is ignored, as under nohup, stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = threading.Event()
    signals = [each for each in _SIGNALS if each != signal.SIGHUP or signal.getsignal(each) != signal.SIG_IGN]

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        heard.set()
        for each in signals:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def insist() -> None:
        os.read(reader, 1)
        while not heard.wait(1):
            os.kill(os.getpid(), signal.SIGTERM)

    insisting = threading.Thread(target=insist, name="interrupts", daemon=True)
    handlers = {each: signal.signal(each, interrupt) for each in signals}
    noted = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    insisting.start()
    try:
        yield
    finally:
        heard.set()
        signal.set_wakeup_fd(noted)
        for each, handler in handlers.items():
            signal.signal(each, handler)
        os.write(writer, b"\0")
        insisting.join()
        os.close(writer)
        os.close(reader)
