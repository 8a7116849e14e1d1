"""The command that makes a stored run again."""

import shlex
from typing import Any

FIDELITY_OPTIONS = {
    "L1": "l1",
    "Huber": "huber",
    "Trimmed": "trimmed",
    "MedianOfMeans": "median-of-means",
}
"""What `--fidelity` calls the classes of `cs_lip.recovery.fidelity`; least squares is the default."""


def run_command(config: dict[str, Any]) -> str:
    """The command line of a run of `cs-lip recover` or `cs-lip restore`, from its configuration.

    Options that have their default, or that the configuration does not tell, are left out.
    """
    parts = _restore(config) if "task" in config else _recover(config)
    parts += ["--seed", str(config["seed"])]
    if config.get("device", "cpu") != "cpu":
        parts += ["--device", config["device"]]
    return shlex.join(["cs-lip", *parts])


def _recover(config: dict[str, Any]) -> list[str]:
    parts = ["recover"]
    if "from" in config:
        parts += ["--from", config["from"]]
    else:
        parts += ["--measurements", str(config["measurements"]), "--operator", _operator(config)]
        images = config.get("images", "bundled samples")
        parts += [part for path in ([] if isinstance(images, str) else images) for part in ("--image", path)]
    if "generator" in config:
        parts += _prior(config, "--generator", config["generator"])
    if config.get("noise") or ("from" in config and "noise" in config):  # a file has a noise of its own
        parts += ["--noise", repr(config["noise"])]
    if config.get("outliers"):
        parts += ["--outliers", repr(config["outliers"]["fraction"]), "--outlier-kind", config["outliers"]["kind"]]
    parts += ["--solver", config["solver"]]
    if config.get("restarts"):
        parts += ["--restarts", str(config["restarts"])]
    parts += _fidelity(config.get("fidelity", {})) + _settings(config)
    if config.get("uncertainty"):
        parts.append("--uncertainty")
    return parts


def _restore(config: dict[str, Any]) -> list[str]:
    parts = ["restore", config["picture"], "--task", config["task"]]
    parts += _prior(config, "--prior", config["prior"])
    if config.get("simulate"):
        parts.append("--simulate")
    if config["task"] == "sense":
        parts += ["--measurements", str(config["measurements"]), "--operator", _operator(config)]
    if config.get("noise") is not None:
        parts += ["--noise", repr(config["noise"])]
    for name in ("mask", "fraction", "factor", "size"):
        if config.get(name) is not None:
            parts += [f"--{name}", str(config[name])]
    settings = config.get("solver_settings", {})
    for name in ("iterations", "stop"):
        if name in settings:
            parts += [f"--{name}", str(settings[name])]
    return parts


def _operator(config: dict[str, Any]) -> str:
    """Recipes call the operator of `--operator fourier` by the name of its class."""
    kind = str(config["operator"])
    return "fourier" if "fourier" in kind else kind


def _prior(config: dict[str, Any], option: str, name: str) -> list[str]:
    return ["--ticket", config["ticket"]] if "ticket" in config else [option, name]


def _fidelity(fidelity: dict[str, Any]) -> list[str]:
    name = FIDELITY_OPTIONS.get(fidelity.get("kind", ""))
    if name is None:
        return []
    share = fidelity.get("contamination")
    return ["--fidelity", name] + ([] if share is None else ["--contamination", repr(share)])


def _settings(config: dict[str, Any]) -> list[str]:
    """What `--held-out` and `--radius` were."""
    settings = config.get("solver_settings", {})
    tuning = settings.get("tuning") or settings.get("beyond", {}).get("tuning", {})
    held_out = [] if tuning.get("held_out") is None else ["--held-out", repr(tuning["held_out"])]
    return held_out + (["--radius", repr(settings["radius"])] if "radius" in settings else [])
