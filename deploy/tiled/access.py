"""Makes the keys, containers and access tags of access.yml on a production Tiled server.

    python access.py access.yml --uri http://127.0.0.1:8000 --keys /etc/xpcs/keys

Repeat it after each change: what is there already stays, and keys whose name is gone are revoked.
Reads XPCS_TILED_ADMIN_PASSWORD and XPCS_TILED_CATALOG from the environment. Keys are written with
mode 600 and never printed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import yaml

READ = ("read:metadata", "read:data")
ROLES: Mapping[str, Sequence[str]] = {
    # register: to cut arrays to their length at the end of a run; Tiled asks for both to delete.
    "writer": (
        *READ,
        *("create:node", "write:metadata", "write:data", "register"),
        *("delete:node", "delete:revision"),
    ),
    # Tiled's client makes a key of five minutes for each subscription.
    "subscriber": (*READ, "create:apikeys", "revoke:apikeys"),
    "reader": READ,
}
# Root and containers have it: whoever has a key sees them, and nobody can subscribe to them, which
# would tell the metadata of every run (Tiled 0.2.20 does not filter what a container sends).
LIST_TAG = "xpcs_list"
CATALOG_SPEC = {"name": "CatalogOfBlueskyRuns", "version": "3.0"}
PROVIDER = "local"
REGISTER = "principals.json"
CONFLICT = 409
STARTS_WITHIN_S = 60  # a server that has just been started


def main() -> None:
    """Read the command line, and do it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("access", type=Path, help="access.yml")
    parser.add_argument("--uri", default="http://127.0.0.1:8000", help="the Tiled server")
    parser.add_argument("--keys", type=Path, default=Path("/etc/xpcs/keys"), help="folder of keys")
    options = parser.parse_args()
    try:
        access = checked(yaml.safe_load(options.access.read_text()))
        variables = [os.environ[f"XPCS_TILED_{name}"] for name in ("ADMIN_PASSWORD", "CATALOG")]
    except KeyError as error:
        sys.exit(f"{error.args[0]}: not set; expected it in the environment, see tiled.env.")
    except ValueError as error:
        sys.exit(f"{options.access}: {error}")
    password, catalog = variables
    options.keys.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.closing(admin(options.uri, password)) as http:
        revoke_keys(http, access["keys"], options.keys)
        uuids = make_keys(http, access["keys"], options.keys)
        asyncio.run(store_tags(catalog, access, uuids))  # before what carries them
        make_containers(http, access["containers"])
    print(f"{len(uuids)} keys in {options.keys}, {len(access['tags'])} tags. Good until changed.")


def checked(access: Any) -> Mapping[str, Any]:
    """Return what access.yml says; ValueError for a role or a key that does not exist."""
    if not isinstance(access, Mapping) or not {"keys", "containers", "tags"} <= access.keys():
        raise ValueError("expected `keys`, `containers` and `tags`.")
    for name, key in access["keys"].items():
        if key.get("role") not in ROLES:
            raise ValueError(
                f"key {name}: got the role {key.get('role')!r}; expected one of {', '.join(ROLES)}."
            )
    for tag, readers in access["tags"].items():
        if unknown := set(readers) - access["keys"].keys():
            raise ValueError(
                f"tag {tag}: {', '.join(sorted(unknown))} not among `keys`; expected names of keys."
            )
    return access


def admin(uri: str, password: str) -> httpx.Client:
    """Return a connection with the rights of `admin`."""
    http = httpx.Client(base_url=f"{uri.rstrip('/')}/api/v1", timeout=30, trust_env=False)
    deadline = time.monotonic() + STARTS_WITHIN_S
    while True:
        try:
            answer = http.post(
                f"/auth/provider/{PROVIDER}/token",
                data={"grant_type": "password", "username": "admin", "password": password},
            )
            break
        except httpx.HTTPError as error:
            if time.monotonic() < deadline:
                time.sleep(1)
                continue
            sys.exit(
                f"Tiled server {uri}: no answer within {STARTS_WITHIN_S} s "
                f"({type(error).__name__}). Start it, or correct --uri."
            )
    if answer.is_error:
        sys.exit(
            f"Tiled server {uri}: refused `admin` (status {answer.status_code}). Expected the "
            "XPCS_TILED_ADMIN_PASSWORD that the server was started with."
        )
    http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
    return http


def registered(folder: Path) -> dict[str, str]:
    """Return whom each key that was made belongs to."""
    register = folder / REGISTER
    return json.loads(register.read_text()) if register.exists() else {}


def revoke_keys(http: httpx.Client, keys: Mapping[str, Any], folder: Path) -> None:
    """Revoke the keys that are not in access.yml any more, and forget whom they belong to."""
    uuids = registered(folder)
    for name in [name for name in uuids if name not in keys]:
        address = f"/auth/principal/{uuids.pop(name)}"
        for key in answered(http.get(address))["api_keys"]:
            answered(http.delete(f"{address}/apikey", params={"first_eight": key["first_eight"]}))
        (folder / f"{name}.key").unlink(missing_ok=True)
        (folder / REGISTER).write_text(json.dumps(uuids, indent=1))


def make_keys(http: httpx.Client, keys: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Make the keys whose file is not there; return whom each belongs to."""
    uuids, register = registered(folder), folder / REGISTER
    for name, key in keys.items():
        if name not in uuids:
            # Only of Tiled's role `admin` may a key have `register`; it gets none of the others.
            role = "admin" if key["role"] == "writer" else "user"
            uuids[name] = answered(http.post("/auth/principal", params={"role": role}))["uuid"]
            register.write_text(json.dumps(uuids, indent=1))
        file = folder / f"{name}.key"
        if file.exists():
            continue
        days = key.get("expires_days")
        wanted = {
            "scopes": list(ROLES[key["role"]]),
            "expires_in": days and int(days * 86400),
            "note": f"{name}, {key['role']}",
        }
        secret = answered(http.post(f"/auth/principal/{uuids[name]}/apikey", json=wanted))["secret"]
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as made:
            made.write(f"{secret}\n")
    return {name: uuids[name] for name in keys}


def make_containers(http: httpx.Client, names: Sequence[str]) -> None:
    """Make the containers that are not there."""
    for name in names:
        answer = http.post(
            "/metadata/",
            json={
                "id": name,
                "structure_family": "container",
                "metadata": {},
                "specs": [CATALOG_SPEC],
                "data_sources": [],
                "access_tags": [LIST_TAG],
            },
        )
        if answer.status_code != CONFLICT:
            answered(answer)


async def store_tags(catalog: str, access: Mapping[str, Any], uuids: Mapping[str, str]) -> None:
    """Write into the catalog which key may do what with which tag."""
    from tiled.access_control.access_tags import AccessTagsCompiler
    from tiled.access_control.scopes import ALL_SCOPES
    from tiled.server.settings import DatabaseSettings

    writers = [name for name, key in access["keys"].items() if key["role"] == "writer"]

    def users(names: Sequence[str], scopes: Sequence[str]) -> list[dict[str, Any]]:
        return [{"name": uuids[name], "scopes": list(scopes)} for name in names]

    others = [name for name in access["keys"] if name not in writers]
    tags = {LIST_TAG: {"users": users(writers, ROLES["writer"]) + users(others, READ[:1])}}
    for tag, readers in access["tags"].items():
        others = [name for name in readers if name not in writers]
        tags[tag] = {"users": users(writers, ROLES["writer"]) + users(others, READ)}
    owners = {tag: {"users": [{"name": uuids[name]} for name in writers]} for tag in tags}
    compiler = AccessTagsCompiler(
        {scope.value for scope in ALL_SCOPES},
        {"tags": tags, "tag_owners": owners},
        DatabaseSettings(uri=catalog, pool_size=2),
        lambda _group: (),
    )
    compiler.load_tag_config()
    await compiler.compile()


def answered(answer: httpx.Response) -> Any:
    """Return what the server answered; its own words end the program."""
    if answer.is_error:
        sys.exit(f"Tiled server: {answer.request.url.path}: {answer.status_code} {answer.text}")
    return answer.json() if answer.content else None


if __name__ == "__main__":
    main()
