"""The "human" render mode: one simulation shown in a browser by MuJoCo Studio's web viewer.

The browser draws, so no OpenGL context is made here and it works on a machine without a display. The page shows and never
steers: what is pushed or dragged there does not reach the simulation.
"""

from __future__ import annotations

import atexit
import socket
import time
from concurrent.futures import Future
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from assets.errors import InvalidValueError, MissingDependencyError
from envs.physics import Physics

HOST = "127.0.0.1"


def _studio() -> Any:
    """The parts of MuJoCo Studio that are needed, as one namespace.

    Raises:
        MissingDependencyError: this installation of MuJoCo lacks some of them.
    """
    try:
        from mujoco.studio import app, launch_thread, viewer_protocol, web_viewer
    except (ImportError, AttributeError) as error:
        raise MissingDependencyError(
            f"render_mode='human' needs MuJoCo Studio's web viewer, which is in the wheel `mujoco>=4.0` of PyPI: {error}"
        ) from error

    class Local(web_viewer.WebViewer):
        """Served to this machine only: the page has no password, and Studio would open it to the whole network."""

        _host = property(lambda self: HOST, lambda self, value: None)

    class Studio:
        App, Viewer, Config = app.App, Local, viewer_protocol.ViewerConfig
        run_loop, launch = staticmethod(viewer_protocol.run_viewer_loop), staticmethod(launch_thread.launch_thread)

    return Studio


def _wait_for(port: int, seconds: float = 10.0) -> None:
    """Return once somebody listens, for Studio's server is a thread that says nothing when it is ready."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((HOST, port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


class _Page:
    """The one page of this process: Studio's user interface is global, and a second start of it crashes.

    So it starts once, serves whatever environment shows something, and stops when the process does.
    """

    handle: Any = None
    url: str | None = None

    @classmethod
    def start(cls, port: int) -> None:
        """Serve, in a daemon thread, and print the address; does nothing the second time."""
        if cls.handle is not None:
            return
        studio = _studio()
        config = studio.Config(title="Saccade", gfx="web", http_port=port)
        started: Future[int] = Future()

        def serve(endpoint: Any) -> None:
            try:
                viewer = studio.Viewer(config, endpoint, plugins=[studio.App()])
                started.set_result(viewer._http_port)
            except BaseException as error:
                started.set_exception(error)
                raise
            studio.run_loop(viewer)

        handle = studio.launch(serve)
        atexit.register(handle.close)
        _wait_for(started.result())
        cls.url, cls.handle = f"http://{HOST}:{started.result()}/", handle


class WebViewer:
    """Shows one simulation at a time in the browser; the server starts with the first `show` of the process.

    All viewers of a process share one page, which shows what was pushed last.

    Args:
        physics: the simulations.
        port: TCP port on this machine; 0 takes the first free one from 8080 on. The first viewer of a process chooses.

    Raises:
        MissingDependencyError: MuJoCo came without its web viewer; raised by the first `show`.
    """

    def __init__(self, physics: Physics, port: int = 0) -> None:
        self._physics, self._port = physics, port
        self._model: mujoco.MjModel | None = None
        self._data: mujoco.MjData | None = None
        self._fields: dict[str, NDArray[Any]] = {}
        self._closed = False

    @property
    def url(self) -> str | None:
        """Address of the page; None while nothing was shown."""
        return _Page.url

    def show(self, sim: int = 0) -> None:
        """Push the present state of one simulation; the process's first call starts the server and prints the address.

        Raises:
            InvalidValueError: after `close`.
        """
        if self._closed:
            raise InvalidValueError("this viewer is closed; make a new one")
        _Page.start(self._port)
        fields = {name: values[sim] for name, values in self._physics.fields.items()}
        same = fields.keys() == self._fields.keys() and all(np.array_equal(v, self._fields[k]) for k, v in fields.items())
        if self._model is None or not same:
            # Colours and lights belong to the model, and the page loads a model anew only if it is another object.
            self._model = self._physics.batch.get_model(sim)
            self._data = mujoco.MjData(self._model)
            self._fields = {name: np.array(value) for name, value in fields.items()}
        self._physics.batch.get_data(sim, self._data)
        _Page.handle.sync(self._model, self._data)

    def close(self) -> None:
        """Show nothing any more; the page keeps the last picture. Safe to call twice."""
        self._closed, self._model, self._data = True, None, None
