"""Results that earlier versions wrote, kept as files, put into a Tiled server again.

A folder holds `nodes.json`: path in the run -> family, metadata, specs, dims, columns; and
`arrays.npz`: path of an array, or of a table and a column in it -> values.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from tiled.structures.core import Spec

DATA = Path(__file__).parents[1] / "data"


def restore(client, folder, path="processed"):
    """Write the result in a folder of DATA into a container; return its start document."""
    nodes = json.loads((DATA / folder / "nodes.json").read_text())
    start = nodes[""]["metadata"]["start"]
    container = client[path] if path in client else client.create_container(path)
    with np.load(DATA / folder / "arrays.npz") as arrays:
        made = {}
        for place, node in nodes.items():
            above, _, key = place.rpartition("/")
            parent = made[above] if place else container
            options = {
                "key": key or start["uid"],
                "metadata": node["metadata"],
                "specs": [Spec(name, version) for name, version in node["specs"]],
            }
            if node["family"] == "container":
                made[place] = parent.create_container(**options)
                made[place] = getattr(made[place], "base", made[place])
            elif node["family"] == "array":
                parent.write_array(arrays[place], dims=node["dims"], **options)
            else:
                columns = {name: arrays[f"{place}/{name}"] for name in node["columns"]}
                parent.write_table(pd.DataFrame(columns), **options)
    return start
