"""From a stored run or sweep to its page on disk."""

from pathlib import Path

from cs_lip.evaluation.store import PAGE_FILE, RUN_FILE, load_run
from cs_lip.evaluation.sweep.folder import PLAN_FILE
from cs_lip.evaluation.sweep.table import TABLE_FILE
from cs_lip.files import atomic_path
from cs_lip.report.page import MARK, Page, render
from cs_lip.report.run_page import run_page
from cs_lip.report.sweep_page import sweep_page


def write_report(source: Path, out: Path | None = None) -> Path:
    """Write the page of a run or of a sweep, atomically. An earlier page is replaced, any other file is left alone.

    Args:
        source: the folder of either, or a run's file.
        out: the page; by default `PAGE_FILE` in that folder.

    Returns:
        Where the page is.

    Raises:
        ValueError: ``source`` is neither, is damaged or empty, or ``out`` is other work.
        OSError: the page cannot be written.
    """
    folder = source if source.is_dir() else source.parent
    target = folder / PAGE_FILE if out is None else out
    _check_target(target)
    text = render(_page(source))
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return target


def _page(source: Path) -> Page:
    if not source.exists():
        raise ValueError(f"there is no {source}; try the folder that `cs-lip recover` or `cs-lip sweep` wrote")
    if source.is_file():
        return sweep_page(source.parent) if source.name == TABLE_FILE else run_page(load_run(source))
    if (source / TABLE_FILE).is_file():
        return sweep_page(source)
    if (source / RUN_FILE).is_file():
        return run_page(load_run(source / RUN_FILE))
    if (source / PLAN_FILE).is_file():
        raise ValueError(f"the sweep in {source} has no table yet; try the same `cs-lip sweep` command again")
    raise ValueError(
        f"{source} holds neither a run ({RUN_FILE}) nor a sweep ({TABLE_FILE}); try a folder that `cs-lip "
        "recover` or `cs-lip sweep` wrote"
    )


def _check_target(target: Path) -> None:
    if target.is_dir():
        raise ValueError(f"{target} is a folder, expected the name of a page; try --out {target / PAGE_FILE}")
    if not target.parent.is_dir():
        raise ValueError(f"there is no folder {target.parent} for the page; try --out with a folder that exists")
    if target.exists():
        with target.open("rb") as file:
            if MARK.encode() not in file.read(1000):
                raise ValueError(f"{target} is no page of cs-lip, and is left alone; try another --out")
