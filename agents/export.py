"""From a run folder to what can be shipped: of pictures' learners a model that transformers loads, in half precision; of a pair
of eye and hand a run folder that holds nothing but what acting needs.

python -m agents.export outputs/tiny_chat assets/vlm/chat
python -m agents.export outputs/eyerobot/estop/bcrl-0 assets/policies/eyerobot/estop
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from agents import checkpoint
from agents.cli import guarded
from agents.config import groups, load, save
from agents.run import Run, write_json
from agents.show import say
from assets.errors import InvalidValueError
from perception.corpus import Corpus
from perception.tiny import chat, dual

# What each learner of pictures trains.
MODELS: dict[str, Any] = {"agents.tiny_vlm.TinyChatLearner": chat, "agents.tiny_dual.TinyDualLearner": dual}
PAIR = "agents.bcrl.BCRLLearner"
_CURVE = 60  # rows of the metrics that are kept, about
SIZES = ("width", "depth", "vision_depth", "heads")


def export(run: Run, folder: Path) -> str:
    """Write a run's newest model and training.json, which says how it came about.

    Args:
        run: of `saccade train agent=tiny_vlm`, `agent=tiny_dual` or `agent=bcrl`.
        folder: is made.

    Returns:
        Name of the checkpoint.

    Raises:
        InvalidValueError: the run trained something else.
        CheckpointError: no whole checkpoint.
    """
    agent = run.config.agent
    if str(agent["_target_"]) == PAIR:
        return _export_pair(run, folder)
    made = MODELS.get(str(agent["_target_"]))
    if made is None:
        raise InvalidValueError(
            f"{run.folder} trained {agent['_target_']}; what can be exported is trained by {[*sorted(MODELS), PAIR]}"
        )
    at, saved = checkpoint.load_last(run.checkpoints)
    learned = saved["learner"]
    tokenizer = made.read_tokenizer(learned["tokenizer"])
    model = made.make_model(tokenizer, *(int(agent[k]) for k in SIZES))
    model.load_state_dict(checkpoint.to_tensors(learned["policy"]))
    folder.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(folder)
    made.make_processor(tokenizer).save_pretrained(folder)
    about = dict(Corpus(agent.corpus, limit=1).about)
    # Where things lay on the machine that trained is nobody's concern.
    write_json(folder / "training.json", _history(run, at.name, ("corpus",)) | {"corpus": about})
    return at.name


def _export_pair(run: Run, folder: Path) -> str:
    """Without optimisers, and with the recordings that ship in place of those that it learned from."""
    at, saved = checkpoint.load_last(run.checkpoints)
    config = run.config
    config.env.recordings = _shipped_recordings(str(config.env.id))
    config.agent.start = config.run = None
    place = folder / "checkpoints" / at.name
    checkpoint.save({"learner": {"policy": saved["learner"]["policy"]}}, place)
    for file in place.iterdir():
        file.chmod(0o644)  # safetensors keeps its files to their owner
    save(config, folder / "config.yaml")
    write_json(folder / "training.json", _history(run, at.name, ("start",)))
    return at.name


def _shipped_recordings(env_id: str) -> str:
    """Where the configuration of an environment finds recordings when nothing else is said."""
    for choice in groups()["env"]:
        env = load("train", [f"env={choice}"]).env
        if env.id == env_id and "recordings" in env:
            return str(env.recordings)
    raise InvalidValueError(f"no recordings of {env_id} ship: name a folder of your own in the exported config.yaml")


def _history(run: Run, name: str, private: Sequence[str]) -> dict[str, Any]:
    rows = [row for row in run.metrics() if row["step"] <= int(name)]
    system = json.loads((run.folder / "system.json").read_text())
    agent = OmegaConf.to_container(run.config.agent)
    assert isinstance(agent, dict)
    return {
        "checkpoint": name,
        "updates": int(name),
        "seconds": rows[-1]["seconds"] if rows else 0.0,
        "seed": run.config.seed,
        "agent": {key: value for key, value in agent.items() if key not in private},
        "curve": [{k: round(v, 4) for k, v in row.items()} for row in rows[:: max(1, len(rows) // _CURVE)]],
        "resumed": [{key: row[key] for key in ("step", "overrides", "date")} for row in run.resumes()],
        "system": {key: system[key] for key in ("commit", "date", "machine", "versions") if key in system},
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m agents.export", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder of saccade train agent=tiny_vlm, tiny_dual or bcrl")
    parser.add_argument("folder", type=Path, help="where the model goes")
    arguments = parser.parse_args(argv)
    name = export(Run.open(arguments.run), arguments.folder)
    say(f"checkpoint {name} of {arguments.run}: {arguments.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
