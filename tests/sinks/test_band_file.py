"""The band of a long series in a file of its own."""

import h5py
import numpy as np

from xpcs_live_denoise.records.results import BandRows
from xpcs_live_denoise.sinks.band_file import BandFile


def test_rows_that_are_denoised_only_later_stand_at_their_frames(tmp_path):
    file, values = BandFile(tmp_path / "band.h5"), np.ones((2, 10, 5), np.float32)
    file.write(BandRows(start=0, stop=10, c2=values))
    file.write(BandRows(start=10, stop=20, c2=values, denoised=values, spread=values))
    file.close()
    with h5py.File(tmp_path / "band.h5") as stored:
        assert stored["c2"].shape == stored["denoised"].shape == (2, 20, 5)
        assert np.isnan(stored["denoised"][:, :10]).all()
        assert (stored["denoised"][:, 10:] == 1).all()
