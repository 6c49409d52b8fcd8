"""The page of a report card in a browser: all of it is there, nothing overlaps, and nothing comes from elsewhere.

Chromium is no part of the suite and of no small size, so what needs it is skipped where it is missing.
"""

from __future__ import annotations

import html
import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.report_page import GROUPS, page
from rewards.card import Footage, card

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("chromium", "chromium-browser", "google-chrome")
PUBLISHED = sorted((ROOT / "docs" / "rewards").glob("*.html"))

# The browser may load nothing but what is within the page, and says what else it was asked for.
GUARD = """<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="default-src data: 'unsafe-inline'">
<script>const wanted = []; addEventListener("securitypolicyviolation", e => wanted.push(e.blockedURI));</script>"""
# Says what it made of the page, as JSON at the end.
PROBE = """<script>addEventListener("load", () => {
  const box = e => { const r = e.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom]; };
  const all = (of, from = document) => [...from.querySelectorAll(of)];
  const texts = all("h1, h2, h2 small, h3, p, b, div, svg text, svg tspan").filter(e => e.textContent.trim());
  const out = document.createElement("pre");
  out.id = "probe";
  out.textContent = JSON.stringify({
    pictures: all("img").map(e => [e.naturalWidth, e.naturalHeight, e.getBoundingClientRect().height]),
    curves: all("polyline").map(e => [e.points.numberOfItems, getComputedStyle(e).stroke, e.getBBox().width]),
    plots: all("svg").map(e => ({ box: box(e), texts: all("text", e).map(t => [t.textContent, ...box(t)]) })),
    inks: texts.map(e => [e.textContent, e.closest("svg") ? getComputedStyle(e).fill : getComputedStyle(e).color]),
    width: [document.documentElement.scrollWidth, innerWidth],
    wanted,
  });
  document.body.append(out);
});</script>"""


class Steps:
    """A reward that knows two steps: how bright a picture is."""

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        return (frames.mean(axis=(1, 2, 3)) / 255).astype(np.float32)

    def step_scores(self, frames: np.ndarray) -> np.ndarray:
        return np.stack([1 - self(frames), self(frames)], axis=1)


def footage() -> dict[str, Footage]:
    """Brightening and still videos, three of each."""
    video = np.broadcast_to(np.linspace(10, 240, 21).astype(np.uint8)[:, None, None, None], (21, 20, 30, 3)).copy()
    true, still = np.linspace(0, 1, 21), video[:1].repeat(21, axis=0)
    rising = Footage([video] * 3, [true] * 3, np.array([True, True, True]))
    return {"expert": rising, "<still>": Footage([still] * 3, [0 * true] * 3, np.array([False, False, True]))}


@pytest.fixture(scope="module")
def made() -> str:
    found = card(Steps(), footage(), np.random.default_rng(0)) | {"policy_success": 0.25}
    return page("light/<steps>", Steps(), footage(), found)


@pytest.fixture(scope="module")
def chromium() -> str:
    """The browser's command."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None or subprocess.run([found, "--version"], capture_output=True, check=False, timeout=60).returncode:
        pytest.skip("no browser to look at a page with: install chromium (Debian) and run this again")
    return found


def look(chromium: str, text: str, folder: Path, width: int = 900) -> tuple[dict[str, Any], str]:
    """What the browser says of a page, and what it printed on its console."""
    file = folder / "page.html"
    file.write_text(text.replace('<meta charset="utf-8">', GUARD, 1).replace("</html>", f"{PROBE}</html>"))
    command = [
        chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--dump-dom",
        "--enable-logging=stderr", "--virtual-time-budget=3000", f"--window-size={width},1200",
        f"--user-data-dir={folder / 'profile'}", file.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    told = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout, re.DOTALL)
    assert told is not None, done.stdout[-500:]
    return json.loads(html.unescape(told[1])), "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


def contrast(ink: str) -> float:
    """Of a colour on white, as WCAG 2.2 has it."""
    r, g, b = (float(x) / 255 for x in re.findall(r"[\d.]+", ink)[:3])
    r, g, b = (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in (r, g, b))
    return 1.05 / (0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05)


def apart(a: list[float], b: list[float]) -> bool:
    """Whether two boxes (left, top, right, bottom) share nothing, but for half a pixel."""
    return a[2] <= b[0] + 0.5 or b[2] <= a[0] + 0.5 or a[3] <= b[1] + 0.5 or b[3] <= a[1] + 0.5


def test_every_figure_has_a_heading(made: str) -> None:
    keys = card(Steps(), footage(), np.random.default_rng(0))
    for key in keys:
        assert sum(key.startswith(begin) for *_, begin in GROUPS) == 1, key
        assert made.count(f"<div>{html.escape(key)} <b>") == 1
    assert re.search(r"<h3>Further</h3><p>[^<]+</p><div>policy_success <b>0.250</b>", made)


def test_it_says_how_many_succeeded_and_what_is_dashed(made: str) -> None:
    assert "&lt;still&gt; <small>1 of 3 videos succeeded</small>" in made
    assert "Dashed lines" in made
    bright = Steps().__call__
    plain = page("plain", bright, footage(), card(bright, footage(), np.random.default_rng(0)))
    assert "Dashed lines" not in plain
    assert "class=cut" not in plain


def test_a_browser_draws_all_of_it(chromium: str, made: str, tmp_path: Path) -> None:
    seen, console = look(chromium, made, tmp_path)
    assert console == ""
    assert seen["wanted"] == []
    assert len(seen["pictures"]) == len(seen["plots"]) == 4
    for wide, high, shown in seen["pictures"]:
        assert (wide, high) == (780, 78)
        assert shown > 50
    assert len(seen["curves"]) == 8
    for points, stroke, width in seen["curves"]:
        assert points == 21
        assert contrast(stroke) > 3  # as WCAG asks of graphics
        assert width == pytest.approx(702, abs=3)


@pytest.mark.parametrize("width", [500, 900])
def test_it_can_be_read(chromium: str, made: str, tmp_path: Path, width: int) -> None:
    seen, _ = look(chromium, made, tmp_path, width)
    assert seen["width"][0] <= seen["width"][1]  # nothing to scroll sideways for
    assert seen["width"][1] == width
    for words, ink in seen["inks"]:
        assert contrast(ink) > 4.5, words  # as WCAG asks of text
    for plot in seen["plots"]:
        words = {text for text, *_ in plot["texts"]}
        assert {"0.04", "0.94", "0.00", "1.00", "frame 0", "20"} <= words
        for (one, *a), (other, *b) in itertools.combinations(plot["texts"], 2):
            assert apart(a, b), f"{one!r} lies on {other!r}"


@pytest.mark.parametrize("file", PUBLISHED, ids=lambda file: file.stem)
def test_what_is_published_is_drawn(chromium: str, file: Path, tmp_path: Path) -> None:
    seen, console = look(chromium, file.read_text(), tmp_path)
    assert console == ""
    assert seen["wanted"] == []
    assert len(seen["pictures"]) == len(seen["plots"]) == 8
    assert all(min(size) > 0 for size in seen["pictures"])
    assert all(points > 2 for points, *_ in seen["curves"])


def test_the_browser_would_notice(chromium: str, made: str, tmp_path: Path) -> None:
    worse = made.replace("data:image/jpeg;base64,", "data:image/jpeg;base64,AAAA", 1)
    worse = worse.replace("</html>", '<img src="http://localhost/x.png"><script>console.error("lost")</script></html>')
    seen, console = look(chromium, worse, tmp_path)
    assert [wide for wide, *_ in seen["pictures"]] == [0, 780, 780, 780, 0]
    assert seen["wanted"] == ["http://localhost/x.png"]
    assert "lost" in console
