"""The scene oracle says what is to be seen, and corpora of its pictures are whole, mixed, and the same every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from assets.errors import InvalidValueError
from envs import corpus as writing
from envs.corpus import Arc, generate
from envs.oracle import pole
from envs.render import Renderer, profile
from envs.tableau import SEATS, Tableau, kept
from perception.annotation import Annotation
from perception.corpus import Corpus
from perception.frame import Pinhole, pose_of
from perception.questions import ask
from perception.text import COLOURS


class Drawn:
    """Some tableaux, drawn once."""

    def __init__(self, n: int, held_out: bool = False) -> None:
        self.tableau = Tableau(n, seed=3, held_out=held_out)
        self.colours, self.present = self.tableau.draw()
        renderer = Renderer(self.tableau.physics, profile("fast"), 128, 128)
        try:
            drawn = renderer.draw([self.tableau.view])
        finally:
            renderer.close()
        self.images, self.segmentation = (drawn[self.tableau.view.name, kind] for kind in ("rgb", "segmentation"))
        self.labels = self.tableau.oracle.labels(self.segmentation)
        self.truths = self.tableau.oracle.annotate(self.tableau.view, self.segmentation, self.colours, self.present)


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    return Drawn(96)


def names(drawn: Drawn) -> list[str]:
    return [t.name for t in drawn.tableau.oracle.things]


def test_boxes_hold_the_mask_and_nothing_more(drawn: Drawn) -> None:
    checked = 0
    for labels, truth in zip(drawn.labels, drawn.truths, strict=True):
        for seen in truth.seen:
            mask = labels == names(drawn).index(seen.name)
            x1, y1, x2, y2 = (int(v) for v in seen.box)
            assert mask.sum() == seen.area == mask[y1:y2, x1:x2].sum()
            assert mask[y1].any()
            assert mask[y2 - 1].any()
            assert mask[:, x1].any()
            assert mask[:, x2 - 1].any()
            u, v = seen.point
            assert mask[int(v), int(u)]
            checked += 1
    assert checked > 100


def test_what_is_not_there_is_not_seen(drawn: Drawn) -> None:
    for i, truth in enumerate(drawn.truths):
        there = {name for k, name in enumerate(names(drawn)) if drawn.present[i, k]}
        assert {s.name for s in truth.seen} | {name for name, _, _ in truth.faint} <= there


def test_depth_and_place_agree_with_the_camera(drawn: Drawn) -> None:
    physics = drawn.tableau.physics
    position, rotation = physics.camera_pose("tableau")
    fovy = physics.field("cam_fovy")[:, physics.id("camera", "tableau")]
    inside = 0
    for i, truth in enumerate(drawn.truths):
        pose = pose_of(position[i], rotation[i])
        for seen in truth.seen:
            local = (np.array(seen.position) - pose[:3, 3]) @ pose[:3, :3]
            assert local[2] == pytest.approx(seen.depth, abs=1e-6)
            u, v = Pinhole.from_fovy(float(fovy[i]), 128, 128).project(local)
            if not seen.cut and seen.name != "cabinet" and truth.held != seen.name:
                x1, y1, x2, y2 = seen.box
                inside += bool(x1 - 8 <= u <= x2 + 8 and y1 - 8 <= v <= y2 + 8)
    total = sum(not s.cut and s.name != "cabinet" and t.held != s.name for t in drawn.truths for s in t.seen)
    # The middle of a thing's box in space is not always behind its visible part: others stand before it.
    assert inside > 0.93 * total


def test_states_are_those_of_the_simulation(drawn: Drawn) -> None:
    physics = drawn.tableau.physics
    low, high = physics.model.jnt_range[physics.id("joint", "cabinet/hinge")]
    share = (physics.qpos("cabinet/hinge")[:, 0] - low) / (high - low)
    doors = [(t.openings["door"], share[i]) for i, t in enumerate(drawn.truths) if t.openings]
    assert len(doors) > 5
    assert all(said == pytest.approx(true) for said, true in doors)
    held = [i for i, t in enumerate(drawn.truths) if t.held]
    assert held
    tool = physics.site_xpos(drawn.tableau.arm.tool)
    for i in held:
        where = drawn.tableau.oracle.positions()[i, names(drawn).index(drawn.truths[i].held or "")]
        assert np.linalg.norm(where - tool[i]) < 0.03


def test_what_was_put_into_or_onto_something_is_said_to_be(drawn: Drawn) -> None:
    said = {how: 0 for how in ("in", "on")}
    for i, truth in enumerate(drawn.truths):
        where = drawn.tableau.oracle.positions()[i]
        for a, how, b in truth.supports:
            first, second = where[names(drawn).index(a)], where[names(drawn).index(b)]
            assert np.linalg.norm((first - second)[:2]) < 0.06
            assert (how == "in") == (b == "bucket")
            said[how] += 1
    assert min(said.values()) >= 5


def test_things_stand_apart(drawn: Drawn) -> None:
    assert len(SEATS) > 14
    for i, truth in enumerate(drawn.truths):
        loose = [k for k, n in enumerate(names(drawn)[:-1]) if drawn.present[i, k] and n != truth.held
                 and not any(n in (a, b) for a, _, b in truth.supports)]  # fmt: skip
        where = drawn.tableau.oracle.positions()[i, loose, :2]
        apart = np.linalg.norm(where[:, None] - where[None], axis=2) + 10 * np.eye(len(where))
        assert apart.min(initial=10) > 0.1


def test_training_never_sees_what_is_kept_for_tests(drawn: Drawn) -> None:
    new = 0
    for truth in drawn.truths:
        assert not any(kept(s.colour, s.noun) for s in truth.seen if s.colour)
    for truth in Drawn(32, held_out=True).truths:
        new += sum(kept(s.colour, s.noun) for s in truth.seen if s.colour)
    assert new > 10
    nouns = {t.noun for t in drawn.tableau.oracle.things if t.noun != "door"}
    counts = [sum(kept(c, n) for c in COLOURS) for n in nouns]
    assert sum(counts) > 20
    assert max(counts) <= 4


def azimuths(drawn: Drawn) -> np.ndarray:
    """Of the camera's place as seen from what it looks at, degrees."""
    _, rotation = drawn.tableau.physics.camera_pose("tableau")
    back = rotation[:, :, 2]
    return np.degrees(np.arctan2(back[:, 1], back[:, 0]))


def test_cameras_of_tests_stand_where_training_has_none(drawn: Drawn) -> None:
    assert np.abs(azimuths(drawn)).min() > 14.9
    assert np.abs(azimuths(Drawn(32, held_out=True))).max() < 14.1


def test_an_eye_is_asked_what_it_looks_at() -> None:
    arc = Arc(32, seed=5)
    colours, present = arc.draw()
    renderer = Renderer(arc.physics, profile("fast"), 128, 128)
    try:
        segmentation = renderer.draw([arc.view])[arc.view.name, "segmentation"]
    finally:
        renderer.close()
    truths = arc.oracle.annotate(arc.view, segmentation, colours, present, True)
    looked = [t.gaze for t in truths if t.is_eye]
    assert sum(g is not None for g in looked) >= 8
    assert sum(g is None for g in looked) >= 5
    for truth, picture in zip(truths, segmentation, strict=True):
        if truth.gaze:
            assert arc.oracle.things[arc.oracle.labels(picture)[64, 64]].name == truth.gaze


def test_the_pole_of_a_ring_lies_on_it() -> None:
    v, u = np.mgrid[:64, :64]
    radius = np.hypot(u - 32, v - 32)
    ring = (radius > 15) & (radius < 25)
    x, y = pole(ring)
    assert ring[int(y), int(x)]
    assert radius[int(y), int(x)] == pytest.approx(20, abs=1.5)


def test_the_same_seed_makes_the_same_pictures_and_another_others() -> None:
    def some(seed: int) -> tuple[np.ndarray, list[Annotation]]:
        nouns: list[str] = []
        batches = list(generate(80, seed, False, nouns))
        return np.concatenate([b.images for b in batches]), [t for b in batches for t in b.truths]

    first, again, other = some(1), some(1), some(2)
    assert np.array_equal(first[0], again[0])
    assert first[1] == again[1]
    assert not np.array_equal(first[0], other[0])
    assert len(first[1]) == 80


def test_a_corpus_is_written_whole_and_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "PART", 64)
    folder = tmp_path / "corpus"
    assert writing.main(["--n", "150", "--seed", "4", "--out", str(folder)]) == 0
    corpus = Corpus(folder)
    assert len(corpus) == len(corpus.images) == 150
    assert corpus.about["parts"] == len(list(folder.glob("part-*.npz"))) > 1
    assert sum(corpus.annotation(k).is_eye for k in range(150)) > 10
    assert len(Corpus(folder, limit=10).images) == 10
    nouns, colours = corpus.names
    for k in range(150):
        truth = corpus.annotation(k)
        for thing in truth.seen:
            u, v = (int(x) // 8 for x in thing.point)
            if thing.area > 900:  # so large that its pole's patch shows it, in the middle too
                assert nouns[corpus.nouns[k, v, u] - 1] == thing.noun
                if thing.colour:
                    assert corpus.colours[k, v, u] in (0, colours.index(thing.colour) + 1)
        assert ask(truth, np.random.default_rng(k)) or not truth.seen
    with pytest.raises(InvalidValueError, match="is not empty, and nothing is overwritten"):
        writing.main(["--n", "1", "--out", str(folder)])
    (folder / "corpus.json").unlink()
    with pytest.raises(InvalidValueError, match=r"holds no whole corpus: make one with python -m envs\.corpus"):
        Corpus(folder)
