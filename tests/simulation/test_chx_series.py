"""The plan of CHX's series: what it sets, and what it refuses before it begins."""

import numpy as np
import pytest

from profile_collection.chx_simulation import chx_series, detector_named, simulated_chx_eiger
from xpcs_live_denoise import InvalidInputError


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"expt": "abc"}, "got expt='abc'; expected a number above 0"),
        ({"expt": None}, "got expt=None"),
        ({"expt": float("nan")}, "got expt=nan"),
        ({"acqp": 0}, "got acqp=0"),
        ({"imnum": 0}, "got imnum=0"),
        ({"imnum": "x"}, "got imnum='x'"),
        ({"imnum": 1.5}, "got imnum=1.5; expected a whole number"),
        ({"images_per_file": True}, "got images_per_file=True"),
    ],
)
def test_what_cannot_be_taken_is_refused_at_the_call(arguments, message):
    with pytest.raises(InvalidInputError, match=message):
        chx_series(None, **arguments)  # the detector is not asked for anything


@pytest.mark.parametrize("name", ["eiger9m", "", None, ["eiger4m"]])
def test_a_detector_that_is_not_there_is_answered_with_those_that_are(name):
    with pytest.raises(InvalidInputError, match="expected one of 'eiger4m', 'eiger1m'"):
        detector_named(name, {"eiger4m": 4, "eiger1m": 1})


@pytest.mark.parametrize(("acqp", "period"), [(None, 0.5), (0.1, 0.5), (2, 2.0)])
def test_what_the_plan_sets_before_it_counts(tmp_path, acqp, period):
    detector = simulated_chx_eiger("eiger500K_single", tmp_path)
    plan = chx_series(detector, expt=np.float32(0.5), acqp=acqp, imnum=1e2)
    values = []
    for message in plan:
        if message.command != "set":
            break
        values.append(message.args[0])
    plan.close()
    assert values == [0.5, period, 100, 50]
