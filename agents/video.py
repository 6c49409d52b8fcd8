"""mp4 files through PyAV, whose wheel brings its own encoder; where it fails, PNGs, never a lost run."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import av.error
import cv2
import numpy as np
from numpy.typing import NDArray

from agents.show import say
from assets.errors import InvalidValueError

# crf 0 with RGB planes is lossless; the usual yuv420p would halve the colours' resolution and round them.
LOSSLESS: dict[str, Any] = {
    "codec": "libx264rgb", "pixels": "rgb24", "options": {"crf": "0", "preset": "veryfast"}, "lossless": True,
}  # fmt: skip


# Frames that may wait for the encoder.
_WAITING = 16


class VideoWriter:
    """Writes frames to an H.264 mp4; the file appears when it is complete. A thread encodes while the next frames are drawn.

    Args:
        path: of the mp4.
        fps: frames per second.
        crf: constant rate factor, 0 (lossless) to 51; 18 is visually lossless.
    """

    def __init__(self, path: str | Path, fps: int, crf: int = 18) -> None:
        self.path = Path(path)
        if fps < 1:
            raise InvalidValueError(f"a video needs at least 1 frame per second, got {fps}")
        self._fps, self._crf = fps, crf
        self._partial = self.path.with_name(f".{self.path.stem}.partial.mp4")
        self._container: Any = None
        self._stream: Any = None
        self._shape: tuple[int, int] | None = None
        self._pngs: Path | None = None
        self._count = 0
        self._encoder = ThreadPoolExecutor(1, "encoder")
        self._waiting: deque[Future[None]] = deque()

    def __enter__(self) -> VideoWriter:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self

    def add(self, frame: NDArray[np.uint8]) -> None:
        """Append a frame (H, W, 3) uint8 RGB; odd sides lose their last pixel, which H.264 cannot have.

        Raises:
            InvalidValueError: not an RGB image, or of another size than the first.
        """
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
            raise InvalidValueError(f"a video frame is (H, W, 3) uint8, got {frame.shape} {frame.dtype}")
        size = frame.shape[0] - frame.shape[0] % 2, frame.shape[1] - frame.shape[1] % 2
        if self._shape is not None and size != self._shape:
            raise InvalidValueError(f"all frames of a video have one size: the first was {self._shape}, this is {size}")
        self._shape = size
        if len(self._waiting) == _WAITING:
            self._waiting.popleft().result()
        self._waiting.append(self._encoder.submit(self._encode, frame[: size[0], : size[1]].copy()))

    def _encode(self, image: NDArray[np.uint8]) -> None:
        """In the encoder's thread."""
        if not self._count:
            self._open(image.shape[:2])
        if self._pngs is not None:
            cv2.imwrite(str(self._pngs / f"{self._count:06d}.png"), image[..., ::-1])
        else:
            for packet in self._stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                self._container.mux(packet)
        self._count += 1

    def _open(self, size: tuple[int, int]) -> None:
        try:
            self._container = av.open(str(self._partial), "w")
            self._stream = self._container.add_stream("libx264", rate=Fraction(self._fps))
            self._stream.height, self._stream.width = size
            self._stream.pix_fmt = "yuv420p"
            self._stream.options = {"crf": str(self._crf), "preset": "veryfast"}
            self._stream.codec_context.open()
        except (av.error.FFmpegError, ValueError) as error:
            self._container = None
            self._partial.unlink(missing_ok=True)
            self._pngs = self.path.with_suffix("")
            self._pngs.mkdir(parents=True, exist_ok=True)
            say(f"no H.264 encoder here ({error}): writing PNGs into {self._pngs}")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        whole = False
        try:
            for frame in self._waiting:
                frame.result()
            if self._container is not None:
                for packet in self._stream.encode():
                    self._container.mux(packet)
            whole = kind is None
        finally:
            self._encoder.shutdown()
            if self._container is not None:
                self._container.close()
                if whole:
                    self._partial.replace(self.path)
                else:
                    self._partial.unlink(missing_ok=True)


def read_video(path: str | Path) -> NDArray[np.uint8]:
    """All frames of a video. Shape (T, H, W, 3) uint8 RGB.

    Raises:
        InvalidValueError: not a video that can be read.
    """
    try:
        with av.open(str(path)) as container:
            return np.stack([np.asarray(f.to_ndarray(format="rgb24"), np.uint8) for f in container.decode(video=0)])
    except (av.error.FFmpegError, ValueError, OSError) as error:
        raise InvalidValueError(f"{path} is not a video that can be read: {error}") from error


def write_lossless(file: Path, frames: NDArray[np.uint8], dt: float) -> None:
    """Write frames (T, H, W, 3) that are `dt` seconds apart so that they are read back bit for bit; makes folders."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(file), "w") as container:
        stream = container.add_stream(
            LOSSLESS["codec"], rate=Fraction(1 / dt).limit_denominator(1000), options=LOSSLESS["options"]
        )
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = LOSSLESS["pixels"]
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format=LOSSLESS["pixels"])))
        container.mux(stream.encode())
