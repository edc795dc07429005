"""What the stop document of a derived run tells of each ROI, so that no run need be opened."""

from __future__ import annotations

import math

import numpy as np

from xpcs_live_denoise import views
from xpcs_live_denoise.numerics.fits import power_law, typical_rates
from xpcs_live_denoise.records.results import GammaTable, Picture, Publication, Result
from xpcs_live_denoise.records.run import RunInfo, Status
from xpcs_live_denoise.records.types import Document, FloatArray

MOST_PARTS = 50  # tables of provisional rows that are kept before they are made one


class Summary:
    """The rows and the image of a run that its summary is made of: the final ones, or the newest.

    A run that has no final result is summed up by its provisional rows.
    """

    def __init__(self) -> None:
        self._rows: list[GammaTable] = []
        self._picture: Picture | None = None
        self._dose: FloatArray | None = None
        self._final = False

    def take(self, record: Publication | Result) -> None:
        """Take what a record knows; a final result in the place of all before it."""
        self._picture = record.picture or self._picture
        if isinstance(record, Result):
            self._rows, self._final = [_that_count(record.gamma)], True
            if (counted := record.intensity) is not None:
                known = np.isfinite(counted.roi_mean).any(axis=0)
                dose = np.nansum(counted.roi_mean, axis=0, dtype=np.float64)
                self._dose = np.where(known, dose, np.nan)
        elif record.gamma is not None and not self._final:
            self._rows.append(_that_count(record.gamma))
            if len(self._rows) > MOST_PARTS:
                self._rows = [self._newest()]

    def document(self, info: RunInfo, status: Status, n_frames: int) -> Document:
        """Return the summary: numbers of the run, and lists with an entry a ROI, NaN for unknown.

        Typical rates are those of `typical_rates`; alpha, beta and baseline the medians of the same
        rows, or beta* and baseline* of a ROI without any.
        """
        found: Document = {
            "final": self._final,
            "n_frames": n_frames,
            "n_skipped": status.n_skipped,
            "time_unit": info.time_unit,
            "roi": info.roi,
            "q_inv_angstrom": info.q_inv_angstrom,
        }
        if info.phi_deg:
            found["phi_deg"] = info.phi_deg
        n_roi = len(info.roi)
        columns = {name: np.full(n_roi, math.nan) for name in TYPICAL}
        columns["beta"][:] = _per_roi(status.contrast, n_roi)
        columns["baseline"][:] = _per_roi(status.baseline, n_roi)
        columns["n_ages"][:] = 0
        columns["dose"][:] = self._doses(info, status)
        law = diffusion = None
        if self._rows:
            rows = self._newest()
            rates = typical_rates(rows)
            for label, ln_rate, error, n_ages in zip(
                rates.roi, rates.ln_rate, rates.ln_rate_error, rates.n_ages, strict=True
            ):
                if label not in info.roi:
                    continue
                at, own = info.roi.index(int(label)), rows.select(rows.roi == label)
                columns["relaxation_rate"][at] = rate = math.exp(ln_rate)
                columns["relaxation_rate_error"][at] = rate * error
                columns["n_ages"][at] = n_ages
                for name in ("alpha", "beta", "baseline"):
                    known = getattr(own, name)[np.isfinite(getattr(own, name))]
                    if known.size:
                        columns[name][at] = np.median(known)
            law, diffusion = power_law(rates), power_law(rates, exponent=2.0)
        found |= {name: values.tolist() for name, values in columns.items()}
        found["n_ages"] = list(map(int, found["n_ages"]))
        return found | {
            "exponent": None if law is None else law.exponent,
            "exponent_error": None if law is None else law.exponent_error,
            "diffusion": None if diffusion is None else diffusion.prefactor,
            "diffusion_error": None if diffusion is None else diffusion.prefactor_error,
        }

    def _doses(self, info: RunInfo, status: Status) -> FloatArray:
        """Return what a pixel of each ROI has counted in all frames, as I(t) or the image tells."""
        if self._dose is not None and len(self._dose) == len(info.roi):
            return self._dose
        counts = [views.mean_counts(self._picture, label) for label in info.roi]
        return status.n_processed * np.array(counts, np.float64)

    def _newest(self) -> GammaTable:
        """Return the rows as one table, of each ROI and age the newest alone."""
        rows = GammaTable.concatenate(self._rows)
        keys = np.column_stack([rows.roi, np.nan_to_num(rows.age_frame, nan=-1.0)])[::-1]
        _, first = np.unique(keys, axis=0, return_index=True)
        return rows.select(np.sort(len(rows) - 1 - first))


# Of each ROI, in the summary of a run.
TYPICAL = (
    "relaxation_rate", "relaxation_rate_error", "n_ages", "alpha", "beta", "baseline", "dose",
)  # fmt: skip


def _that_count(gamma: GammaTable) -> GammaTable:
    return gamma.select(gamma.recommended & gamma.converged)


def _per_roi(values: tuple[float, ...], n_roi: int) -> FloatArray:
    """Return what is known of each ROI, (n_roi,)."""
    return np.array([*values, *[math.nan] * n_roi][:n_roi], np.float64)
