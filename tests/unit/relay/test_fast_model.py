"""The random lives of a relay again, with a kernel that forwards, refuses, loses and dawdles."""

from __future__ import annotations

from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from fastrelay.fastpath.layout import Outcome
from fastrelay.moqt.names import Location
from unit.relay.fake_kernel import FakeMember, FastWorld
from unit.relay.harness import World, content
from unit.relay.test_model import OPTIONS, RelayMachine, Script, Viewer

FAULTS = [outcome for outcome in Outcome if outcome not in (Outcome.SENT, Outcome.DROPPED)]


class FastRelayMachine(RelayMachine):
    """What must be true without a kernel must be true with one."""

    def make_world(self) -> World:
        self.fast = FastWorld(OPTIONS)
        self.kernel = self.fast.kernel
        self.random = Random(0)
        self.faults = self.skips = self.losses = 0.0
        self.kernel.outcome = self._outcome
        self.kernel.takes = lambda *_: self.random.random() >= self.skips
        self.kernel.loses = lambda *_: self.random.random() < self.losses
        self.datagrams: list[Location] = []
        self.came: dict[int, int] = {}
        """How many datagrams had been sent when a viewer came, by the viewer's identity."""
        return self.fast

    def _outcome(self, member: FakeMember, stream_id: int, offset: int) -> Outcome:
        if self.random.random() >= self.faults:
            return Outcome.SENT
        return self.random.choice(FAULTS)

    @initialize(seed=st.integers(0, 1 << 32))
    def seed(self, seed: int) -> None:
        self.random.seed(seed)

    # The kernel

    @rule(
        faults=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
        skips=st.sampled_from([0.0, 0.0, 0.1, 0.5]),
        losses=st.sampled_from([0.0, 0.2, 1.0]),
    )
    def the_kernel_behaves(self, faults: float, skips: float, losses: float) -> None:
        self.faults, self.skips, self.losses = faults, skips, losses

    @rule()
    def the_kernel_is_switched(self) -> None:
        self.kernel.enabled = not self.kernel.enabled

    @rule()
    def copies_are_late_or_not(self) -> None:
        self.kernel.late = not self.kernel.late

    @rule(count=st.integers(1, 3))
    def some_copies_run(self, count: int) -> None:
        self.kernel.run_clones(count)
        self.fast.tick()

    @rule()
    def user_space_claims(self) -> None:
        self.kernel.claim()
        self.fast.tick()

    @rule()
    def losses_are_found(self) -> None:
        self.kernel.report_losses()
        self.world.run()

    @rule(webtransport=st.booleans())
    def transports(self, webtransport: bool) -> None:
        self.fast.webtransport = webtransport

    @precondition(lambda self: self.viewers)
    @rule(data=st.data(), reason=st.sampled_from(["", "the path is being validated"]))
    def a_link_changes(self, data: st.DataObject, reason: str) -> None:
        viewer = data.draw(st.sampled_from(self.viewers))
        viewer.client.relay_end.link.reason = reason
        self.world.wait(1)

    # More of what peers do

    @precondition(lambda self: self.active())
    @rule(data=st.data(), count=st.integers(2, 5))
    def write_ahead(self, data: st.DataObject, count: int) -> None:
        """Several packets come in one batch: the kernel has all before user space has one."""
        script, number = data.draw(st.sampled_from(self.active()))
        group, subgroup = script.key
        sending = script.streams[number]
        for _ in range(count):
            index = script.written[number]
            if index == len(script.objects):
                if script.closed:
                    break
                last = script.objects[-1] if script.objects else subgroup - 2
                script.objects.append(last + 2)
            object_id = script.objects[index]
            raw = sending.encode(object_id, content(group, object_id))
            for piece in (raw[:7], raw[7:]):
                sending.publisher.session.send(sending.stream_id, piece)
            script.written[number] += 1
            place = Location(group, object_id)
            self.largest = place if self.largest is None else max(self.largest, place)
        self.world.run()

    @precondition(lambda self: self.publishers)
    @rule(data=st.data(), count=st.integers(1, 4))
    def a_whole_group(self, data: st.DataObject, count: int) -> None:
        number = data.draw(st.sampled_from(sorted(self.publishers)))
        self.group += 1
        script = self.scripts[self.group, 0] = Script((self.group, 0))
        self.stream(script, number)
        sending = script.streams.pop(number)
        for object_id in range(0, 2 * count, 2):
            raw = sending.encode(object_id, content(self.group, object_id))
            sending.publisher.session.send(sending.stream_id, raw)
            script.objects.append(object_id)
        sending.close()
        self.largest = Location(self.group, 2 * count - 2)
        script.closed = script.complete = True

    @precondition(lambda self: self.publishers)
    @rule(data=st.data())
    def datagram(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.publishers)))
        place = Location(self.group, 1000 + len(self.datagrams))
        self.datagrams.append(place)
        self.publishers[number].datagram(*place)
        self.largest = place if self.largest is None else max(self.largest, place)

    @precondition(lambda self: self.viewers)
    @rule(data=st.data(), priority=st.integers(0, 255))
    def priority_changes(self, data: st.DataObject, priority: int) -> None:
        viewer = data.draw(st.sampled_from(self.viewers))
        viewer.client.update(viewer.request_id, subscriber_priority=priority)

    # What must be true

    @invariant()
    def viewers_are_remembered(self) -> None:
        for viewer in self.viewers:
            self.came.setdefault(id(viewer), len(self.datagrams))

    def check(self, viewer: Viewer) -> None:
        kernel = self.kernel
        kernel.late = False
        self.losses = self.faults = 0.0
        for _ in range(3):
            kernel.run_clones()
            self.fast.tick()
            kernel.report_losses()
            self.world.run()
        super().check(viewer)
        got = set(viewer.client.ids)
        for place in self.datagrams[self.came.get(id(viewer), len(self.datagrams)) :]:
            assert place in got or not viewer.window.passes(place), place
        bodies = {
            key: b"".join(self._raw(viewer, key, script.objects))
            for key, script in self.scripts.items()
            if script.objects
        }
        for stream in viewer.client.streams.values():
            assert stream.header is not None
            if stream.fin and stream.items:
                first = stream.items[0]
                key = (stream.header.group_id, first.subgroup_id)
                if first.location.object == self.scripts[key].objects[0]:
                    assert bytes(stream.body) == bodies[key]

    def _raw(self, viewer: Viewer, key: tuple[int, int], objects: list[int]) -> list[bytes]:
        previous = None
        pieces = []
        for object_id in objects:
            delta = object_id if previous is None else object_id - previous - 1
            payload = content(key[0], object_id)
            encode = viewer.client.draft.varints.encode
            pieces.append(encode(delta) + encode(len(payload)) + payload)
            previous = object_id
        return pieces

    @invariant()
    def legs_belong_to_somebody(self) -> None:
        for loan in self.kernel.loans.values():
            refused = loan.retired and loan.legs.keys() <= loan.over
            assert loan.borrower is not None or not loan.members or refused


TestFastRelayMachine = FastRelayMachine.TestCase
TestFastRelayMachine.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
