"""What the tests of Eiger files share: a series of frames and its files."""

import numpy as np

from xpcs_live_denoise.records.frames import EigerFrames, MissingFrames
from xpcs_live_denoise.simulation.eiger import SeriesFiles

FRAMES = np.random.default_rng(5).poisson(3, (23, 12, 16)).astype(np.uint16)


def series_files(folder, sequence_id=3, *, n_frames=23, images_per_file=10, prefix="gel", **more):
    return SeriesFiles(
        series=folder / f"{prefix}_{sequence_id}",
        n_frames=n_frames,
        images_per_file=images_per_file,
        frame_shape=FRAMES.shape[1:],
        dtype=FRAMES.dtype,
        frame_time_s=0.01,
        **more,
    )


def write_file(files, number):
    first = (number - 1) * files.images_per_file
    files.write_data(number, FRAMES[first : first + files.images_per_file])


def write_series(folder, *, master=True, without=(), **options):
    files = series_files(folder, **options)
    if master:
        files.write_master()
    for number in range(1, files.n_files + 1):
        if number not in without:
            write_file(files, number)
    return files


def frames_of(folder, start=0, stop=23, images_per_file=10, sequence_id=3, **more):
    return EigerFrames(
        prefix=str(folder / "gel"),
        sequence_id=sequence_id,
        start=start,
        stop=stop,
        images_per_file=images_per_file,
        **more,
    )


def outline(pieces):
    """Return the length of each block, and the type MissingFrames where frames are missing."""
    return [MissingFrames if isinstance(piece, MissingFrames) else len(piece) for piece in pieces]


def lengths_of(pieces):
    return [piece.n_frames if isinstance(piece, MissingFrames) else len(piece) for piece in pieces]
