"""Laws of the asset library: what each file promises, checked against numbers that do not come from the file."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import mujoco
import numpy as np
import pytest

import assets
from assets import AssetNotFoundError, Prop, asset, props

ROOT = Path(assets.__file__).resolve().parent
XMLS = sorted(p.relative_to(ROOT).as_posix() for p in ROOT.rglob("*.xml"))
PROPS = sorted(p.stem for p in (ROOT / "props").glob("*.xml") if p.stem != "door")
COLOURS = {"red", "green", "blue", "yellow", "orange", "purple", "pink", "brown", "white", "black", "grey", "cyan"}
STEP = 1 / 240

# Franka, "Robot and interface specifications", limits for Panda.
Q_MIN = [-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973]
Q_MAX = [2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973]
DQ_MAX = [2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61]
TAU_MAX = [87, 87, 87, 87, 12, 12, 12]
HOME = np.array([0, -0.785, 0, -2.356, 0, 1.571, 0.785])
# A far reach and a twisted reach: with home, the ends of the range of inertia that a task meets.
REACHES = [HOME, np.array([0, 0.6, 0, -1.2, 0, 1.6, 0]), np.array([0.5, -0.3, 0.5, -2.0, -0.8, 2.0, 1.0])]


def load(path: str) -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_path(str(asset(path)))


def files() -> list[str]:
    return [
        p.relative_to(ROOT).as_posix()
        for p in ROOT.rglob("*")
        if p.is_file() and "__pycache__" not in p.parts and not p.name.startswith(".")
    ]


# ------------------------------------------------------------------------------------------------------ the folder


@pytest.mark.parametrize("path", XMLS)
def test_every_xml_compiles_alone(path: str) -> None:
    model = load(path)
    assert model.nbody >= 1
    assert np.isclose(model.opt.timestep, STEP)
    assert model.opt.integrator == mujoco.mjtIntegrator.mjINT_IMPLICITFAST


@pytest.mark.parametrize("arena", ["arenas/tabletop.xml", "arenas/tabletop_arc.xml"])
def test_everything_attaches_to_an_arena_without_change_of_meaning(arena: str) -> None:
    spec = mujoco.MjSpec.from_file(str(asset(arena)))
    parts = [p for p in XMLS if not p.startswith("arenas/")]
    for i, path in enumerate(parts):
        frame = spec.worldbody.add_frame(pos=[0, 0, 1.0 * i])
        spec.attach(mujoco.MjSpec.from_file(str(asset(path))), prefix=f"{i}/", frame=frame)
    whole = spec.compile()
    for i, path in enumerate(parts):
        alone = load(path)
        for j in range(alone.njnt):
            name = alone.joint(j).name
            assert np.allclose(whole.joint(f"{i}/{name}").range, alone.joint(j).range), name
            assert np.allclose(whole.joint(f"{i}/{name}").damping, alone.joint(j).damping), name
        for j in range(1, alone.nbody):
            body = whole.body(f"{i}/{alone.body(j).name}")
            assert np.isclose(body.mass[0], alone.body(j).mass[0]), body.name
    eye = next(i for i, p in enumerate(parts) if p.endswith("gimbal.xml"))
    assert np.allclose(whole.actuator(f"{eye}/pan").ctrlrange, np.deg2rad([-150, 150]))
    arm = next(i for i, p in enumerate(parts) if p.endswith("panda.xml"))
    assert np.allclose(whole.numeric(f"{arm}/home").data, HOME)


@pytest.mark.parametrize("arena", ["arenas/tabletop.xml", "arenas/tabletop_arc.xml"])
def test_arena_has_its_cameras_its_light_and_its_top_at_zero(arena: str) -> None:
    model = load(arena)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    assert {model.camera(i).name for i in range(model.ncam)} == {"front", "side", "top"}
    lights = ["sun", "lamp"] if arena.endswith("arc.xml") else ["sun"]
    assert [model.light(i).name for i in range(model.nlight)] == lights
    assert (model.vis.global_.offwidth, model.vis.global_.offheight) == (1920, 1920)
    assert model.vis.map.znear * model.stat.extent == pytest.approx(0.005)
    hit = np.zeros(1, np.int32)
    for radius in (0.0, 0.45, 0.75):
        for angle in np.deg2rad([-60, 0, 60]):
            start = np.array([radius * np.cos(angle), radius * np.sin(angle), 1.0])
            drop = mujoco.mj_ray(model, data, start, np.array([0, 0, -1.0]), None, 1, -1, hit)
            assert start[2] - drop == pytest.approx(0.0, abs=1e-9)
            assert model.geom(hit[0]).name == "table"
    assert model.geom("floor").pos[2] == pytest.approx(-0.75)


def test_arena_cameras_see_the_workspace() -> None:
    for arena in ("arenas/tabletop.xml", "arenas/tabletop_arc.xml"):
        model = load(arena)
        data = mujoco.MjData(model)
        mujoco.mj_forward(model, data)
        for name in ("front", "side", "top"):
            cam = data.camera(name)
            half = np.tan(np.deg2rad(model.camera(name).fovy[0]) / 2)
            for point in ([0.6, 0, 0.1], [0.45, 0.3, 0.1], [0.45, -0.3, 0.1], [0, 0, 0.5]):
                seen = cam.xmat.reshape(3, 3).T @ (np.array(point) - cam.xpos)
                assert seen[2] < 0, (arena, name)
                assert np.all(np.abs(seen[:2] / -seen[2]) < half), (arena, name, point)


def test_every_file_is_listed_in_sources_and_every_listed_file_exists() -> None:
    listed = set(re.findall(r"^\| `([^`]+)` \|", (ROOT / "SOURCES.md").read_text(encoding="utf-8"), flags=re.M))
    whole = tuple(row for row in listed if row.endswith("/"))  # folders are listed as one
    assert listed - set(whole) == {f for f in files() if not f.startswith(whole)}
    assert all(any(f.startswith(row) for f in files()) for row in whole)


def test_the_library_is_small() -> None:
    sizes = {f: (ROOT / f).stat().st_size for f in files()}
    large = ("vlm/", "recordings/", "policies/")
    assert sum(size for f, size in sizes.items() if not f.startswith(large)) < 1_000_000
    assert sum(size for f, size in sizes.items() if f.startswith("policies/")) < 30_000_000
    assert sum(sizes.values()) < 50_000_000


# ---------------------------------------------------------------------------------------------------------- asset()


def test_asset_returns_an_absolute_path() -> None:
    assert asset("robots/panda.xml").is_absolute()
    assert asset("robots/panda.xml").read_text(encoding="utf-8").startswith("<mujoco")


def test_asset_names_the_near_miss_and_the_alternatives() -> None:
    with pytest.raises(AssetNotFoundError) as caught:
        asset("props/mugg.xml")
    text = str(caught.value)
    assert "'props/mugg.xml'" in text
    assert "did you mean 'props/mug.xml'?" in text
    assert "bucket.xml" in text
    assert "kettle.xml" in text
    assert isinstance(caught.value, FileNotFoundError)


def test_asset_corrects_a_folder_too() -> None:
    with pytest.raises(AssetNotFoundError, match=r"did you mean 'robots/panda\.xml'"):
        asset("robot/panda.xml")


@pytest.mark.parametrize("path", ["", "props", "../pyproject.toml", "/etc/hostname", "zzz/qqq.bin"])
def test_asset_refuses_what_is_no_file_of_the_library(path: str) -> None:
    with pytest.raises(AssetNotFoundError) as caught:
        asset(path)
    assert repr(path) in str(caught.value)


def test_import_loads_nothing_heavy() -> None:
    code = (
        "import sys, importlib; importlib.import_module('assets');"
        "print(*(m for m in ('json', 'numpy', 'mujoco', 'PIL', 'cv2') if m in sys.modules))"
    )
    run = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT.parent, capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


# ------------------------------------------------------------------------------------------------------------ props


def extents(model: mujoco.MjModel) -> tuple[np.ndarray, np.ndarray]:
    """Corners of the bounding box of all geoms, in m, in the frame of the world."""
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    kind = mujoco.mjtGeom
    for g in range(model.ngeom):
        rot, size = data.geom_xmat[g].reshape(3, 3), model.geom_size[g]
        axis = rot[:, 2]
        half = {
            kind.mjGEOM_BOX: np.abs(rot) @ size,
            kind.mjGEOM_SPHERE: np.full(3, size[0]),
            kind.mjGEOM_CAPSULE: np.abs(axis) * size[1] + size[0],
            kind.mjGEOM_CYLINDER: np.abs(axis) * size[1] + size[0] * np.sqrt(np.clip(1 - axis**2, 0, 1)),
            kind.mjGEOM_ELLIPSOID: np.sqrt(rot**2 @ size**2),
        }[kind(model.geom_type[g])]
        low, high = np.minimum(low, data.geom_xpos[g] - half), np.maximum(high, data.geom_xpos[g] + half)
    return low, high


def on_a_plane(name: str, lift: float = 0.0) -> tuple[mujoco.MjModel, mujoco.MjData]:
    spec = mujoco.MjSpec()
    spec.option.timestep = STEP
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[1, 1, 1])
    child = mujoco.MjSpec.from_file(str(asset(f"props/{name}.xml")))
    spec.attach(child, prefix="p/", frame=spec.worldbody.add_frame(pos=[0, 0, lift]))
    spec.body("p/root").add_freejoint()
    model = spec.compile()
    return model, mujoco.MjData(model)


def test_the_table_names_every_prop_once() -> None:
    rows = json.loads((ROOT / "props" / "props.json").read_text(encoding="utf-8"))
    assert sorted(r["name"] for r in rows) == PROPS == sorted(props())
    phrases = [p.phrase for p in props().values()]
    assert len(set(phrases)) == len(phrases)
    colours = [p.colour for p in props().values()]
    assert set(colours) <= COLOURS
    assert max(colours.count(c) for c in COLOURS) <= 2
    for prop in props().values():
        assert prop.phrase == f"the {prop.colour} {prop.noun}"


def test_props_are_frozen_and_the_dict_is_the_callers_own() -> None:
    mine = props()
    mine.clear()
    mug = props()["mug"]
    assert isinstance(mug, Prop)
    with pytest.raises(AttributeError):
        mug.noun = "cup"  # type: ignore[misc]


@pytest.mark.parametrize("name", PROPS)
def test_prop_agrees_with_its_row(name: str) -> None:
    model, row = load(f"props/{name}.xml"), props()[name]
    low, high = extents(model)
    assert abs(low[2]) < 0.002
    assert np.allclose(high - low, row.size_m, rtol=0.05)
    assert high[2] == pytest.approx(row.height_m, rel=0.05)
    assert model.body_mass.sum() == pytest.approx(row.mass_kg, rel=0.05)
    assert model.ngeom <= (1 if name.startswith("cube") else 6)
    solid = model.geom_contype == 1
    assert np.all(model.geom_condim[solid] >= 4)
    assert np.all(model.geom_conaffinity[solid] == 1)
    assert solid.sum() == (1 if name == "apple" else model.ngeom)  # stem and leaf of the apple bend
    assert model.nmesh == 0
    if row.grasp_width_m is not None:
        assert 0.005 < row.grasp_width_m < 0.08


@pytest.mark.parametrize("name", PROPS)
def test_prop_shows_its_colour_word(name: str) -> None:
    """The colour word must be that of a geom, by hue; a wrong word is a wrong instruction."""
    hues = {
        "red": 0,
        "orange": 30,
        "brown": 25,
        "yellow": 55,
        "green": 105,
        "cyan": 184,
        "blue": 232,
        "purple": 280,
        "pink": 333,
    }
    word = props()[name].colour
    found = False
    for red, green, blue, _ in load(f"props/{name}.xml").geom_rgba:
        top, low = max(red, green, blue), min(red, green, blue)
        grey = top - low < 0.12
        if word in ("black", "grey", "white"):
            found |= bool(grey and {"black": top < 0.25, "grey": 0.4 < top < 0.7, "white": top > 0.9}[word])
        elif not grey:
            side = [red, green, blue].index(top)
            hue = 60 * [(green - blue), 2 * (top - low) + blue - red, 4 * (top - low) + red - green][side] / (top - low)
            near = abs((hue - hues[word] + 180) % 360 - 180) < 12
            found |= bool(near and (top < 0.6 if word == "brown" else top > 0.7))
    assert found


@pytest.mark.parametrize("name", PROPS)
def test_prop_rests_where_it_is_put(name: str) -> None:
    model, data = on_a_plane(name)
    mujoco.mj_forward(model, data)
    start = data.qpos.copy()
    for _ in range(240):
        mujoco.mj_step(model, data)
    assert np.linalg.norm(data.qpos[:3] - start[:3]) < 0.005
    tilt = 2 * np.arccos(min(1.0, abs(float(data.qpos[3:] @ start[3:]))))
    assert tilt < np.deg2rad(2)
    assert np.abs(data.qvel).max() < 0.02


def test_the_bucket_is_hollow() -> None:
    model, data = on_a_plane("bucket")
    mujoco.mj_forward(model, data)
    hit = np.zeros(1, np.int32)
    for x, y in ((0, 0), (0.06, 0), (-0.06, 0), (0, 0.06), (0, -0.06)):
        depth = mujoco.mj_ray(model, data, np.array([x, y, 0.3]), np.array([0, 0, -1.0]), None, 1, -1, hit)
        assert 0.3 - depth < 0.01


def test_a_cube_dropped_into_the_bucket_stays_inside() -> None:
    spec = mujoco.MjSpec()
    spec.option.timestep = STEP
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[1, 1, 1])
    for name, pos in (("bucket", [0, 0, 0]), ("cube_red", [0.03, 0.01, 0.2])):
        child = mujoco.MjSpec.from_file(str(asset(f"props/{name}.xml")))
        spec.attach(child, prefix=f"{name}/", frame=spec.worldbody.add_frame(pos=pos))
        spec.body(f"{name}/root").add_freejoint()
    model = spec.compile()
    data = mujoco.MjData(model)
    for _ in range(360):
        mujoco.mj_step(model, data)
    cube, bucket = data.body("cube_red/root").xpos, data.body("bucket/root").xpos
    assert np.hypot(*(cube - bucket)[:2]) < 0.09
    assert 0.0 < cube[2] < 0.06


def test_the_stand_takes_the_eraser() -> None:
    stand, eraser = load("props/stand.xml"), props()["eraser"]
    front, left = stand.geom("wall_front"), stand.geom("wall_left")
    clear_y = 2 * (abs(front.pos[1]) - front.size[1])
    clear_x = 2 * (abs(left.pos[0]) - left.size[0])
    assert clear_x > eraser.size_m[0] + 0.02
    assert clear_y > eraser.size_m[1] + 0.02


def test_the_door_opens_towards_the_robot() -> None:
    model = load("props/door.xml")
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    shut = data.site("handle").xpos.copy()
    assert np.allclose(model.joint("hinge").range, [0, 1.6])
    data.joint("hinge").qpos = 0.5
    mujoco.mj_forward(model, data)
    moved = data.site("handle").xpos - shut
    assert moved[0] < -0.1
    assert abs(moved[2]) < 1e-9
    low, high = extents(model)
    assert low[2] == pytest.approx(0, abs=0.002)
    assert np.allclose((high - low)[1:], [0.4, 0.5], atol=0.02)
    data.joint("hinge").qpos = 0.0
    data.qfrc_applied[0] = 3.0  # 1 kg of pull on the handle, less friction
    for _ in range(240):
        mujoco.mj_step(model, data)
    assert data.joint("hinge").qpos[0] > 0.5
    data.qfrc_applied[0] = 0.0
    for _ in range(720):
        mujoco.mj_step(model, data)
    assert np.abs(data.qvel).max() < 0.01


# ------------------------------------------------------------------------------------------------------------ panda


@pytest.fixture(scope="module")
def panda() -> mujoco.MjModel:
    return load("robots/panda.xml")


def test_panda_has_the_published_limits(panda: mujoco.MjModel) -> None:
    for i in range(7):
        joint, servo = panda.joint(f"joint{i + 1}"), panda.actuator(f"joint{i + 1}")
        assert np.allclose(joint.range, [Q_MIN[i], Q_MAX[i]], atol=1e-12)
        assert np.allclose(servo.ctrlrange, joint.range, atol=1e-12)
        assert np.allclose(servo.forcerange, [-TAU_MAX[i], TAU_MAX[i]])
        assert servo.trnid[0] == joint.id
    assert np.allclose(panda.numeric("velocity_limit").data, DQ_MAX)
    assert np.allclose(panda.numeric("home").data, HOME)
    for name in ("finger_joint1", "finger_joint2"):
        assert np.allclose(panda.joint(name).range, [0, 0.04])
    assert np.allclose(panda.actuator("gripper").ctrlrange, [0, 0.08])
    assert panda.ngeom <= 20


def dh_flange(q: np.ndarray) -> np.ndarray:
    """Flange pose (4 x 4, metres, base frame) from the published modified Denavit-Hartenberg table (Craig)."""
    a = [0, 0, 0, 0.0825, -0.0825, 0, 0.088]
    d = [0.333, 0, 0.316, 0, 0.384, 0, 0]
    alpha = [0, -np.pi / 2, np.pi / 2, np.pi / 2, -np.pi / 2, np.pi / 2, np.pi / 2]
    pose = np.eye(4)
    for ai, di, al, th in zip(a, d, alpha, q, strict=True):
        ct, st, ca, sa = np.cos(th), np.sin(th), np.cos(al), np.sin(al)
        pose = pose @ np.array(
            [[ct, -st, 0, ai], [st * ca, ct * ca, -sa, -di * sa], [st * sa, ct * sa, ca, di * ca], [0, 0, 0, 1]]
        )
    flange = np.eye(4)
    flange[2, 3] = 0.107
    return pose @ flange


@pytest.mark.parametrize("q", [np.zeros(7), *REACHES])
def test_panda_kinematics_follow_the_published_table(panda: mujoco.MjModel, q: np.ndarray) -> None:
    data = mujoco.MjData(panda)
    data.qpos[:7] = q
    mujoco.mj_fwdPosition(panda, data)
    want = dh_flange(q)
    assert np.allclose(data.site("flange").xpos, want[:3, 3], atol=1e-6)
    assert np.allclose(data.site("flange").xmat.reshape(3, 3), want[:3, :3], atol=1e-6)
    # The hand is turned by -45 deg about the flange; the grasp point is 0.1034 m further (franka_hand.xacro).
    tcp = want[:3, 3] + 0.1034 * want[:3, 2]
    assert np.allclose(data.site("tcp").xpos, tcp, atol=1e-6)
    turn = np.array([[np.sqrt(0.5), np.sqrt(0.5), 0], [-np.sqrt(0.5), np.sqrt(0.5), 0], [0, 0, 1]])
    assert np.allclose(data.site("tcp").xmat.reshape(3, 3), want[:3, :3] @ turn, atol=1e-6)
    assert np.allclose(data.site("base").xpos, 0)
    # The wrist camera looks along the approach direction: its -z is the z of the tcp.
    assert np.allclose(-data.camera("wrist").xmat.reshape(3, 3)[:, 2], want[:3, 2], atol=1e-6)


@pytest.mark.parametrize("joint", range(7))
@pytest.mark.parametrize("reach", range(3))
def test_panda_servo_settles(panda: mujoco.MjModel, joint: int, reach: int) -> None:
    data = mujoco.MjData(panda)
    data.qpos[:7] = data.ctrl[:7] = REACHES[reach]
    mujoco.mj_forward(panda, data)
    data.ctrl[joint] += 0.2
    trace, torque = [], 0.0
    for _ in range(144):
        mujoco.mj_step(panda, data)
        trace.append((data.qpos[joint] - REACHES[reach][joint]) / 0.2)
        torque = max(torque, abs(float(data.actuator_force[joint])))
    trace = np.array(trace)
    late = np.flatnonzero(np.abs(trace - 1) > 0.05)
    assert (late[-1] + 2) * STEP < 0.3
    assert trace.max() < 1.05
    assert abs(trace[-1] - 1) < 0.005  # gravity is compensated: nothing is left to hold
    assert torque <= TAU_MAX[joint] + 1e-9


def test_panda_holds_home_and_touches_nothing(panda: mujoco.MjModel) -> None:
    data = mujoco.MjData(panda)
    data.qpos[:7] = data.ctrl[:7] = HOME
    for _ in range(240):
        mujoco.mj_step(panda, data)
        assert data.ncon == 0
    assert np.abs(data.qpos[:7] - HOME).max() < 1e-3


def test_panda_never_touches_itself(panda: mujoco.MjModel) -> None:
    data = mujoco.MjData(panda)
    rng = np.random.default_rng(0)
    for _ in range(100):
        data.qpos[:7] = rng.uniform(Q_MIN, Q_MAX)
        data.qpos[7:9] = rng.uniform(0, 0.04)
        mujoco.mj_fwdPosition(panda, data)
        assert data.ncon == 0


def test_gripper_takes_the_opening_in_metres(panda: mujoco.MjModel) -> None:
    data = mujoco.MjData(panda)
    data.qpos[:7] = data.ctrl[:7] = HOME
    for width in (0.08, 0.03, 0.0):
        data.ctrl[7] = width
        for step in range(120):
            mujoco.mj_step(panda, data)
            assert abs(data.qpos[7] - data.qpos[8]) < 5e-4, step
        assert data.qpos[7] + data.qpos[8] == pytest.approx(width, abs=5e-4)
        mujoco.mj_forward(panda, data)
        pads = [data.geom(n).xpos for n in ("left_pad", "right_pad")]
        gap = np.linalg.norm(pads[0] - pads[1]) - 2 * panda.geom("left_pad").size[1]
        assert gap == pytest.approx(width, abs=1e-3)


@pytest.mark.parametrize("name", ["cube_red", "wood_block", "apple"])
def test_gripper_holds_a_prop_against_gravity(name: str) -> None:
    row = props()[name]
    spec = mujoco.MjSpec.from_file(str(asset("robots/panda.xml")))
    # In the home pose the hand points down; the prop hangs between the pads with its middle at the tcp.
    tcp = dh_flange(HOME)[:3, 3] + 0.1034 * dh_flange(HOME)[:3, 2]
    child = mujoco.MjSpec.from_file(str(asset(f"props/{name}.xml")))
    middle = 0.036 if name == "apple" else row.height_m / 2
    spec.attach(child, prefix="p/", frame=spec.worldbody.add_frame(pos=tcp - [0, 0, middle]))
    spec.body("p/root").add_freejoint()
    model = spec.compile()
    data = mujoco.MjData(model)
    data.qpos[:7] = data.ctrl[:7] = HOME
    data.qpos[7:9] = row.grasp_width_m / 2 + 0.0005
    mujoco.mj_forward(model, data)
    start = data.body("p/root").xpos.copy()
    for _ in range(360):
        mujoco.mj_step(model, data)
    assert np.linalg.norm(data.body("p/root").xpos - start) < 0.005
    data.ctrl[7] = 0.08
    for _ in range(120):
        mujoco.mj_step(model, data)
    assert data.body("p/root").xpos[2] < start[2] - 0.3


# ------------------------------------------------------------------------------------------------------------- gimbal


@pytest.fixture(scope="module")
def gimbal() -> mujoco.MjModel:
    return load("eyes/gimbal.xml")


def test_gimbal_turns_about_the_lens(gimbal: mujoco.MjModel) -> None:
    data = mujoco.MjData(gimbal)
    for pan, tilt in ((0, 0), (1, 0.4), (-2, -0.5), (2.2, 0.5)):
        data.joint("pan").qpos, data.joint("tilt").qpos = pan, tilt
        mujoco.mj_forward(gimbal, data)
        lens = data.site("lens").xpos
        assert np.allclose(lens, 0, atol=1e-12)
        assert np.allclose(data.site("camera").xpos, lens, atol=1e-12)
        for joint in range(gimbal.njnt):
            offset = lens - data.xanchor[joint]
            assert np.linalg.norm(np.cross(offset, data.xaxis[joint])) < 1e-12
        camera = data.site("camera").xmat.reshape(3, 3)
        gaze = [np.cos(tilt) * np.cos(pan), np.cos(tilt) * np.sin(pan), np.sin(tilt)]
        assert np.allclose(-camera[:, 2], gaze, atol=1e-12)  # +tilt looks up, +pan to the left
        assert np.isclose(camera[2, 1], np.cos(tilt), atol=1e-12)  # the image stays upright
        assert np.allclose(data.body("camera").xmat, data.site("camera").xmat)


def test_gimbal_has_the_stated_ranges(gimbal: mujoco.MjModel) -> None:
    for name, degrees in (("pan", 130), ("tilt", 30)):
        bound = np.deg2rad([-degrees, degrees])
        assert np.allclose(gimbal.joint(name).range, bound)
        assert np.allclose(gimbal.actuator(name).actrange, bound)
        assert gimbal.actuator(name).actlimited[0]
        assert np.allclose(gimbal.actuator(name).ctrlrange, np.deg2rad([-150, 150]))


@pytest.mark.parametrize("axis", ["pan", "tilt"])
@pytest.mark.parametrize("sign", [-1, 1])
def test_gimbal_follows_its_set_point_and_keeps_its_limits(gimbal: mujoco.MjModel, axis: str, sign: int) -> None:
    data = mujoco.MjData(gimbal)
    joint, servo = data.joint(axis), data.actuator(axis)
    top = np.deg2rad(150)
    low, high = gimbal.joint(axis).range
    data.ctrl[servo.id] = sign * 50.0  # far beyond the range of the control: must be clamped
    fastest = 0.0
    lags = []
    for step in range(480):
        mujoco.mj_step(gimbal, data)
        fastest = max(fastest, abs(joint.qvel[0]))
        if 0.1 < (step + 1) * STEP < 0.19:
            lags.append(abs(data.act[servo.id] - joint.qpos[0]) / top)
        assert low - 0.005 < joint.qpos[0] < high + 0.005
    assert 0.9 * top < fastest < 1.1 * top
    assert max(lags) < 0.015
    assert joint.qpos[0] == pytest.approx(high if sign > 0 else low, abs=1e-3)
    # At the stop the set-point does not wind up: the way back starts at once.
    data.ctrl[servo.id] = -sign * top
    for _ in range(24):
        mujoco.mj_step(gimbal, data)
    travelled = abs(joint.qpos[0] - (high if sign > 0 else low))
    assert travelled > 0.7 * top * 24 * STEP


def test_gimbal_stops_without_ringing(gimbal: mujoco.MjModel) -> None:
    data = mujoco.MjData(gimbal)
    data.ctrl[:] = [2.0, 1.0]
    for _ in range(60):
        mujoco.mj_step(gimbal, data)
    data.ctrl[:] = 0
    beyond = 0.0
    for _ in range(60):
        mujoco.mj_step(gimbal, data)
        beyond = max(beyond, float((data.qpos - data.act).max()))
    assert beyond < 1e-3  # rad; a pixel of a 90 deg, 512-wide image is 3e-3
    assert np.abs(data.qvel).max() < 1e-6


def test_gimbal_housing_is_out_of_the_default_view_and_touches_nothing(gimbal: mujoco.MjModel) -> None:
    assert gimbal.ngeom > 0
    assert np.all(gimbal.geom_group == 4)
    assert np.all(gimbal.geom_contype == 0)
    assert np.all(gimbal.geom_conaffinity == 0)
    assert mujoco.MjvOption().geomgroup[4] == 0
    assert gimbal.body_mass.sum() < 0.2


# ----------------------------------------------------------------------------------------------------------- textures


def test_textures_come_out_byte_for_byte(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("make_textures", asset("textures/make.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made = module.make(tmp_path)
    assert {p.name for p in made} == {p.name for p in (ROOT / "textures").glob("*.png")}
    for path in made:
        assert path.read_bytes() == asset(f"textures/{path.name}").read_bytes(), path.name
    for name, draw in module.TEXTURES.items():
        image = draw()
        assert image.shape == (64, 64, 3), name
        assert image.std() > 1, name
