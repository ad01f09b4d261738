"""What comes between: Ctrl-C, a fork, a disk that is full; the next fit in the process is whole."""

import os
import signal
import sys

import numpy as np
import pytest

from mixef.late import load
from mixef.linalg import threads
from mixef.linalg.kernels import jit
from mixef.linalg.threads import one_blas_thread
from mixef.terms.relation.engines import reading


@pytest.fixture(autouse=True)
def handler():
    """Take Python's own handler, which processes that begin in the background do not have."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Pool:
    """A pool of BLAS threads whose n-th change Ctrl-C meets."""

    def __init__(self, interrupted=0):
        self.threads, self.changes, self.interrupted = 4, 0, interrupted

    def get_num_threads(self):
        return self.threads

    def set_num_threads(self, threads):
        self.changes += 1
        if self.changes == self.interrupted:
            raise KeyboardInterrupt
        self.threads = threads


@pytest.mark.parametrize("change", [1, 2])
def test_pools_have_their_threads_back_after_an_interrupt(monkeypatch, change):
    pools = [Pool(), Pool(change), Pool()]
    monkeypatch.setattr(threads, "_pools", lambda: pools)
    with pytest.raises(KeyboardInterrupt), one_blas_thread():
        assert [pool.threads for pool in pools] == [1, 1, 1]
    assert [pool.threads for pool in pools] == [4, 4, 4]
    with one_blas_thread():
        assert [pool.threads for pool in pools] == [1, 1, 1]
    assert [pool.threads for pool in pools] == [4, 4, 4]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded")  # Python warns of any fork then
def test_a_forked_process_is_in_no_block():
    with one_blas_thread():
        child = os.fork()
        if not child:
            os._exit(len(threads._blocks) + threads._lock.locked())
        assert os.waitpid(child, 0)[1] == 0
        assert len(threads._blocks) == 1


def test_an_import_is_whole_before_an_interrupt_comes(tmp_path, monkeypatch):
    text = "import signal\nsignal.raise_signal(signal.SIGINT)\nlast = 1\n"
    (tmp_path / "interrupted.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        load("interrupted")
    assert sys.modules.pop("interrupted").last == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupted_query_is_an_interrupt():
    """DuckDB makes an error of its own of Ctrl-C; how soon depends on the process it runs in."""
    with pytest.raises(KeyboardInterrupt), reading("duckdb"):
        raise RuntimeError("INTERRUPT Error: Query interrupted")


@pytest.mark.parametrize("verb", ["save", "load"])
def test_compiled_code_that_cannot_be_kept_is_compiled_anew(monkeypatch, verb):
    caching = pytest.importorskip("numba.core.caching")

    def fails(*_):
        raise OSError("no space left on device") if verb == "save" else EOFError

    monkeypatch.setattr(caching.IndexDataCacheFile, verb, fails)
    assert jit(_twice)(np.float64(2.0)) == 4.0


def _twice(x: float) -> float:
    return 2.0 * x
