"""What is said of a ramp-up that may never end."""

import pytest

from tsa_mt import pairing
from tsa_mt.objectives import Context, build_objective
from tsa_mt.objectives.ramp import doubt, full_at, progress


def okddip(**options):
    return build_objective("okddip", "0(1,1,1)", 8, 5, **options)


def test_the_update_of_nine_tenths_is_where_the_weight_is():
    okd = okddip(rampup_updates=1000, start=300)
    reached = full_at(okd, 0)
    weights = [okd.ramp(Context(progress(okd, reached + by, 0))) for by in (-1, 0)]
    assert weights[0] < 0.9 <= weights[1]


def test_a_fraction_of_max_update_is_doubted_where_the_training_may_end_before():
    said = doubt(okddip(), 300_000, ["--patience"])
    assert "distils with 90% of its weight from update 68,388 on" in said
    assert "--patience may end the training long before" in said and "--kd-rampup-updates" in said
    assert doubt(okddip(), 300_000, []) == ""
    assert doubt(okddip(rampup_updates=500), 300_000, ["--patience"]) == ""
    assert doubt(okddip(), 0, ["--patience"]) == ""  # no length: the criterion refuses it
    assert doubt(build_objective("tsa", "0(1,1)", 8, 5), 300_000, ["--patience"]) == ""


@pytest.mark.parametrize("options", [{"rampup_updates": 900}, {"start": 2000, "rampup": 0.0}])
def test_a_ramp_up_or_a_start_beyond_the_end_is_told(options):
    assert "and --max-update 500 ends the training before" in doubt(okddip(**options), 500, [])


def test_what_was_reached_is_told_at_the_end(caplog, monkeypatch):
    model = type("Model", (), {"objective": okddip(rampup_updates=100)})()
    monkeypatch.setattr(pairing, "_REACHED", {})
    pairing._REACHED.update(pairing._reached(model, 50, 0))
    pairing._tell()
    message = "distillation of objective 'okddip' reached 28.7% of its weight at update 50"
    assert message in caplog.text
    caplog.clear()
    pairing._REACHED.update(pairing._reached(model, 90, 0))
    pairing._tell()
    assert caplog.text == ""


def test_nothing_is_said_to_be_reached_of_a_ramp_up_without_a_known_length():
    model = type("Model", (), {"objective": okddip()})()
    assert pairing._reached(model, 50, 0) == {}
