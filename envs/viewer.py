"""The "human" render mode: one simulation shown in a browser by MuJoCo Studio's web viewer.

The browser draws, so no OpenGL context is made here and it works on a machine without a display. The page shows and never
steers: what is pushed or dragged there does not reach the simulation.
"""

from __future__ import annotations

import atexit
from concurrent.futures import Future
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from assets.errors import MissingDependencyError
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


class WebViewer:
    """A page in the browser that shows one simulation at a time; the server starts with the first `show`.

    Args:
        physics: the simulations.
        port: TCP port on this machine; 0 takes the first free one from 8080 on.

    Raises:
        MissingDependencyError: MuJoCo came without its web viewer; raised by the first `show`.
    """

    def __init__(self, physics: Physics, port: int = 0) -> None:
        self._physics, self._port = physics, port
        self._model: mujoco.MjModel | None = None
        self._data: mujoco.MjData | None = None
        self._fields: dict[str, NDArray[Any]] = {}
        self._handle: Any = None

    def show(self, sim: int = 0) -> None:
        """Push the present state of one simulation to the page; the first call starts the server and prints the address."""
        if self._handle is None:
            self._launch()
        fields = {name: values[sim] for name, values in self._physics.fields.items()}
        same = fields.keys() == self._fields.keys() and all(np.array_equal(v, self._fields[k]) for k, v in fields.items())
        if self._model is None or not same:
            # Colours and lights belong to the model, and the page loads a model anew only if it is another object.
            self._model = self._physics.batch.get_model(sim)
            self._data = mujoco.MjData(self._model)
            self._fields = {name: np.array(value) for name, value in fields.items()}
        self._physics.batch.get_data(sim, self._data)
        self._handle.sync(self._model, self._data)

    @property
    def url(self) -> str | None:
        """Address of the page; None while there is no server."""
        return None if self._handle is None else f"http://{HOST}:{self._port}/"

    def _launch(self) -> None:
        studio = _studio()
        config = studio.Config(title="Saccade", gfx="web", http_port=self._port)
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
        self._port = started.result()
        self._handle = handle
        atexit.register(self.close)

    def close(self) -> None:
        """Stop the server; safe to call twice."""
        handle, self._handle = self._handle, None
        if handle is not None:
            atexit.unregister(self.close)
            handle.close()
