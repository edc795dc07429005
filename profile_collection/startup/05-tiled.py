"""The catalog: at the beamline from_profile("nsls2")["chx"], here a server of our own."""

import os

from bluesky_tiled_plugins import TiledWriter

from xpcs_live_denoise.catalog import RAW_PATH, EmbeddedServer

tiled_server = EmbeddedServer(
    data_folder / "catalog", log_path=data_folder / "tiled.log", readable=data_folder
).start()
os.environ["TILED_API_KEY"] = tiled_server.api_key
catalog = tiled_server.client()
# A scan must not depend on the server: what cannot be written goes to the backup folder.
RE.subscribe(
    TiledWriter(catalog[RAW_PATH], batch_size=1, backup_directory=str(data_folder / "backup"))
)
