"""Draws the textures of this folder; every run writes the same bytes.

    python assets/textures/make.py [FOLDER]

All patterns are 64 x 64 RGB and tile without a seam, since each is a sum of waves with whole periods. Random phases
come from ``numpy.random.RandomState``, whose stream numpy has frozen. The PNG is written with one stored (uncompressed)
deflate block, because the output of a compressor changes with its version.
"""

from __future__ import annotations

import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

SIZE = 64
SEED = 20190


def _grid() -> tuple[np.ndarray, np.ndarray]:
    """Phase of each pixel along x (columns) and y (rows) in rad, [0, 2 pi)."""
    turn = 2 * np.pi * np.arange(SIZE) / SIZE
    return np.meshgrid(turn, turn)


def _waves(seed: int, freqs_x: range, freqs_y: range, power: float) -> np.ndarray:
    """A seamless random field with zero mean and unit spread; amplitude falls as frequency ** -power."""
    rng = np.random.RandomState(seed)
    x, y = _grid()
    field = np.zeros((SIZE, SIZE))
    for fx in freqs_x:
        for fy in freqs_y:
            phase = rng.uniform(0, 2 * np.pi)
            if fx or fy:
                field += np.cos(fx * x + fy * y + phase) * np.hypot(fx, fy) ** -power
    return field / field.std()


def _tint(dark: tuple[int, int, int], light: tuple[int, int, int], level: np.ndarray) -> np.ndarray:
    """Mix of two colours (0..255); level 0 is dark, 1 is light."""
    level = np.clip(level, 0, 1)[..., None]
    return np.rint(np.array(dark) * (1 - level) + np.array(light) * level).astype(np.uint8)


def wood() -> np.ndarray:
    """Ash planks with the grain along x: pale and calm, so that saturated things stand out on it."""
    _, y = _grid()
    bend = _waves(SEED, range(3), range(3), 1.0)
    rings = 0.5 + 0.5 * np.cos(6 * y + 0.9 * bend)
    fibre = _waves(SEED + 1, range(3), range(6, 25), 0.4)
    level = 0.45 + 0.4 * rings + 0.09 * fibre
    level[:1, :] -= 0.5  # the joint between two planks
    return _tint((198, 182, 158), (234, 223, 206), level)


def checker() -> np.ndarray:
    """Two greys in 2 x 2 fields; the step is small, since a floor is background."""
    x, y = _grid()
    return _tint((142, 148, 154), (160, 166, 172), ((x < np.pi) ^ (y < np.pi)).astype(float))


def noise() -> np.ndarray:
    """Smooth grey clouds with all frequencies up to 11 periods."""
    return _tint((60, 60, 60), (196, 196, 196), 0.5 + 0.22 * _waves(SEED + 2, range(-11, 12), range(12), 0.9))


def brushed() -> np.ndarray:
    """Metal brushed along x."""
    return _tint((128, 132, 138), (206, 209, 213), 0.5 + 0.2 * _waves(SEED + 3, range(2), range(4, 31), 0.2))


TEXTURES: dict[str, Callable[[], np.ndarray]] = {"wood": wood, "checker": checker, "noise": noise, "brushed": brushed}


def png(image: np.ndarray) -> bytes:
    """A PNG file of an (h, w, 3) uint8 image whose rows total less than 65536 bytes."""
    height, width, _ = image.shape
    raw = b"".join(b"\x00" + row.tobytes() for row in image)
    size = len(raw)
    if size > 0xFFFF:
        raise ValueError(f"image of {size} bytes does not fit one stored block; accepted: at most 65535")
    body = b"\x78\x01\x01" + struct.pack("<HH", size, size ^ 0xFFFF) + raw + struct.pack(">I", zlib.adler32(raw))

    def chunk(tag: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def make(folder: Path) -> list[Path]:
    """Write every texture into ``folder``; returns the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, draw in TEXTURES.items():
        path = folder / f"{name}.png"
        path.write_bytes(png(draw()))
        paths.append(path)
    return paths


if __name__ == "__main__":
    for written in make(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent):
        print(written)
