"""series(), as it is called at CHX, and the plans of bluesky."""

from bluesky.plans import count
from chx_simulation import chx_series, detector_named

_detectors = {
    "eiger4m": eiger4m_single,
    "eiger1m": eiger1m_single,
    "eiger500K": eiger500K_single,
}


def series(det="eiger4m", expt=0.1, acqp=None, imnum=5, comment="", **md):
    """Take `imnum` images with exposure `expt` and period `acqp` (s)."""
    md = {"comment": comment, **md} if comment else md
    eiger = detector_named(det, _detectors)
    return RE(chx_series(eiger, expt=expt, acqp=acqp, imnum=imnum, md=md))
