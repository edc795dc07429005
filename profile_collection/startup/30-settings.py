"""What commands need for this session's runs: a settings and a ROI file a detector, and the key."""

import yaml
from chx_simulation import simulated_chx_rings

from xpcs_live_denoise import save_rois

# The key of this session's server, readable by its user only; at the beamline it lies elsewhere.
_key_file = data_folder / "api_key"
_key_file.unlink(missing_ok=True)
_key_file.touch(mode=0o600)
_key_file.write_text(tiled_server.api_key, encoding="ascii")

for eiger in _detectors.values():
    save_rois(simulated_chx_rings(eiger.name), data_folder / f"{eiger.name}_rois.npz")
    settings = {
        "detector": eiger.name,
        "rois": f"{eiger.name}_rois.npz",
        "file_roots": ".",
        "tiled": {
            "uri": tiled_server.uri,
            "raw_path": RAW_PATH,
            "api_key_env": "XPCS_PROFILE_API_KEY",  # not set: a TILED_API_KEY is another server's
            "api_key_file": _key_file.name,
        },
    }
    (data_folder / f"{eiger.name}.yml").write_text(yaml.safe_dump(settings, sort_keys=False))
