"""Reading what a training and its evaluation left in a folder."""

import gzip
import json
import math

import pytest

from tsa_mt.evaluate.run_folder import ResultKey, read_run


@pytest.fixture
def folder(write_run, tmp_path):
    return write_run(tmp_path / "tsa-1", "tsa", seed=1, branches=(-1, 2))


def test_a_run_has_its_record_its_curves_and_its_results(folder):
    run = read_run(folder)
    assert run.name == "tsa-1"
    assert run.record["method"]["objective"] == "tsa"
    assert run.splits == ["train_inner", "train", "valid"]
    assert {"nll_b0", "nll_b3", "agreement", "bleu_ensemble"} <= set(run.metrics("valid"))
    bleu = run.series("valid", "bleu")
    assert [(p.update, p.epoch, p.value) for p in bleu][:2] == [(200, 1, 8.0), (400, 2, 16.0)]
    assert run.series("valid", "gnorm") == []
    assert len(run.results) == 2 * 3 * 2
    assert {key.leaf for key in run.results} == {"leader", "leaf 2", "ensemble"}


def test_a_result_has_scores_signatures_and_translations(folder):
    result = read_run(folder).results[ResultKey("best", -1, "test_a")]
    assert result.sentences == 40
    assert 20 < result.scores["BLEU"].score < 100
    assert result.scores["BLEU"].signature.startswith("nrefs:1|case:mixed|eff:no|tok:13a")
    assert result.references == (str(folder.parent / "raw" / "test_a.de"),)
    log = result.translations()
    assert log.targets == (folder.parent / "raw" / "test_a.de").read_text().splitlines()
    assert len(log.hypotheses) == 40


def test_a_run_that_has_only_begun_is_read(folder):
    curves = folder / "curves.csv"
    curves.write_text("update,epoch,split,metric,value\n100,1,train_inner,loss,nan\n200,1,tra")
    for path in (folder / "results").iterdir():
        path.unlink()
    run = read_run(folder)
    assert run.results == {}
    (point,) = run.curves
    assert point.update == 100 and math.isnan(point.value)
    curves.unlink()
    assert read_run(folder).curves == []


def test_translations_without_scores_and_scores_without_translations_are_read(folder):
    (folder / "results" / "best.test_a.json").unlink()
    (folder / "results" / "best.test_b.log").unlink()
    results = read_run(folder).results
    assert results[ResultKey("best", 0, "test_a")].scores == {}
    assert len(results[ResultKey("best", 0, "test_a")].translations().hypotheses) == 40
    with pytest.raises(FileNotFoundError, match="no log of the translations of test_b by model 'b"):
        results[ResultKey("best", 0, "test_b")].translations()


def test_a_compressed_log_is_read_like_a_plain_one(folder):
    log = folder / "results" / "best.test_a.log"
    before = read_run(folder).results[ResultKey("best", 0, "test_a")].translations()
    log.with_suffix(".log.gz").write_bytes(gzip.compress(log.read_bytes()))
    log.unlink()
    assert read_run(folder).results[ResultKey("best", 0, "test_a")].translations() == before


def test_a_folder_without_a_record_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no run.json; give a run's folder, the --save"):
        read_run(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder; give a run's folder"):
        read_run(tmp_path / "nowhere")


def test_a_record_of_another_format_is_refused(folder):
    record = folder / "run.json"
    record.write_text(json.dumps({"format": 7, "versions": {"tsa_mt": "9.0"}}))
    with pytest.raises(ValueError, match="has format 7, .* reads format 1; .* that wrote it: 9.0"):
        read_run(folder)
    record.write_text("{")
    with pytest.raises(ValueError, match="run.json is damaged, it is not JSON"):
        read_run(folder)
    record.write_text("[]")
    with pytest.raises(ValueError, match="run.json is damaged: it holds a list, not an object"):
        read_run(folder)


def test_damaged_curves_are_refused_with_the_line(folder):
    curves = folder / "curves.csv"
    curves.write_text("update,epoch,split,metric,value\n100,1,train,loss,x\n")
    with pytest.raises(ValueError, match="curves.csv, line 2: '100,1,train,loss,x' is not update"):
        read_run(folder)
    curves.write_text("update,loss\n")
    with pytest.raises(ValueError, match="has the columns update,loss; it must have update,epoch,"):
        read_run(folder)


def test_damaged_scores_are_refused(folder):
    (folder / "results" / "best.test_a.json").write_text('{"bleu": 3}')
    with pytest.raises(ValueError, match="best.test_a.json holds no scores of tsa-mt score --json"):
        read_run(folder)
