"""Live XPCS: C2, Gamma(t) and a window while a series is taken; results go to Tiled."""

from xpcs_live_denoise import LiveDenoise, LivePlot, Settings, results
from xpcs_live_denoise.live import SeriesProgress

# At the beamline three lines do: Settings.load("xpcs.yml"), LiveDenoise(settings, device=...),
# RE.subscribe(...). Here the server is this session's own, and there are three detectors.
live_plot = LivePlot(os.environ.get("XPCS_PLOT"))
live_denoise = {}
for eiger in (eiger4m_single, eiger1m_single, eiger500K_single):
    live_denoise[eiger.name] = LiveDenoise(
        Settings.load(data_folder / f"{eiger.name}.yml"),
        catalog=catalog,
        device=eiger,
        plot=live_plot,
    )
    RE.subscribe(live_denoise[eiger.name])
live_denoise["eiger4m_single"].prepare()  # the first series need not wait for the ensemble
RE.waiting_hook = SeriesProgress(*live_denoise.values())
print(
    f"""
RE, series(), count         take data with {", ".join(live_denoise)}
live_denoise[name].status   how far the analysis of each run is
results(catalog, uid)       what was stored of a run; Tiled server at {tiled_server.uri}
Try:  uids = series(det="eiger4m", expt=0.1, imnum=400)
"""
)
