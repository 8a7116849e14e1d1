"""Checkpoints: a training on disk, from which it goes on as if it had never stopped."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from cs_lip.files import atomic_path
from cs_lip.training.settings import Settings
from cs_lip.training.wgan_gp import Losses, Training

FORMAT = "1"


def save_checkpoint(path: Path, training: Training, history: list[Losses]) -> None:
    """Write both networks, the averaged weights, the optimisers and the losses so far to one file, atomically."""
    tensors = {name: value.detach().contiguous() for name, value in _tensors(training).items()}
    tensors["history"] = torch.tensor(history, dtype=torch.float64).reshape(-1, len(Losses._fields))
    metadata = {
        "kind": "cs-lip training",
        "format": FORMAT,
        "step": str(training.step),
        "settings": json.dumps(asdict(training.settings)),
        "pictures": fingerprint(training.pictures),
    }
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(tensors, metadata=metadata))


def load_checkpoint(path: Path, settings: Settings, pictures: Tensor) -> tuple[Training, list[Losses]]:
    """The training that `save_checkpoint` wrote, and its losses so far.

    Raises:
        ValueError: the file is damaged or of another kind, or the training was one with other settings or pictures;
            the difference is named.
    """
    training = Training(settings, pictures)
    with _refusing_damage(path), safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    if metadata.get("kind") != "cs-lip training" or metadata.get("format") != FORMAT:
        raise ValueError(f"{path} is not a checkpoint of this version; try another --out")
    with _refusing_damage(path):
        stored, of_pictures = dict(json.loads(metadata["settings"])), metadata["pictures"]
        training.step = int(metadata["step"])
        history = [Losses(*row) for row in tensors.pop("history").tolist()]
        if len(history) != training.step:
            raise ValueError(f"the losses of {len(history)} steps at step {training.step}")
    _check_same(path, stored, settings)
    if of_pictures != fingerprint(pictures):
        raise ValueError(f"{path} holds a training on other pictures; try the same --data, or another --out")
    with _refusing_damage(path):
        _restore(training, tensors)
    return training, history


@contextmanager
def _refusing_damage(path: Path) -> Iterator[None]:
    try:
        yield
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0][:120]
        raise ValueError(f"the checkpoint {path} is damaged ({reason}); try another --out to begin anew") from None


def fingerprint(pictures: Tensor) -> str:
    """The SHA-256 of the pictures' shape and bytes."""
    digest = hashlib.sha256(str(tuple(pictures.shape)).encode())
    digest.update(pictures.contiguous().numpy().data)
    return digest.hexdigest()


def _check_same(path: Path, stored: dict[str, Any], settings: Settings) -> None:
    for name, value in json.loads(json.dumps(asdict(settings))).items():
        if stored.get(name) != value:
            raise ValueError(
                f"{path} holds a training whose {name.replace('_', ' ')} is {stored.get(name)}, not {value}; "
                "try the same settings to go on with it, or another --out"
            )


def _tensors(training: Training) -> dict[str, Tensor]:
    """All the tensors of a training, by name."""
    tensors = {f"averaged/{name}": value for name, value in training.averaged.items()}
    for kind, network in (("generator", training.generator), ("critic", training.critic)):
        tensors |= {f"{kind}/{name}": value for name, value in network.state_dict().items()}
        for index, moments in training.optimisers[kind].state_dict()["state"].items():
            tensors |= {f"{kind}-optimiser/{index}/{name}": value for name, value in moments.items()}
    return tensors


def _restore(training: Training, tensors: dict[str, Tensor]) -> None:
    """The other way round, into a new training of the same settings."""

    def take(name: str, like: Tensor) -> Tensor:
        value = tensors[name]
        if value.shape != like.shape:
            raise ValueError(f"{name} has shape {tuple(value.shape)}, expected {tuple(like.shape)}")
        return value

    for name, value in training.averaged.items():
        value.copy_(take(f"averaged/{name}", value))
    for kind, network in (("generator", training.generator), ("critic", training.critic)):
        network.load_state_dict({name: tensors[f"{kind}/{name}"] for name in network.state_dict()})
        optimiser = training.optimisers[kind]
        moments = {
            index: {
                moment: take(f"{kind}-optimiser/{index}/{moment}", like)
                for moment, like in (("step", torch.zeros(())), ("exp_avg", parameter), ("exp_avg_sq", parameter))
            }
            for index, parameter in enumerate(network.parameters())
            if training.step  # before the first step Adam has none
        }
        optimiser.load_state_dict({**optimiser.state_dict(), "state": moments})
