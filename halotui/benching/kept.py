"""A run's way into the store: what cannot be kept is told, and holds nothing up."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from halotui.runs import Result, Run, Sink, Store, StoreError

Tell = Callable[[str], None]


class Kept:
    """Begins the run. ``result`` returns at once, for it is called where the command's output passes."""

    def __init__(self, store: Store | None, run: Run, tell: Tell) -> None:
        self.id = 0  # 0: it is not kept
        self.sink: Sink | None = None
        self._store = store
        self._tell = tell
        self._trouble = ""
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="results")
        if store is not None:
            try:
                self.id = store.begin(run)
                self.sink = store.sink(self.id)
            except StoreError as error:
                tell(f"nothing will be kept: {_told(error)}")

    def result(self, result: Result) -> None:
        """It goes to the disk now, and not only with the end of the run."""
        if self.id:
            self._writing.submit(self._result, result)

    def finish(self, run: Run) -> Run:
        """The run with its id: 0 where the store did not take its end. Blocks."""
        self._writing.shutdown()
        if self._trouble:
            self._tell(f"a result could not be stored at once: {self._trouble}")
        if not self.id or self._store is None:
            return run
        try:
            self._store.finish(self.id, run)
        except StoreError as error:
            self._tell(f"the end of run {self.id} could not be stored: {_told(error)}")
        return run

    def _result(self, result: Result) -> None:
        assert self._store is not None
        try:
            self._store.result(self.id, result)
        except StoreError as error:  # the end of the run brings it again
            self._trouble = _told(error)


def _told(error: StoreError) -> str:
    return f"{error.reason} ({error.hint})" if error.hint else error.reason
