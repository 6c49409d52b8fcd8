"""Where the tool and what is asked for lie beside the line of sight."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agents import sight
from perception.sphere import pyramid_rays
from perception.text import COLOURS, embed

FOVS, SIDE = (17.3, 62.3), 40
RAYS, FINE = (torch.from_numpy(pyramid_rays(FOVS, side)).float() for side in (SIDE, 4 * SIDE))
GREY = (0.6, 0.6, 0.6)
angles = st.tuples(st.floats(-3.0, 3.0), st.floats(-1.2, 1.2))


def pictures(colour: tuple[float, float, float], row: slice, column: slice) -> torch.Tensor:
    """A grey level, and one with a rectangle. (1, 2, R, R, 3)."""
    picture = np.tile(np.array(GREY), (1, 2, SIDE, SIDE, 1))
    picture[0, 0, row, column] = colour
    return torch.from_numpy((255 * picture).astype(np.uint8))


def found_in(images: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    return sight.points(sight.closeness(images, words), RAYS)


def test_reach_is_where_the_tool_is_beside_the_line_of_sight() -> None:
    # The tool on the table, 0.5 m ahead of an eye 0.22 m above it, and the eye on the tool: nothing is missing.
    down = float(np.arctan2(-0.22, 0.5))
    gaze = torch.tensor([[0.0, down], [0.1, down], [0.0, 0.3]])
    told = sight.reach(gaze, torch.tensor([[0.5, 0.0, -0.22]]).expand(3, 3), 0.22)
    there, missing, near, nearest = told.split(3, dim=-1)
    assert torch.allclose(there, torch.tensor([0.0, down, 0.5]).expand(3, 3), atol=1e-6)
    assert torch.allclose(missing[:2], torch.tensor([[0.0, 0.0, 0.0], [-0.1, 0.0, 0.0]]), atol=1e-6)
    assert missing[2].isfinite().all()  # above the horizon, where the line of sight meets no table
    assert torch.allclose(near, (5 * missing).tanh())
    assert torch.allclose(nearest, (20 * missing).tanh())


@given(gaze=angles, tilt=st.tuples(st.floats(-0.9, 0.9), st.floats(-0.9, 0.9)))
def test_a_vector_of_the_camera_is_turned_as_the_camera_is(gaze: tuple[float, float], tilt: tuple[float, float]) -> None:
    looks = torch.tensor(gaze, dtype=torch.float64)
    ray = torch.tensor([*tilt, 1.0], dtype=torch.float64)
    right = torch.stack([looks[0].sin(), -looks[0].cos(), looks.new_zeros(())])
    forward = sight.ahead(looks)
    down = torch.linalg.cross(forward, right)
    world = ray[0] * right + ray[1] * down + ray[2] * forward
    assert torch.allclose(sight.ahead(sight.turned(looks, ray)), world / world.norm(), atol=1e-9)


@pytest.mark.parametrize("shade", [1.0, 0.75, 0.55])
@pytest.mark.parametrize("name", ["red", "cyan", "orange", "blue", "yellow"])
def test_the_named_colour_is_found_in_any_shade_to_a_fraction_of_a_pixel(name: str, shade: float) -> None:
    r, g, b = COLOURS[name]
    row, column = slice(8, 13), slice(20, 31)
    words = torch.from_numpy(embed([f"touch the {name} thing"]))
    found = found_in(pictures((shade * r, shade * g, shade * b), row, column), words)
    there = RAYS[0, row, column].mean(dim=(0, 1))
    away = sight.turned(torch.zeros(2), found[0, 0, 0]) - sight.turned(torch.zeros(2), there)
    assert float(torch.rad2deg(away.abs()).max()) < 0.25 * FOVS[0] / SIDE
    assert float(found[0, 0, 0].norm()) == pytest.approx(55 / SIDE**2, rel=0.1)
    assert float(found[0, 1, 0].norm()) < 0.05 * 55 / SIDE**2  # a level without it
    assert not found[0, :, 1].any()  # no second colour was named


def test_the_colours_of_two_things_are_told_apart() -> None:
    picture = pictures(COLOURS["cyan"], slice(5, 10), slice(5, 10))
    picture[0, 0, 25:30, 30:35] = torch.from_numpy((255 * np.array(COLOURS["orange"])).astype(np.uint8))
    found = found_in(picture, torch.from_numpy(embed(["put the cyan towel into the orange bucket"])))[0, 0]
    towel, bucket = RAYS[0, 7, 7], RAYS[0, 27, 32]
    for point, there in zip(found, (towel, bucket), strict=True):
        assert torch.allclose(point[:2] / point[2], there[:2] / there[2], atol=2e-3)


def test_beside_is_the_reach_from_a_gaze_that_would_look_at_it() -> None:
    """Whatever the gaze is off by, what is missing between the tool and the thing stays the same."""
    words, down = torch.from_numpy(embed(["touch the red thing"])), -0.35
    thing = torch.tensor([0.1, down])
    tool = torch.tensor([[0.5, 0.1, -0.2]])
    told = []
    for off in (torch.zeros(2), torch.tensor([0.03, -0.02]), torch.tensor([-0.05, 0.04])):
        gaze = (thing + off)[None]
        apart = RAYS[0] / RAYS[0].norm(dim=-1, keepdim=True)
        towards = sight.turned(gaze, apart.flatten(0, 1)) - thing
        near = (towards.norm(dim=-1) < 0.02).reshape(SIDE, SIDE)
        picture = pictures(GREY, slice(0), slice(0))
        picture[0, 0][near] = torch.tensor([229, 0, 0], dtype=torch.uint8)
        points = found_in(picture, words)
        told.append(sight.beside(gaze, points, tool, 0.22)[0, :3])
    wanted = sight.reach(thing[None], tool, 0.22)[0, 3:6]
    for one in told:
        assert torch.allclose(one, wanted, atol=0.01)


def shape_of(inside: torch.Tensor, colour: str = "red") -> torch.Tensor:
    """Of a red thing in the first level: its pixels, a mask (R, R)."""
    picture = pictures(GREY, slice(0), slice(0))
    picture[0, 0][inside] = torch.from_numpy((255 * np.array(COLOURS[colour])).astype(np.uint8))
    found = sight.shapes(sight.closeness(picture, torch.from_numpy(embed(["touch the red thing"]))), RAYS)
    assert found.shape == (1, 2, 2, 7)
    return found[0, 0]


@given(size=st.tuples(st.integers(5, 15), st.integers(5, 15)), at=st.tuples(st.integers(2, 22), st.integers(2, 22)))
def test_the_shape_of_a_rectangle_is_its_width_and_height_wherever_it_is(size: tuple[int, int], at: tuple[int, int]) -> None:
    inside = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    inside[at[0] : at[0] + size[0], at[1] : at[1] + size[1]] = True
    high, wide = size
    found, pixel = shape_of(inside), 2 * np.tan(np.radians(FOVS[0] / 2)) / SIDE
    wanted = [pixel * np.sqrt((n**2 - 1) / 12) for n in (wide, high)]  # of n places side by side
    assert torch.allclose(found[0, :2] / 10, torch.tensor(wanted).float(), rtol=0.06, atol=4e-3)
    assert torch.allclose(found[0, 2:], torch.zeros(5), atol=0.05)  # a rectangle has no tilt and no corner
    assert not found[1].any()  # no second colour was named


@pytest.mark.parametrize("turn", [-60, -30, 0, 30, 60])
def test_the_shape_of_a_bar_tells_how_it_is_turned(turn: float) -> None:
    along = torch.tensor([np.cos(np.radians(turn)), np.sin(np.radians(turn))]).float()  # to the right and down
    right, down = RAYS[0, ..., 0] / RAYS[0, ..., 2], RAYS[0, ..., 1] / RAYS[0, ..., 2]
    long, thick = right * along[0] + down * along[1], down * along[0] - right * along[1]
    wide, high, tilt = shape_of((long.abs() < 0.1) & (thick.abs() < 0.03))[0, :3]
    covariance = np.array([[wide**2, wide * high * tilt], [wide * high * tilt, high**2]])
    axis = np.linalg.eigh(covariance)[1][:, 1]
    assert abs(np.degrees(np.arctan2(axis[1], axis[0])) - turn + 90) % 180 == pytest.approx(90, abs=2)


def test_the_shape_of_a_wedge_tells_where_its_edge_is() -> None:
    row, column = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    wedge = (column > 10) & (column < 28) & ((row - 20).abs() < (28 - column) / 2)  # thick on the left
    skew = shape_of(wedge)[0, 3:]
    assert skew[0] > 0.3
    assert skew[2] < -0.3  # E[x y^2]: it is high where x is small
    assert torch.allclose(skew[[1, 3]], torch.zeros(2), atol=0.05)


def test_where_nothing_has_the_colour_there_is_no_shape() -> None:
    nothing = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    inside = nothing.clone()
    inside[10:20, 10:30] = True
    for found in (shape_of(nothing), shape_of(inside, "blue")):
        assert found.abs().max() < 0.05
    assert shape_of(inside)[0, 0] > 0.3


def test_where_nothing_has_the_colour_the_line_of_sight_stands_for_it() -> None:
    gaze, tool = torch.tensor([[0.2, -0.3]]), torch.tensor([[0.4, 0.1, -0.1]])
    told = sight.beside(gaze, torch.zeros(1, 2, 2, 3), tool, 0.22).reshape(2, 2, 12)
    assert torch.allclose(told[..., :9], sight.reach(gaze, tool, 0.22)[0, 3:].expand(2, 2, 9), atol=1e-6)
    assert not told[..., 9:].any()


def lies(
    rays: torch.Tensor, azimuth: float, away: float, turn: float, long: float, wide: float, gaze: tuple[float, float]
) -> torch.Tensor:
    """Weights (1, L, R, R, 2) of a flat rectangle on the table, 0.22 m below the eye: middle, turn and half sides."""
    right, down, forward = rays.unbind(-1)
    cos, sin = np.cos(gaze[1]), np.sin(gaze[1])
    level, up = forward * cos + down * sin, forward * sin - down * cos
    far = 0.22 / (-up).clamp(min=1e-3)
    x, y = far * level, -far * right  # along the gaze's azimuth and to its left
    x, y = x - away * np.cos(azimuth - gaze[0]), y - away * np.sin(azimuth - gaze[0])
    own = turn - gaze[0]
    u, v = x * np.cos(own) + y * np.sin(own), y * np.cos(own) - x * np.sin(own)
    on = ((u.abs() < long) & (v.abs() < wide) & (up < 0)).float()
    return torch.stack([on, 0 * on], dim=-1)[None]


@pytest.mark.parametrize(("rays", "most"), [(FINE, 0.25), (RAYS, 0.7)], ids=["fine", "as the eye sees"])
@given(
    azimuth=st.floats(-2, 2), away=st.floats(0.4, 0.65), turn=st.floats(-1.5, 1.5), tool=st.floats(-1.5, 1.5),
    off=st.tuples(st.floats(-0.05, 0.05), st.floats(-0.05, 0.05)),
)  # fmt: skip
def test_turns_are_what_is_missing_between_tool_and_thing(
    rays: torch.Tensor, most: float, azimuth: float, away: float, turn: float, tool: float, off: tuple[float, float]
) -> None:
    """Whoever adds the constant of the thing's size has twice the angle, wherever it lies and wherever the eye looks.

    In the eye's own pixels the thing is two or three of them deep, and so far off too.
    """
    long, wide, unit = 0.05, 0.015, 0.05**2
    gaze = (azimuth + off[0], float(np.arctan2(-0.22, away)) + off[1])
    weights = lies(rays, azimuth, away, azimuth + turn, long, wide, gaze)
    axis = torch.tensor([[np.cos(azimuth + tool), np.sin(azimuth + tool)]])
    looks = torch.tensor([gaze], dtype=torch.float64)
    where = sight.directions(looks, sight.points(weights, rays).double())
    told = sight.turns(looks, sight.shapes(weights, rays).double(), where, sight.doubled(axis), 0.22)[0]
    own, missing = torch.complex(told[0], told[1]), torch.complex(told[2::2], told[3::2]).unflatten(0, (len(FOVS), 2))
    beside = azimuth + tool - gaze[0]
    assert abs(own - np.exp(-2j * beside)) < 1e-6
    size, longer = (long**2 + wide**2) / 3 / unit, (long**2 - wide**2) / 3 / unit
    expected = longer * np.exp(2j * (turn - tool))
    found = missing[0, 0] + size * own  # twice k, k half of the sum of the variances
    assert abs(found - expected) < most * longer
    assert not missing[:, 1].abs().any()  # nothing has the second colour


@given(azimuth=st.floats(-2, 2), away=st.floats(0.35, 0.65), past=st.floats(-0.08, 0.08), half=st.booleans())
def test_raised_is_what_is_missing_beside_a_thing_above_the_table(azimuth: float, away: float, past: float, half: bool) -> None:
    high = 0.22 * (0.5 if half else 0.25)
    gaze = torch.tensor([[azimuth, float(np.arctan2(high - 0.22, away))]])
    point = torch.tensor([0.0, 0.0, 0.1]).expand(1, 1, 2, 3)  # in the line of sight
    tool = torch.tensor([[(away + past) * np.cos(azimuth), (away + past) * np.sin(azimuth), -0.1]]).float()
    told = sight.raised(sight.directions(gaze, point), tool, 0.22).unflatten(1, (2, 2, 2))
    assert told.shape[1:] == (2, 2, 2)  # colours, functions, heights
    expected = torch.tensor([5 * past, 20 * past]).tanh()
    assert torch.allclose(told[0, :, :, int(half)], expected.expand(2, 2), atol=1e-3)


def test_an_axis_and_its_opposite_are_one_turn() -> None:
    axes = torch.tensor([[0.6, 0.8], [-0.6, -0.8]])
    one, other = sight.doubled(axes)
    assert torch.allclose(one, other)
    assert torch.allclose(one, torch.tensor([np.cos(2 * np.arctan2(0.8, 0.6)), np.sin(2 * np.arctan2(0.8, 0.6))]).float())
