"""``cs-lip prune``: a lottery ticket found in a generator or in an untrained network."""

import copy
import math
import os
import shlex
from pathlib import Path
from typing import Any

import click
import torch
from tqdm import tqdm

from cs_lip.cli.damage import TASKS, Asked, Damaged, damage_options
from cs_lip.cli.exit_codes import INTERRUPTED
from cs_lip.cli.inputs import bad_input, seed_option, writable
from cs_lip.cli.layer_table import layer_table
from cs_lip.cli.progress import ProgressBar
from cs_lip.cli.pruning import REWINDS, Plan, generator_plan, untrained_plan
from cs_lip.cli.untrained_priors import PRIOR_NAMES
from cs_lip.evaluation.metrics import psnr
from cs_lip.priors import UntrainedNetwork, load_generator, untrained_network
from cs_lip.priors.catalogue import NAME
from cs_lip.recovery import recover
from cs_lip.recovery.untrained_fit import UntrainedFit
from cs_lip.seeding import derive_seed
from cs_lip.tickets.allocation import ALLOCATIONS
from cs_lip.tickets.channels import channel_mask, dense_channels
from cs_lip.tickets.controls import deep_decoder_settings, random_mask, reinitialised, shuffled
from cs_lip.tickets.criteria import CRITERIA, random
from cs_lip.tickets.distillation import agreement
from cs_lip.tickets.levels import Levels
from cs_lip.tickets.lottery import search
from cs_lip.tickets.mask import Mask
from cs_lip.tickets.retraining import Level, Step
from cs_lip.tickets.schedules import SCHEDULES
from cs_lip.tickets.search_settings import SearchSettings
from cs_lip.tickets.selection import GRANULARITIES, kept_fraction
from cs_lip.tickets.store import bundled_tickets, user_tickets_folder
from cs_lip.tickets.ticket import SUFFIX, Ticket, write_ticket
from cs_lip.tickets.transfer import measured_layers, ticketed


@click.command()
@click.option("--generator", help="Search in this one of cs-lip generators.")
@click.option("--prior", help=f"Search in this untrained network: {PRIOR_NAMES}.")
@click.option(
    "--density", type=float, required=True, help="Fraction of the weights, or kernels, that the ticket keeps."
)
@click.option(
    "--criterion",
    default=SearchSettings.criterion,
    show_default=True,
    help=f"What says which weights matter: {', '.join(CRITERIA)}.",
)
@click.option("--rounds", type=int, help="Levels of pruning.  [default: 20 % of what is left in each]")
@click.option(
    "--schedule",
    type=click.Choice(list(SCHEDULES)),
    default=SearchSettings.schedule,
    show_default=True,
    help="How the density falls from level to level.",
)
@click.option(
    "--allocation",
    type=click.Choice(list(ALLOCATIONS)),
    help="How layers share the density.  [default: global; uniform for channels]",
)
@click.option("--floor", type=float, default=SearchSettings.floor, help="Least fraction of each layer that is kept.")
@click.option(
    "--roles",
    help="Layers that may be pruned: input, hidden, output; of a StyleGAN2 mapping, style.  [default: hidden]",
)
@click.option(
    "--granularity",
    type=click.Choice((*GRANULARITIES, "channel")),
    default="weight",
    show_default=True,
    help="What is pruned as a whole; channels make a smaller and faster network.",
)
@click.option("--rewind", type=click.Choice(list(REWINDS)), help="[default: learning-rate; initial with --prior]")
@click.option("--rewind-step", type=int, default=0, help="The step, with --rewind step.")
@click.option("--steps", type=int, help="Of each training.  [default: 300; 1000 with --prior]")
@click.option("--final-steps", type=int, help="Under the last mask.  [default: 1500; as --steps with --prior]")
@click.option("--data", help="A folder of pictures to train on against a critic, instead of distilling (--generator).")
@click.option("--batch", type=int, help="Latents or pictures in a step (--generator).  [default: 32; 64 with --data]")
@click.option("--image", "images", metavar="PICTURE[,PICTURE...]", help="Files or bundled names (--prior).")
@click.option("--task", type=click.Choice(TASKS), help="What is wrong with the pictures (--prior).")
@click.option("--oracle", is_flag=True, help="Fit the clean pictures, as the paper does (--prior, as the eight below).")
@damage_options()
@seed_option()
@click.option("--name", help="Keep the ticket under this name: cs-lip recover --ticket NAME.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the search.  [default: ticket-PRIOR-DENSITY]")
def prune(
    generator: str | None, prior: str | None, density: float, name: str | None, out: Path | None, **said: Any
) -> None:
    """Find a lottery ticket: a sparse subnetwork of a prior, to recover with in its place.

    In a generator, weights are pruned level by level and the rest learns again what the whole one draws, without any
    picture. In an untrained network, it is fitted to measurements, pruned and begun anew; the ticket is a mask. A
    search that is stopped keeps its levels, and the same command goes on from there.

    \b
    Examples:
      cs-lip prune --generator digiface-dcgan --density 0.2 --rounds 7
      cs-lip prune --generator digiface-dcgan --density 0.3 --granularity channel --name fast
      cs-lip prune --prior skip --image camera --task denoise --simulate --density 0.2
    """
    with bad_input():
        if name is not None:
            _own_path(name)
        plan = _plan(generator, prior, density, said)
        folder = out or Path(f"ticket-{generator or prior}-{density:g}")
        try:
            ticket = _search(plan, folder)
        except KeyboardInterrupt:
            finished, of = Levels(folder).finished, len(plan.settings.densities)
            click.echo(f"\nStopped with {finished} of {of} levels in {folder}; the same command goes on from there.")
            raise click.exceptions.Exit(INTERRUPTED) from None
        path = Levels(folder).ticket
        _print(plan, ticket)
        # Last, so that the same command goes on even from a stop in the fits that `_print` makes.
        if name is not None:
            own = _own_path(name)  # once more: somebody else may have taken the name in the meantime
            own.parent.mkdir(parents=True, exist_ok=True)
            write_ticket(own, ticket)
            path = own
    click.echo(f"The ticket is {path} ({path.stat().st_size / 1e6:.1f} MB), its levels are in {folder}.")
    measurements = f" --measurements {max(1, math.prod(plan.network.image_shape) // 8)}"
    command, rest = ("restore PICTURE --task TASK", "") if prior else ("recover", measurements)
    click.echo(f"Try it: cs-lip {command} --ticket {shlex.quote(str(name or path))}{rest}")


GENERATOR_ALONE = ("data", "batch")
PRIOR_ALONE = (
    "images",
    "task",
    "oracle",
    "simulate",
    "noise",
    "mask",
    "fraction",
    "factor",
    "measurements",
    "operator",
    "size",
)
"""Options that say something about one kind of network."""


def _plan(generator: str | None, prior: str | None, density: float, said: dict[str, Any]) -> Plan:
    """The search that was asked for.

    Raises:
        ValueError: not one network, or options of the other kind.
    """
    if (generator is None) == (prior is None):
        got = "none" if prior is None else "both"
        raise ValueError(f"a ticket is found in a --generator or in a --prior, got {got}; try one of them")
    for option in PRIOR_ALONE if generator else GENERATOR_ALONE:
        if said[option] is not None and said[option] is not False:
            shown, kind = (
                option.removesuffix("s") if option == "images" else option,
                "prior" if generator else "generator",
            )
            raise ValueError(f"--{shown} goes with --{kind}; try without it")
    settings = {"density": density} | {
        key: said[key] for key in ("rounds", "schedule", "criterion", "granularity", "floor", "rewind_step", "seed")
    }
    settings["allocation"] = said["allocation"] or SearchSettings.allocation
    if said["roles"] is not None:
        settings["roles"] = tuple(said["roles"].split(","))
    training = {"rewind": said["rewind"], "steps": said["steps"], "final": said["final_steps"]}
    if generator is not None:
        return generator_plan(generator, said["data"], said["batch"], **training, **settings)
    assert prior is not None
    if said["task"] is None or said["images"] is None:
        raise ValueError("an untrained network is fitted to pictures, got no --image or no --task; try --task denoise")
    asked = Asked(**{field: said[field] for field in Asked.__dataclass_fields__})
    return untrained_plan(prior, said["images"].split(","), said["oracle"], asked, **training, **settings)


def _own_path(name: str) -> Path:
    """Where a ticket of the user's own of that name lies.

    Raises:
        ValueError: it is no name, or taken.
    """
    if not NAME.fullmatch(name):
        raise ValueError(f"a ticket's name has the characters a-z, 0-9 and -, got {name!r:.80}; try my-ticket")
    path = user_tickets_folder() / f"{name}{SUFFIX}"
    if name in bundled_tickets():
        raise ValueError(f"there is a bundled ticket {name!r}; try another --name")
    if os.path.lexists(path):
        raise ValueError(f"there is a ticket {name!r} already; try another --name, or remove {path}")
    return writable(path)


class _Bar:
    """A bar for each training of a search, on standard error; silent when that is no terminal."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._level: Level | None = None

    def update(self, step: Step) -> None:
        """Show one more step."""
        if step.level != self._level:
            self.close()
            name = f"level {step.level.index} of {step.level.of}"
            self._bar = tqdm(desc=name, unit=" steps", total=step.total, leave=False, disable=None)
            self._level = step.level
        if step.loss is not None:
            self._bar.set_postfix_str(f"loss {step.loss:.4f}", refresh=False)
        self._bar.update(step.done - self._bar.n)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()


def _search(plan: Plan, folder: Path) -> Ticket:
    bar = _Bar()
    try:
        return search(plan.network, plan.settings, plan.trainer, folder, about=plan.about, progress=bar.update)
    finally:
        bar.close()


def _print(plan: Plan, ticket: Ticket) -> None:
    """The densities as the loaded network has them, and what the ticket is worth."""
    network = ticketed(ticket)
    click.echo(layer_table(ticket, measured_layers(network, ticket.mask.kept)))
    if not isinstance(network, UntrainedNetwork):
        dense = load_generator(ticket.about.prior)
        level = agreement(network, dense.fold(), seed=plan.settings.seed)
        click.echo(f"At the same latents it draws the dense generator's images up to {level:.2f} dB.")
        return
    priors = _rivals(plan, ticket, network)
    for name, damaged in plan.pictures.items():
        click.echo(f"{name}:")
        for told, prior in priors.items():
            click.echo(f"  {_restored(plan, damaged, prior)}  {told}")


def _rivals(plan: Plan, ticket: Ticket, network: UntrainedNetwork) -> dict[str, UntrainedNetwork]:
    """The ticket's network, and what it says something against, from initial weights: the dense one and controls of
    equal density."""
    dense, mask, seed = plan.network, ticket.mask, plan.settings.seed
    assert isinstance(dense, UntrainedNetwork)
    begun = "" if ticket.values is None else ", from its trained weights"
    priors = {f"the ticket{begun}": network, "the dense network": dense}
    for told, other in _random_masks(dense, ticket, seed).items():
        priors[told] = copy.deepcopy(dense)
        other.apply_(priors[told])
    priors["the mask, with other initial weights"] = reinitialised(dense, mask, derive_seed(seed, "reinitialised"))
    parameters = network.parameter_count - sum(int((~kept).sum()) for kept in network.kept.values())
    small = deep_decoder_settings(dense.image_shape, parameters)
    return priors | {
        "a Deep Decoder of as many parameters": untrained_network("deep_decoder", dense.image_shape, seed, **small)
    }


def _random_masks(dense: UntrainedNetwork, ticket: Ticket, seed: int) -> dict[str, Mask]:
    """Masks that say nothing, of the ticket's granularity and density; whole channels reach it from below."""
    mask, granularity = ticket.mask, ticket.about.granularity
    if granularity == "channel":
        everything = dense_channels(dense)
        scores, allocation = random(everything, seed), ticket.about.allocation
        chosen = channel_mask(dense, scores, mask.density, parent=everything, allocation=allocation)
        return {f"random channels, density {chosen.density:.3f}": chosen}
    everything = Mask({name: torch.ones_like(kept) for name, kept in mask.kept.items()})
    return {
        "a random mask of the same density": random_mask(
            everything, kept_fraction(mask, granularity), seed, granularity
        ),
        "the mask, shuffled within each layer": shuffled(mask, seed, granularity),
    }


def _restored(plan: Plan, damaged: Damaged, prior: UntrainedNetwork) -> str:
    """What a network makes of a picture's measurements: its PSNR, or without the truth its held-out error."""
    with ProgressBar() as bar:
        found = recover(
            damaged.operator,
            damaged.measurements,
            prior,
            solver=UntrainedFit(iterations=plan.closing_steps),
            noise=damaged.noise,
            seed=plan.settings.seed,
            progress=bar.update,
        )
    if damaged.truth is not None:
        return f"{psnr(found.images[0], damaged.truth[0]):5.2f} dB"
    value = found.notes[0]["value"]
    return "no held-out error" if value is None else f"held-out error {value:.3g}"
