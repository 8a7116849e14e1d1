"""The verdicts of the plan ``lip`` as a table for the documentation.

Run ``cs-lip sweep --plan lip --out lip`` here, which takes an hour or more and goes on where it was stopped, and then
``python benchmarks/lip_claims.py lip``. It prints a table and writes it to ``lip_claims.md``, with every number behind
it in ``lip_claims.json``.
"""

from dataclasses import asdict
from pathlib import Path

import click
from machine import described, machine
from results_files import write_results

from cs_lip.evaluation.provenance import versions
from cs_lip.evaluation.statistics import Interval
from cs_lip.evaluation.sweep.claims import HOLDS, SWEEP, Verdict, read_verdicts
from cs_lip.evaluation.sweep.summary import Summary, summarise
from cs_lip.evaluation.sweep.table import Row, read_configuration, read_rows, row_to_json

NAME = "lip_claims"


def table(verdicts: list[Verdict], rows: list[Row]) -> str:
    lines = ["| claimed | asked | measured | |", "| --- | --- | --- | --- |"]
    for each in verdicts:
        found = "**Does not hold**" if each.holds is False else HOLDS[each.holds]
        lines.append(f"| {each.claim} | {each.asked} | {each.measured or '-'} | {found} |")
    lines += ["", "| task | m | method | PSNR in dB | over the dense prior |", "| --- | ---: | --- | ---: | ---: |"]
    lines += [_line(each) for each in summarise(rows)]
    images = ", ".join(dict.fromkeys(row.image for row in rows))
    return "\n".join(
        [
            *lines,
            "",
            f"- Pictures: {images}, 64x64 RGB, noise {rows[0].sigma:g}; means with intervals of 95 % by bootstrap over "
            "them. Untrained fits end at the stop by held-out measurements.",
            f"- {described(machine(), versions())} Made by `cs-lip sweep --plan lip --out lip` and "
            f"`python benchmarks/{NAME}.py lip`.",
            "",
        ]
    )


def _line(each: Summary) -> str:
    gain = "-" if each.gain is None else _shown(each.gain, "+")
    return f"| {each.setting.operator} | {each.setting.m:,} | {each.recoverer.label} | {_shown(each.psnr)} | {gain} |"


def _shown(found: Interval, sign: str = "") -> str:
    return f"{found.estimate:{sign}.2f} ({found.low:{sign}.2f} to {found.high:{sign}.2f})"


@click.command(help=__doc__)
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--out", type=click.Path(path_type=Path), default=Path(__file__).parent / "results")
def main(folder: Path, out: Path) -> None:
    rows = read_rows(folder)
    # Those of other benchmarks, which the page of the sweep tells too, stand in their own tables.
    found = [verdict for verdict in read_verdicts(folder) if verdict.by == SWEEP]
    whole = {
        "claims": [asdict(verdict) for verdict in found],  # not "verdicts", which the plan itself would read back
        "plan": read_configuration(folder),
        "machine": machine(),
        "rows": [row_to_json(row) | {"cell": row.cell, "versions": row.versions} for row in rows],
    }
    text = table(found, rows)
    write_results(out, NAME, whole, text)
    click.echo(text)


if __name__ == "__main__":
    main()
