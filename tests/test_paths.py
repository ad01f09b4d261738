"""Data in a file: its path leads there from any folder, and estimates outlive it."""

import pickle

import pytest
from reference_data import frame

from mixef import lmer
from mixef.errors import RowsElsewhereError

pytest.importorskip("duckdb")


def test_a_relative_path_leads_there_from_any_folder(tmp_path, monkeypatch):
    data, other = tmp_path / "data", tmp_path / "other"
    data.mkdir()
    other.mkdir()
    monkeypatch.chdir(data)
    frame("sleepstudy").to_parquet("sleep.parquet")
    fit = lmer("Reaction ~ Days + (1 | Subject)", "sleep.parquet")
    text = pickle.dumps(fit)
    monkeypatch.chdir(other)
    for there in (fit, pickle.loads(text)):
        assert len(there.fitted()) == 180
        assert there.update("~ . - Days").nobs == 180
    (data / "sleep.parquet").unlink()
    kept = pickle.loads(text)
    assert "Days" in str(kept.summary())
    assert kept.confint(method="wald").equals(fit.confint(method="wald"))
    with pytest.raises(RowsElsewhereError, match=r"fitted\(\) needs .* files that are where"):
        kept.fitted()
