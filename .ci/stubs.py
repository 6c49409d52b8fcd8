"""Type stubs of MuJoCo, which ships none, into typings/ for pyright."""

import subprocess
import sys

MODULES = ("mujoco",)


def main() -> None:
    """Generate a stub package for each module; pybind11-stubgen's own complaints are not ours."""
    for module in MODULES:
        subprocess.run(
            [sys.executable, "-m", "pybind11_stubgen", module, "-o", "typings", "--ignore-all-errors"],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


if __name__ == "__main__":
    main()
