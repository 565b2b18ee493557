"""The contact sheet: what each viewer decoded, a row a viewer, a column a moment.

ffmpeg decodes the recordings, labels the pictures and puts them together. Decoding also
yields a checksum of every picture, so that viewers of one rendition can be compared.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fastrelay.local.demo.checks import Entry, Place

CELL_WIDTH, CELL_HEIGHT = 384, 216
COLUMNS = 5
FONT = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"
FFMPEG = ("ffmpeg", "-nostdin", "-hide_banner", "-v", "error", "-y")


@dataclass(slots=True)
class Recording:
    """One viewer's file and the frames that it should contain, in order."""

    label: str
    """Lines for the cell at the left."""
    path: Path
    frames: list[Entry]
    pictures: dict[Place, str] = field(default_factory=dict)
    """Checksums of the decoded pictures; filled by :func:`decode`."""


def playable(received: Sequence[Entry]) -> list[Entry]:
    """The frames a recording has: in order, each once, from the first key frame on."""
    ordered = sorted({entry.place: entry for entry in received}.values(), key=lambda e: e.place)
    begin = next((i for i, entry in enumerate(ordered) if entry.place.object == 0), len(ordered))
    return ordered[begin:]


def moments(begin: float, end: float) -> list[float]:
    """The times of the columns, inside the interval and evenly apart."""
    step = (end - begin) / COLUMNS
    return [begin + (column + 0.5) * step for column in range(COLUMNS)]


def frame_at(frames: Sequence[Entry], moment: float) -> int | None:
    """The frame on the screen at that moment; None before the first and after the last."""
    for index in range(len(frames) - 1, -1, -1):
        time = frames[index].time
        if time is not None and time <= moment:
            return index if index + 1 < len(frames) or moment - time < 0.5 else None
    return None


def decode(recording: Recording, directory: Path, columns: Sequence[float]) -> list[str]:
    """Decode the whole recording; write the columns' pictures as ``COLUMN.png``.

    Returns faults in words: an error of the decoder, or another number of pictures than frames.
    """
    directory.mkdir(parents=True, exist_ok=True)
    shown = [frame_at(recording.frames, moment) for moment in columns]
    chosen = sorted({index for index in shown if index is not None})
    command = [*FFMPEG, "-i", str(recording.path), "-map", "0:v:0", "-fps_mode", "passthrough"]
    command += ["-f", "framecrc", "-"]
    if chosen:
        select = "+".join(f"eq(n\\,{index})" for index in chosen)
        scale = f"scale={CELL_WIDTH}:{CELL_HEIGHT}"
        command += ["-map", "0:v:0", "-vf", f"select={select},{scale}", "-fps_mode", "passthrough"]
        command += [str(directory / "chosen-%d.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    faults = []
    if done.returncode or done.stderr.strip():
        words = (done.stderr.strip().splitlines() or ["ffmpeg failed"])[0]
        faults.append(f"does not decode cleanly: {words}")
    checksums = [
        line.rsplit(",", 1)[1].strip()
        for line in done.stdout.splitlines()
        if line and not line.startswith("#")
    ]
    if len(checksums) != len(recording.frames):
        faults.append(f"{len(checksums)} pictures decoded of {len(recording.frames)} frames")
    recording.pictures = {
        entry.place: checksum for entry, checksum in zip(recording.frames, checksums, strict=False)
    }
    for column, index in enumerate(shown):
        if index is not None:
            picture = directory / f"chosen-{chosen.index(index) + 1}.png"
            if picture.exists():
                (directory / f"{column}.png").write_bytes(picture.read_bytes())
    return faults


def unequal_pictures(recordings: Sequence[Recording]) -> list[Place]:
    """Frames that two viewers decoded to different pictures."""
    known: dict[Place, str] = {}
    unequal = set()
    for recording in recordings:
        for place, checksum in recording.pictures.items():
            if known.setdefault(place, checksum) != checksum:
                unequal.add(place)
    return sorted(unequal)


def compose(
    recordings: Sequence[Recording],
    directories: Sequence[Path],
    columns: Sequence[float],
    begin: float,
    target: Path,
) -> None:
    """Put the decoded pictures together.

    :raises RuntimeError: ffmpeg failed; its words are in the message.
    """
    inputs: list[str] = []
    filters: list[str] = []
    layout: list[str] = []
    work = target.parent / ".sheet"
    work.mkdir(exist_ok=True)

    def add_cell(source: list[str], text: str, size: int, box: bool) -> None:
        number = len(filters)
        (work / f"{number}.txt").write_text(text)
        inputs.extend(source)
        where = "x=10:y=10:box=1:boxcolor=black@0.7:boxborderw=4" if box else "x=16:y=24"
        filters.append(
            f"[{number}:v]format=rgb24,drawtext=fontfile={FONT}:textfile={number}.txt:"
            f"expansion=none:fontsize={size}:fontcolor=white:line_spacing=6:{where}[c{number}]"
        )
        column, row = number % (len(columns) + 1), number // (len(columns) + 1)
        layout.append(f"{column * CELL_WIDTH}_{row * CELL_HEIGHT}")

    for recording, directory in zip(recordings, directories, strict=True):
        add_cell(_plain("0x1d2733"), recording.label, 17, False)
        for column, moment in enumerate(columns):
            picture = directory / f"{column}.png"
            index = frame_at(recording.frames, moment)
            if index is not None and picture.exists():
                place = recording.frames[index].place
                text = f"+{moment - begin:.1f} s   group {place.group}   object {place.object}"
                add_cell(["-i", str(picture.resolve())], text, 13, True)
            else:
                add_cell(_plain("0x4a4a4a"), f"+{moment - begin:.1f} s   not watching", 13, True)
    cells = "".join(f"[c{number}]" for number in range(len(filters)))
    graph = ";".join(filters) + f";{cells}xstack=inputs={len(filters)}:layout={'|'.join(layout)}"
    command = [*FFMPEG, *inputs, "-filter_complex", graph, "-frames:v", "1", str(target.resolve())]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=work)
    for leftover in work.iterdir():
        leftover.unlink()
    work.rmdir()
    if done.returncode:
        raise RuntimeError(f"no contact sheet: {done.stderr.strip()}")


def _plain(colour: str) -> list[str]:
    source = f"color=c={colour}:s={CELL_WIDTH}x{CELL_HEIGHT}:d=0.04"
    return ["-f", "lavfi", "-i", source]
