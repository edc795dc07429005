"""Many raw runs at once in Tiled: none is missed, and a look without news stays cheap."""

import time
import uuid

import event_model
from bluesky_tiled_plugins import TiledWriter

from tests.support.old_catalog import OldRun
from xpcs_live_denoise.errors import Once
from xpcs_live_denoise.sources.stored.runs import AT_ONCE, MAY_BE_RUNNING_S, NEWEST, NewRuns


class Nodes(dict):
    """The nodes of a container; tells how many keys were asked for, and what was opened."""

    def __init__(self, *args):
        super().__init__(*args)
        self.asked, self.opened = [], []

    def keys(self):
        return self

    def tail(self, n):
        self.asked.append(n)
        return list(self)[-n:]

    def __getitem__(self, uid):
        self.opened.append(uid)
        if isinstance(found := self.get(uid), Exception):
            raise found
        return found


def stored_run(age_s=0.0, ended=True):
    """A run by its uid, as an old catalog has it."""
    run = event_model.compose_run(time=time.time() - age_s)
    documents = [("start", run.start_doc), ("stop", run.compose_stop())]
    node = OldRun(documents)
    if not ended:
        del node.metadata["stop"]
    return run.start_doc["uid"], node


def looking(nodes, **bounds):
    """Follow these nodes; return what looks once and returns the runs that came so far."""
    new_runs, came = NewRuns(nodes, "cam", logged=Once(), **bounds), []

    def look():
        new_runs.look()
        came.extend(new_runs.take(AT_ONCE))
        return list(came)

    return new_runs, look


def test_no_run_of_a_burst_is_missed_and_their_order_is_kept():
    nodes = Nodes(stored_run() for _ in range(30))
    _, look = looking(nodes)
    assert look() == []
    burst = dict(stored_run() for _ in range(2 * AT_ONCE + 5))
    nodes.update(burst)
    found = [len(look()) for _ in range(3)]
    assert found == [AT_ONCE, 2 * AT_ONCE, len(burst)]
    assert look() == list(burst)


def test_a_look_without_news_costs_one_request():
    nodes = Nodes(stored_run() for _ in range(30))
    _, look = looking(nodes)
    look()
    nodes.asked.clear()
    nodes.opened.clear()
    for _ in range(3):
        look()
    assert nodes.asked == [NEWEST] * 3
    assert nodes.opened == []


def test_the_first_look_goes_back_as_far_as_a_run_may_be_under_way():
    long_ago = dict(stored_run(2 * MAY_BE_RUNNING_S) for _ in range(500))
    lost_uid, lost = stored_run(2 * MAY_BE_RUNNING_S, ended=False)
    open_uid, under_way = stored_run(0.5 * MAY_BE_RUNNING_S, ended=False)
    ended = dict(stored_run() for _ in range(70))
    nodes = Nodes({**long_ago, lost_uid: lost, open_uid: under_way, **ended})
    _, look = looking(nodes)
    for _ in range(5):
        found = look()
    assert found == [open_uid]
    assert max(nodes.asked) == 4 * NEWEST, "far from all there is"


def test_a_node_that_cannot_be_opened_is_tried_again_behind_a_burst_and_not_for_ever():
    nodes = Nodes([stored_run()])
    _, look = looking(nodes, most_tries=3)
    look()
    uid, node = stored_run()
    nodes.update({uid: RuntimeError("busy"), "broken": RuntimeError("no client")})
    look()
    burst = dict(stored_run() for _ in range(30))
    nodes.update(burst)
    nodes[uid] = node
    assert set(look()) == {uid, *burst}
    for _ in range(5):
        look()
    assert nodes.opened.count("broken") == 4, "the first time, and three times more"


def test_what_is_remembered_is_bounded_and_runs_beyond_it_are_told(caplog):
    nodes = Nodes([stored_run()])
    runs, look = looking(nodes, newest=4, most_new=16)
    look()
    burst = dict(stored_run() for _ in range(40))
    nodes.update(burst)
    assert look() == list(burst)[-16:]
    assert caplog.text.count("more than 16 runs came at once") == 1
    nodes.update(more := dict(stored_run() for _ in range(12)))
    assert look() == [*list(burst)[-16:], *more]
    nodes.update(more := dict(stored_run() for _ in range(12)))
    assert look()[-12:] == list(more)
    assert runs.n_known == 32


def test_a_burst_in_a_real_server_is_found(tiled_client):
    raw = tiled_client.create_container(f"raw_{uuid.uuid4()}")
    writer = TiledWriter(raw, batch_size=1)

    def write():
        run = event_model.compose_run(metadata={"detectors": ["cam"]})
        writer("start", run.start_doc)
        writer("stop", run.compose_stop())
        return run.start_doc["uid"]

    for _ in range(3):
        write()
    _, look = looking(raw, newest=2)
    assert look() == []
    burst = [write() for _ in range(7)]
    assert look() == burst
