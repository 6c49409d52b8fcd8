#!/usr/bin/env bash
# System libraries: headless OpenGL. Installs them when root on a Debian-like machine, else prints their names and stops.
set -u
packages=()
have() { ldconfig -p 2>/dev/null | grep -q "$1"; }
have libEGL.so.1 || packages+=(libegl1)
have libOpenGL.so.0 || packages+=(libopengl0)
have libGL.so.1 || packages+=(libgl1)
# What Open3D's wheel needs to be imported.
have libusb-1.0.so.0 || packages+=(libusb-1.0-0)
have libgomp.so.1 || packages+=(libgomp1)
# A driver: without one there is a libEGL, but nothing that draws.
driver() { compgen -G "/usr/lib/*/dri/*swrast_dri.so" || compgen -G "/usr/lib/*/libgallium*.so" || have libEGL_nvidia.so.0; }
driver >/dev/null || packages+=(libgl1-mesa-dri)
have libEGL_mesa.so.0 || have libEGL_nvidia.so.0 || packages+=(libegl-mesa0)
python3 -c 'import ensurepip' >/dev/null 2>&1 || packages+=(python3-venv)
if [ ${#packages[@]} -eq 0 ]; then
  echo "== system libraries: all there"
  exit 0
fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "Missing system libraries. Install these Debian/Ubuntu packages, then run make again:" >&2
  echo "    ${packages[*]}" >&2
  exit 1
fi
echo "== installing system libraries: ${packages[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq && apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
