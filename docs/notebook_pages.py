"""The notebooks as pages of the site, with the outputs that are stored in them: a hook of mkdocs.yml."""

import base64
import json
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

FOLDER = "tutorials"


def on_config(config: MkDocsConfig) -> None:
    """Put the pages into the menu, behind the first one."""
    assert config.nav is not None
    config.nav.insert(1, {"Tutorials": [f"{FOLDER}/{path.stem}.md" for path in _notebooks(config)]})


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Make the pages and their pictures."""
    for path in _notebooks(config):
        page, pictures = as_markdown(json.loads(path.read_text(encoding="utf-8")), path.stem)
        files.append(File.generated(config, f"{FOLDER}/{path.stem}.md", content=page))
        for name, content in pictures.items():
            files.append(File.generated(config, f"{FOLDER}/{name}", content=content))


def as_markdown(notebook: dict[str, Any], stem: str) -> tuple[str, dict[str, bytes]]:
    """A notebook's cells one below the other, and its pictures by file name, which begins with ``stem``."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else _block(source, "python"))
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "image/png" in data:
                name = f"{stem}-{len(pictures) + 1}.png"
                pictures[name] = base64.b64decode("".join(data["image/png"]))
                parts.append(f"![What the cell above draws]({name})")
            else:
                parts.append(_block("".join(output.get("text", data.get("text/plain", ()))), "text"))
    return "\n\n".join(parts) + "\n", pictures


def _block(text: str, language: str) -> str:
    return f"```{language}\n{text.rstrip()}\n```"


def _notebooks(config: MkDocsConfig) -> list[Path]:
    return sorted((Path(config.docs_dir).parent / "notebooks").glob("*.ipynb"))
