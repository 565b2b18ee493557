"""One time base for all tracks: media time is Unix time, groups start together.

The encoder's clock starts at zero when its input starts; ``origin`` is the Unix time of that
moment. FLV rounds times to milliseconds, so video is put back on the grid of its frame rate
and audio is counted in frames.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from fastrelay.media.aac import SAMPLES_PER_FRAME
from fastrelay.media.flv import FlvFrame
from fastrelay.media.formats import Sample

VIDEO_TIMESCALE = 90_000
"""Units per second; a multiple of the common frame rates, as MPEG systems use."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A sample, the group to which it belongs, and whether it is that group's last."""

    group: int
    sample: Sample
    last: bool


@dataclass(slots=True)
class Timeline:
    """``origin``: Unix time in milliseconds of the encoder's time 0. ``gop``: video frames per
    group. The first group's id is the Unix second in which it starts, the others count on
    from it: with groups of one second every id is the second in which its group starts."""

    origin: int
    framerate: Fraction
    gop: int
    _first_frame: int | None = field(default=None, init=False)

    @property
    def group_duration(self) -> Fraction:
        """Seconds."""
        return self.gop / self.framerate

    def _start(self, first_frame: int) -> Fraction:
        """Unix time of the first group, in seconds."""
        return Fraction(self.origin, 1000) + first_frame / self.framerate

    def _first_group(self, first_frame: int) -> int:
        # Shorter groups than a second count in their own duration: ids of a publisher that
        # starts again must be larger than those it used before.
        return int(self._start(first_frame) / min(self.group_duration, Fraction(1)))

    def group_at(self, time: Fraction) -> int | None:
        """The group to which a Unix time belongs; None before the first one."""
        if self._first_frame is None:
            return None
        elapsed = time - self._start(self._first_frame)
        if elapsed < 0:
            return None
        return self._first_group(self._first_frame) + int(elapsed / self.group_duration)

    def video(self, frame: FlvFrame) -> Placed | None:
        """Place a video frame; None before the first key frame of all renditions."""
        index = round(frame.milliseconds * self.framerate / 1000)
        if self._first_frame is None:
            if not frame.key:
                return None
            self._first_frame = index
        since = index - self._first_frame
        if since < 0:
            return None
        time, following = self._video_time(index), self._video_time(index + 1)
        sample = Sample(
            time,
            following - time,
            frame.key,
            frame.data,
            round(frame.offset * VIDEO_TIMESCALE / 1000),
        )
        groups, position = divmod(since, self.gop)
        group = self._first_group(self._first_frame) + groups
        return Placed(group, sample, position == self.gop - 1)

    def _video_time(self, index: int) -> int:
        return self.origin * VIDEO_TIMESCALE // 1000 + round(
            index * VIDEO_TIMESCALE / self.framerate
        )


@dataclass(slots=True)
class AudioClock:
    """Counts audio frames, so that rounded times do not add up; follows a jump of the source.

    ``delay``: milliseconds that the encoder's output times are ahead of its input's.
    """

    timeline: Timeline
    sample_rate: int
    delay: int
    _next: int | None = field(default=None, init=False)

    def place(self, frame: FlvFrame) -> Placed | None:
        """Place an audio frame; None before the first group."""
        told = (self.timeline.origin + frame.milliseconds - self.delay) * self.sample_rate // 1000
        if self._next is None or abs(told - self._next) > SAMPLES_PER_FRAME:
            self._next = told
        time = self._next
        self._next += SAMPLES_PER_FRAME
        group = self.timeline.group_at(Fraction(time, self.sample_rate))
        if group is None:
            return None
        following = self.timeline.group_at(Fraction(self._next, self.sample_rate))
        sample = Sample(time, SAMPLES_PER_FRAME, True, frame.data)
        return Placed(group, sample, following != group)
