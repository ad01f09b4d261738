"""A progress bar that appears after a while, so that short work shows none and loads no tqdm."""

from __future__ import annotations

import time
import warnings
from typing import Any, Self

from mixef.late import load

# A progress bar appears only after this many seconds.
DELAY = 2.0


class LateBar:
    """A progress bar on a terminal or in a notebook.

    Parameters
    ----------
    label : str
    total : int, optional
        Steps to the end, where that is known.
    progress : bool, optional
        Whether to show it; None for where there is a terminal.
    options : Any
        Others of tqdm's.
    """

    def __init__(
        self,
        label: str = "",
        total: int | None = None,
        progress: bool | None = None,
        **options: Any,
    ):
        self._label, self._total, self._done = label, total, 0
        self._options = options | {"disable": None if progress is None else not progress}
        self._begin, self._bar, self._over = time.monotonic(), None, False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def restart(self, label: str, total: int | None) -> None:
        """Go on with another piece of the work."""
        self._label, self._total, self._done = label, total, 0
        if self._bar is not None:
            self._bar.set_description(label)
            self._bar.reset(total)

    def advance(self, steps: int = 1) -> None:
        """Take in that steps were done; after the end of the work nothing is shown."""
        self._done += steps
        if self._bar is not None:
            self._bar.update(steps)
        elif not self._over and time.monotonic() - self._begin > DELAY:
            self._bar = self._made()

    def _made(self) -> Any:
        with warnings.catch_warnings():
            # In a notebook without ipywidgets tqdm asks for them; the bar is one of text then.
            warnings.simplefilter("ignore")
            tqdm = load("tqdm.auto").tqdm
        known = {"desc": self._label, "total": self._total, "initial": self._done, "leave": False}
        return tqdm(**known, **self._options)
