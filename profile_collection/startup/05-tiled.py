"""The catalog: at the beamline from_profile("nsls2")["chx"], here a server of our own."""

import os
from zlib import crc32

from bluesky_tiled_plugins import TiledWriter

from xpcs_live_denoise.catalog import RAW_PATH, EmbeddedServer
from xpcs_live_denoise.errors import InvalidInputError

# One port a profile, so that pages and commands find it again; the folder decides which.
port = int(os.environ.get("XPCS_PROFILE_PORT") or 20000 + crc32(os.fsencode(data_folder)) % 10000)
try:
    tiled_server = EmbeddedServer(
        data_folder / "catalog", log_path=data_folder / "tiled.log", readable=data_folder, port=port
    ).start()
except InvalidInputError as error:
    raise SystemExit(
        f"The profile's port {port} is taken, maybe by another session of this profile: close "
        f"that one, or set XPCS_PROFILE_DATA to another folder, or XPCS_PROFILE_PORT. {error}"
    ) from error
os.environ["TILED_API_KEY"] = tiled_server.api_key
catalog = tiled_server.client()
# A scan must not depend on the server: what cannot be written goes to the backup folder.
RE.subscribe(
    TiledWriter(catalog[RAW_PATH], batch_size=1, backup_directory=str(data_folder / "backup"))
)
