"""ffmpeg as a live encoder: one pipe per rendition, every frame the moment it is encoded.

ffmpeg writes FLV into named pipes. It opens them in order and waits at each until we open the
other end; right after the last one its clock starts. So we know to a millisecond what Unix
time the first frame has, and that is what goes into the picture's clock and all timestamps.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

from fastrelay.media.flv import FlvConfig, FlvDemuxer, FlvFrame
from fastrelay.media.formats import MediaError
from fastrelay.media.source import TEST, Source, pace, program

AUDIO_RATE = 48_000
AUDIO_CHANNELS = 2
AUDIO_DELAY = 1000
"""Milliseconds added to audio times: FLV has none below zero, where AAC's first frame is."""

_STOP_TIMEOUT = 3.0

OnItem = Callable[[str, FlvConfig | FlvFrame], None]


@dataclass(frozen=True, slots=True)
class Rendition:
    """One encoding of the picture; ``bitrate`` in bit/s."""

    name: str
    width: int
    height: int
    bitrate: int


@dataclass(frozen=True, slots=True)
class Encoding:
    """What to make of a source. ``gop`` in frames, ``duration`` in seconds (None: all of it).
    ``audio_bitrate`` 0: no audio."""

    source: Source
    renditions: tuple[Rendition, ...]
    framerate: Fraction
    gop: int
    audio_name: str
    audio_bitrate: int
    clock: bool
    loop: bool = False
    duration: float | None = None
    preset: str = "veryfast"

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the tracks in the order of the pipes."""
        names = tuple(rendition.name for rendition in self.renditions)
        return (*names, self.audio_name) if self.audio_bitrate else names


def clock_text(origin: int) -> str:
    """Text for drawtext: date and time, media time and frame number, with time 0 at ``origin``
    (Unix time in milliseconds)."""
    seconds, fraction = divmod(origin, 1000)
    return (
        rf"%{{pts:gmtime:{seconds}:%H\:%M\:%S}}Z"
        f"  %{{pts:flt:{seconds}.{fraction:03}}}  f%{{frame_num}}\n"
    )


def command(encoding: Encoding, directory: Path, clock: int) -> list[str]:
    """The command line; pipes are in ``directory``, the clock's text is in a descriptor."""
    source = encoding.source
    ffmpeg = program("ffmpeg")
    line = [ffmpeg, "-hide_banner", "-nostdin", "-loglevel", "error", "-y"]
    audio_input = 0
    largest = max(encoding.renditions, key=lambda rendition: rendition.height)
    if source.url == TEST:
        picture = f"testsrc2=s={largest.width}x{largest.height}:r={encoding.framerate}"
        line += [*pace(ffmpeg), "-f", "lavfi", "-i", picture]
        if encoding.audio_bitrate:
            tone = f"sine=frequency=330:beep_factor=4:sample_rate={AUDIO_RATE}"
            line += [*pace(ffmpeg), "-f", "lavfi", "-i", tone]
            audio_input = 1
    else:
        line += [] if source.paced else pace(ffmpeg)
        line += ["-stream_loop", "-1"] if encoding.loop else []
        line += ["-f", source.input_format] if source.input_format else []
        line += ["-i", source.url]
    line += ["-filter_complex", _filters(encoding, largest, clock)]
    limit = [] if encoding.duration is None else ["-t", f"{encoding.duration:.3f}"]
    container = ["-flvflags", "no_duration_filesize+no_metadata", "-flush_packets", "1"]
    container += ["-f", "flv"]
    for index, rendition in enumerate(encoding.renditions):
        rate = str(rendition.bitrate)
        line += ["-map", f"[v{index}]", "-c:v", "libx264", "-preset", encoding.preset]
        line += ["-tune", "zerolatency", "-profile:v", "main", "-pix_fmt", "yuv420p"]
        line += ["-r", str(encoding.framerate), "-fps_mode", "cfr", "-bf", "0"]
        line += ["-g", str(encoding.gop), "-keyint_min", str(encoding.gop), "-sc_threshold", "0"]
        line += ["-b:v", rate, "-maxrate", rate, "-bufsize", rate]
        line += [*limit, *container, str(directory / rendition.name)]
    if encoding.audio_bitrate:
        line += ["-map", f"{audio_input}:a:0", "-c:a", "aac", "-b:a", str(encoding.audio_bitrate)]
        line += ["-ar", str(AUDIO_RATE), "-ac", str(AUDIO_CHANNELS), "-af", "aresample=async=1"]
        line += [*limit, "-output_ts_offset", f"{AUDIO_DELAY}ms", *container]
        line += [str(directory / encoding.audio_name)]
    return line


def _filters(encoding: Encoding, largest: Rendition, clock: int) -> str:
    """One chain to the largest picture, then a smaller copy for each other rendition."""
    chain = [f"[0:v:0]scale={largest.width}:{largest.height},setsar=1"]
    if encoding.clock:
        chain.append(
            f"drawtext=textfile=/proc/self/fd/{clock}:reload=1:fontsize={largest.height // 16}"
            f":x=(w-tw)/2:y=h-2*th:fontcolor=white:box=1:boxcolor=black:boxborderw=8"
        )
    copies = "".join(f"[c{index}]" for index in range(len(encoding.renditions)))
    graph = [f"{','.join(chain)},split={len(encoding.renditions)}{copies}"]
    for index, rendition in enumerate(encoding.renditions):
        graph.append(f"[c{index}]scale={rendition.width}:{rendition.height}[v{index}]")
    return ";".join(graph)


class _Output(asyncio.Protocol):
    """One pipe of ffmpeg's: bytes in, configurations and frames out."""

    def __init__(self, name: str, on_item: OnItem) -> None:
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._name = name
        self._on_item = on_item
        self._demuxer = FlvDemuxer()

    def data_received(self, data: bytes) -> None:
        if self.finished.done():
            return
        try:
            for item in self._demuxer.feed(data):
                self._on_item(self._name, item)
        except Exception as error:
            self.finished.set_exception(error)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.finished.done():
            self.finished.set_result(None)


class Encoder:
    """A running ffmpeg. As an async context manager it is stopped at the end.

    ``on_start(origin)`` is called first, with the Unix time in milliseconds of the encoder's
    time 0, then ``on_item(name, item)`` for each configuration and frame of each output, in
    the order of arrival; what it raises comes out of :meth:`wait`.
    """

    def __init__(
        self, encoding: Encoding, on_start: Callable[[int], None], on_item: OnItem
    ) -> None:
        self.encoding = encoding
        self._on_start = on_start
        self._on_item = on_item
        self._process: asyncio.subprocess.Process | None = None
        self._directory = tempfile.TemporaryDirectory(prefix="fastrelay-publish-")
        self._clock = -1
        """A file without a name: empty, until it is known when time 0 was."""
        self._errors: deque[str] = deque(maxlen=8)
        self._error_reader: asyncio.Task[None] | None = None
        self._outputs: list[_Output] = []
        self._readers: list[asyncio.ReadTransport] = []
        self._stopping = False

    async def __aenter__(self) -> Encoder:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start ffmpeg and its clock.

        :raises MediaError: ffmpeg is missing or gave up; with its last words.
        """
        directory = Path(self._directory.name)
        pipes = [directory / name for name in self.encoding.outputs]
        for pipe in pipes:
            os.mkfifo(pipe, 0o600)
        self._clock = os.memfd_create("clock")
        self._process = await asyncio.create_subprocess_exec(
            *await asyncio.to_thread(command, self.encoding, directory, self._clock),
            pass_fds=(self._clock,),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        self._error_reader = asyncio.create_task(self._read_errors(self._process))
        descriptors, origin = await self._open(self._process, pipes)
        os.write(self._clock, clock_text(origin).encode())
        # Both sides have them open: whatever ends us now, nothing stays behind.
        self._directory.cleanup()
        self._on_start(origin)
        loop = asyncio.get_running_loop()
        for name, descriptor in zip(self.encoding.outputs, descriptors, strict=True):
            reader, output = await loop.connect_read_pipe(
                partial(_Output, name, self._on_item), os.fdopen(descriptor, "rb", buffering=0)
            )
            self._readers.append(reader)
            self._outputs.append(output)

    async def _open(
        self, process: asyncio.subprocess.Process, pipes: list[Path]
    ) -> tuple[list[int], int]:
        """Meet ffmpeg at each pipe, which takes as long as it needs to open its input; the pipes,
        and the Unix time in milliseconds of the last one's opening."""

        def meet() -> tuple[list[int], int]:
            descriptors = [os.open(pipe, os.O_RDONLY) for pipe in pipes]
            # Here: ffmpeg does not wait until the event loop has time for us.
            return descriptors, time.time_ns() // 1_000_000

        opening = asyncio.get_running_loop().run_in_executor(None, meet)
        gone = asyncio.create_task(process.wait())
        try:
            await asyncio.wait((opening, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not opening.done():
                # Nobody will come: free the thread by being the other end ourselves.
                while not opening.done():
                    for pipe in pipes:
                        with suppress(OSError):
                            os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
                    await asyncio.sleep(0.01)
                for descriptor in (await opening)[0]:
                    os.close(descriptor)
            gone.cancel()
        if process.returncode is not None:
            raise await self._failure(process.returncode)
        return await opening

    async def wait(self) -> None:
        """Until the input ends or ffmpeg was stopped.

        :raises MediaError: ffmpeg failed, or what it wrote cannot be used.
        """
        done, _ = await asyncio.wait(
            [output.finished for output in self._outputs],
            return_when=asyncio.FIRST_EXCEPTION,
        )
        for finished in done:
            finished.result()
        if self._process is None:
            return
        code = await self._process.wait()
        if code and not self._stopping:
            raise await self._failure(code)

    async def _failure(self, code: int) -> MediaError:
        if self._error_reader is not None:
            await self._error_reader
        words = "\n".join(f"  {line}" for line in self._errors) or "  (it said nothing)"
        return MediaError(f"ffmpeg gave up with code {code}:\n{words}")

    async def _read_errors(self, process: asyncio.subprocess.Process) -> None:
        if process.stderr is not None:
            async for line in process.stderr:
                self._errors.append(line.decode(errors="replace").rstrip())

    async def stop(self) -> None:
        """End ffmpeg in good order: what it has encoded still comes out."""
        self._stopping = True
        process = self._process
        if process is not None and process.returncode is None:
            if self._outputs:
                process.terminate()
            else:
                process.kill()  # it waits for its input and has nothing to finish
            try:
                await asyncio.wait_for(process.wait(), _STOP_TIMEOUT)
            except TimeoutError:
                process.kill()
                await process.wait()
        if self._outputs:
            finished = [output.finished for output in self._outputs]
            await asyncio.wait(finished, timeout=_STOP_TIMEOUT)
            for future in finished:
                if future.done():
                    future.exception()  # told by wait(); nobody may have called it
        for reader in self._readers:
            reader.close()
        if self._error_reader is not None:
            await self._error_reader
        self._directory.cleanup()
        if self._clock >= 0:
            os.close(self._clock)
            self._clock = -1
