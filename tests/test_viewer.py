"""The web viewer behind render_mode="human": a page that this machine, and nobody else, can open."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import gymnasium as gym
import pytest

import envs  # noqa: F401  registers the ids
from assets.errors import InvalidValueError, MissingDependencyError
from envs.env import BatchEnv
from envs.viewer import WebViewer, _Page

ROOT = Path(__file__).resolve().parents[1]


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert answer.status == 200
        return answer.read()


SERVE = """
import threading, urllib.request, gymnasium as gym, envs
env = gym.make("Saccade/EyeSearch-v0", render_mode="human", observe=())
env.reset(seed=0)
url = env.unwrapped.batch._viewer.url
print("url", url)
print("threads", sorted(t.daemon for t in threading.enumerate() if t is not threading.main_thread()))
"""


def test_a_process_announces_its_page_once_and_exits_silently() -> None:
    done = subprocess.run([sys.executable, "-c", SERVE], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    # Another thread announces the page, and may do so in the middle of a line.
    told = re.search(r"url (\S+)", done.stdout), re.search(r"threads (\[.*?\])", done.stdout)
    assert all(told), done.stdout
    url, threads = (found[1] for found in told if found)
    assert done.stdout.count(f"http://localhost:{url.rsplit(':', 1)[1]}") == 2  # a link's target and its text
    assert "False" not in threads
    with pytest.raises(urllib.error.URLError):
        fetch(url)


def test_the_page_follows_the_environment() -> None:
    env = gym.make("Saccade/EyeSearch-v0", render_mode="human", observe=())
    env.reset(seed=0)
    viewer = env.unwrapped.batch._viewer
    assert b"<html" in fetch(viewer.url).lower()
    first = served_model(viewer.url, b"")
    env.step(env.action_space.sample())
    assert env.render() is None
    assert env.unwrapped.batch._viewer is viewer
    env.reset(seed=1)  # other objects are to be seen, so the page gets another model
    second = served_model(viewer.url, first)
    other = gym.make("Saccade/Reach-v0", render_mode="human", observe=())
    other.reset(seed=0)
    assert other.unwrapped.batch._viewer.url == viewer.url
    served_model(viewer.url, second)
    for e in (env, other):
        e.close()
        e.close()
    with pytest.raises(InvalidValueError, match="this viewer is closed"):
        viewer.show(0)


def served_model(url: str, before: bytes) -> bytes:
    """The model that the page shows, once it is another one than before."""
    for _ in range(100):
        if (model := fetch(url + "model")) != before:
            return model
        time.sleep(0.05)
    pytest.fail("the page still shows the model of before")


def test_no_opengl_context_is_made() -> None:
    batch = BatchEnv("envs.tasks.arm.reach:Reach", 2, observe=(), render_mode="human")
    batch.reset(seed=0)
    assert not batch._renderer.is_open
    assert not batch._show.is_open
    batch.close()


def test_the_network_cannot_reach_it() -> None:
    batch = BatchEnv("envs.tasks.arm.reach:Reach", 1, observe=())
    viewer = WebViewer(batch.physics)
    viewer.show(0)
    try:
        assert viewer.url is not None
        port = int(viewer.url.rsplit(":", 1)[1].strip("/"))
        with pytest.raises(OSError, match="refused"), socket.create_connection(("127.0.0.2", port), timeout=2):
            pass
    finally:
        viewer.close()


def test_a_missing_studio_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from mujoco import studio

    monkeypatch.setattr(_Page, "handle", None)
    monkeypatch.setitem(sys.modules, "mujoco.studio.web_viewer", None)
    monkeypatch.delattr(studio, "web_viewer", raising=False)
    batch = BatchEnv("envs.tasks.arm.reach:Reach", 1, observe=())
    with pytest.raises(MissingDependencyError, match=r"needs MuJoCo Studio's web viewer.*mujoco>=4\.0"):
        WebViewer(batch.physics).show(0)
