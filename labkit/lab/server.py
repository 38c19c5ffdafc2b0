# SPDX-License-Identifier: Apache-2.0
"""A Jupyter server extension: what the start page asks, behind Jupyter's own log-in; how JupyterLab is first arranged.

The same file enables it as `labkit.ui.jupyter_extension`; neither depends on the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado import web

from labkit.ground.errors import LabError
from labkit.ground.language import translated
from labkit.lab import start
from labkit.lab.copies import KEEPING

__all__ = ["arrange", "icons", "start_in"]

_FOLDERS = ("", "notebooks", "workshop")
"""Where below the server's root the notebooks may be."""


class StartHandler(APIHandler):
    """`GET labkit/start`: the page's facts; with `?state` those that take longer, with `?icons` the tiles' pictures,
    with `?words` what the reader's language has for English.
    `POST` chooses what the course runs on.
    """

    @web.authenticated
    async def get(self) -> None:
        """The facts, as JSON."""
        asked = next(
            (name for name in ("state", "icons", "words") if self.get_query_argument(name, None) is not None), ""
        )
        await self._answer({"state": start.state, "icons": icons, "words": start.words}.get(asked, start.facts))

    @web.authenticated
    async def post(self) -> None:
        """Choose: {"release": …, "target": …}, either may be left out; answers with the facts."""
        said = self.get_json_body()
        words = said if isinstance(said, dict) else {}
        release, target = (str(words.get(name) or "") for name in ("release", "target"))

        def changed() -> dict[str, Any]:
            start.change(release, target)
            return start.facts()

        await self._answer(changed)

    async def _answer(self, ask: Any) -> None:
        try:
            said = await asyncio.get_running_loop().run_in_executor(None, ask)
        except LabError as error:
            self.set_status(400)
            said = {"message": translated(error.message), "next_step": translated(error.next_step)}
        root = Path(self.settings.get("server_root_dir", ".")).expanduser()
        page = start_in(root)
        copied = bool(page) and (root / page).with_name(KEEPING).is_dir()
        # Not awaited: a browser that went away meanwhile is no fault.
        self.finish(json.dumps({**said, "start": page, "copy": copied}))


def icons() -> dict[str, Any]:
    """The pictures of the launcher's tiles: SVG, by the names that jupyter-server-proxy knows them by."""
    folder = Path(__file__).resolve().parents[1] / "ui" / "icons"
    return {f"lab-{path.stem}": path.read_text() for path in sorted(folder.glob("*.svg"))}


def start_in(root: Path) -> str:
    """The start page's path below a Jupyter server's root, "notebooks/00-start.ipynb"; "" if it is in none of the usual
    folders.
    """
    found = (Path(folder, start.START) for folder in _FOLDERS)
    return next((path.as_posix() for path in found if (root / path).is_file()), "")


def arrange(workspaces: Path, page: str) -> bool:
    """Arrange JupyterLab's first view: the file browser, the start page, and a terminal below it.

    Args:
        workspaces: JupyterLab's folder of saved arrangements.
        page: The start page's path.

    Returns:
        Whether it was done: an arrangement that was saved before stays.
    """
    # It knows JupyterLab's names of files.
    from jupyterlab_server.workspaces_handler import WorkspacesManager

    manager: Any = WorkspacesManager(str(workspaces))
    if any(one.get("metadata", {}).get("id") in ("default", "/default") for one in manager.list_workspaces()):
        return False
    manager.save("default", json.dumps(_arrangement(page)))
    return True


def _arrangement(page: str) -> dict[str, Any]:
    shown, terminal = f"labkit-start:{page}", "terminal:workshop"
    tabs = [{"type": "tab-area", "currentIndex": 0, "widgets": [name]} for name in (shown, terminal)]
    return {
        "metadata": {"id": "default"},
        "data": {
            "layout-restorer:data": {
                "main": {
                    "dock": {"type": "split-area", "orientation": "vertical", "sizes": [0.78, 0.22], "children": tabs},
                    "current": shown,
                },
                "down": {"size": 0, "widgets": []},
                "left": {"collapsed": False, "visible": True, "current": "filebrowser", "widgets": ["filebrowser"]},
                "right": {"collapsed": True, "visible": True, "widgets": []},
                "relativeSizes": [0.17, 0.83, 0],
                "top": {"simpleVisibility": True},
            },
            "file-browser-filebrowser:cwd": {"path": Path(page).parent.as_posix().lstrip(".")},
            shown: {"data": {"path": page, "factory": "Start page"}},
            terminal: {"data": {"name": "workshop"}},
        },
    }


def _load_jupyter_server_extension(serverapp: Any) -> None:
    base = serverapp.web_app.settings["base_url"]
    serverapp.web_app.add_handlers(".*$", [(url_path_join(base, "labkit", "start"), StartHandler)])
    lab = serverapp.extension_manager.extension_apps.get("jupyterlab", set())
    page = start_in(Path(serverapp.root_dir))
    for app in lab if page else ():
        # A folder that cannot be written to costs the arrangement, not the page.
        with contextlib.suppress(OSError, ValueError):
            arrange(Path(app.workspaces_dir), page)
