"""The loop over relays, without a kernel."""

import asyncio
from collections.abc import Mapping

from fastrelay.agent import node
from fastrelay.agent.hooks import End
from fastrelay.agent.instance import Reason, RelaySpec, State, Status


def status(name: str) -> Status:
    return Status(name, State.WAITING, Reason.NO_INTERFACE, "", End.HOST)


class FakeNode:
    def __init__(self, sockets):
        self.sockets = sockets
        self.passes = []

    def reconcile(self, desired, waiting):
        assert not waiting
        self.passes.append(dict(desired))
        return {name: status(name) for name in desired}


class Script:
    """Says one thing after another, then nothing more."""

    def __init__(self, *answers: Mapping[str, RelaySpec] | None):
        self.answers = list(answers)
        self.intervals = []

    def desired(self):
        return self.answers.pop(0)

    async def changed(self, seconds):
        self.intervals.append(seconds)
        if not self.answers:
            raise asyncio.CancelledError


async def test_what_is_not_known_changes_nothing(tmp_path):
    relay = {"r1": RelaySpec("r1", 1, ["10.0.0.2"])}
    fake, source, reports = FakeNode(tmp_path), Script(None, relay, None, {}), []
    task = asyncio.ensure_future(node.run(fake, source, reports.append, interval=1.5))
    await asyncio.wait((task,))
    assert task.cancelled()
    assert fake.passes == [relay, {}]
    assert reports == [{"r1": status("r1")}, {}]
    assert source.intervals == [1.5] * 4
