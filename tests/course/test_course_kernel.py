# SPDX-License-Identifier: Apache-2.0
"""What a cell says that was interrupted, or that wants what a cell above defines, in a kernel that was just started."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.manager import KernelManager, start_new_kernel
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tests.conftest import PATIENCE, REPOSITORY

pytestmark = pytest.mark.long

CELLS = {
    "begin": "from labkit import course as lessons, ui\nlesson = 1",
    "define": "%precision 3\ndef measure():\n    local = 1\n    return typo_in_function\nfor row in []:\n    pass",
    "verb": "from labkit.cluster import exec",
    "broken": "this is no Python",
    "now": "",
    "below": "later = 1",
}
ABOVE = "a cell above defines `{}`, and this kernel has not run it: run the cells above again "
MENU = "(Run ▸ Run All Above Selected Cell)."


class Kernel:
    """A kernel, spoken to as JupyterLab does."""

    def __init__(self, manager: KernelManager, client: Any) -> None:
        self.manager, self.client = manager, client

    def begin(self, source: str, cell: str = "now") -> str:
        content = {"code": source, "silent": False, "store_history": True, "stop_on_error": True}
        message = self.client.session.msg("execute_request", content, metadata={"cellId": cell})
        self.client.shell_channel.send(message)
        return str(message["header"]["msg_id"])

    def said(self, asked: str) -> Iterator[dict[str, Any]]:
        """What comes of a cell until it has ended; what others have left on the way is none of it."""
        while True:
            message = self.client.get_iopub_msg(timeout=PATIENCE)
            if message["parent_header"].get("msg_id") != asked:
                continue
            yield message
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                return

    def error(self, asked: str) -> dict[str, Any]:
        """The error that a cell ends with."""
        errors = [message["content"] for message in self.said(asked) if message["msg_type"] == "error"]
        return errors[-1] if errors else {}

    def printed(self, asked: str) -> None:
        """Wait until a cell has printed something."""
        assert any(message["msg_type"] == "stream" for message in self.said(asked))


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    folder = tmp_path_factory.mktemp("kernel")
    cells = [new_code_cell(source, id=name) for name, source in CELLS.items()]
    nbformat.write(new_notebook(cells=[new_markdown_cell("text"), *cells]), folder / "lesson.ipynb")
    settings = folder / "ipython" / "profile_default"
    settings.mkdir(parents=True)
    name = "ipython_kernel_config.json"
    shutil.copy(REPOSITORY / "labkit" / "ui" / "jupyter" / "etc" / "ipython" / name, settings)
    added = {"JPY_SESSION_NAME": str(folder / "lesson.ipynb"), "IPYTHONDIR": str(folder / "ipython")}
    manager, client = start_new_kernel(startup_timeout=PATIENCE, env={**os.environ, **added})
    yield Kernel(manager, client)
    client.stop_channels()
    manager.shutdown_kernel(now=True)


@pytest.mark.parametrize("name", ["ui", "lessons", "lesson", "measure", "row"])
def test_what_a_cell_above_defines_is_said_to_be_there(kernel: Kernel, name: str) -> None:
    error = kernel.error(kernel.begin(f"print({name})"))
    assert error["traceback"] == [f"NameError: {ABOVE.format(name)}{MENU}"]
    assert error["evalue"] == f"{ABOVE.format(name)}{MENU}"


@pytest.mark.parametrize(
    "call", ["exec('deploy/a', 'ls')", "exec('deploy/a', 'ls', container='b')", "exec('deploy/a', container='b')"]
)
def test_what_a_cell_above_puts_in_the_place_of_pythons_own_is_said_to_be_there(kernel: Kernel, call: str) -> None:
    error = kernel.error(kernel.begin(call))
    assert error["traceback"] == [f"TypeError: {ABOVE.format('exec')}{MENU}"]
    assert (
        kernel.error(kernel.begin("print('a', sepp='')"))["evalue"]
        == "'sepp' is an invalid keyword argument for print()"
    )


@pytest.mark.parametrize("name", ["lessom", "later", "local", "course"])
def test_a_slip_of_the_pen_is_an_ordinary_error(kernel: Kernel, name: str) -> None:
    error = kernel.error(kernel.begin(f"print({name})"))
    assert error["evalue"] == f"name '{name}' is not defined"
    assert "Traceback" in error["traceback"][1]


def test_other_errors_stay_as_they_are(kernel: Kernel) -> None:
    broken = "import types\nm = types.ModuleType('m')\nexec('def f(): return lesson', m.__dict__)\nm.f()"
    assert kernel.error(kernel.begin(broken))["evalue"] == "name 'lesson' is not defined"
    unbound = "def f():\n    print(lesson)\n    lesson = 1\nf()"
    assert kernel.error(kernel.begin(unbound))["ename"] == "UnboundLocalError"
    assert kernel.error(kernel.begin("1 / 0"))["evalue"] == "division by zero"


def test_where_a_cell_is_not_in_the_file_all_of_it_counts(kernel: Kernel) -> None:
    assert kernel.error(kernel.begin("later", "a-new-one"))["evalue"] == f"{ABOVE.format('later')}{MENU}"


@pytest.mark.parametrize("line", ["time.sleep(begun() or 600)", "wait_for(Condition('a sign', begun))"])
def test_an_interrupted_cell_says_where_it_was(kernel: Kernel, line: str) -> None:
    begin = "import time\nfrom labkit.cluster import Condition, wait_for\n"
    begin += "def begun():\n    print('begun', flush=True)\n    return ''\n"
    asked = kernel.begin(begin + line)
    kernel.printed(asked)
    kernel.manager.interrupt_kernel()
    assert kernel.error(asked)["traceback"] == [
        f"KeyboardInterrupt: interrupted at `{line}`. What was done before stays; run the cell again to go on."
    ]


def test_an_interrupt_waits_for_the_end_of_an_import(kernel: Kernel, tmp_path: Path) -> None:
    """A package with parts in C cannot be imported again where that was cut short."""
    again = "import sys\nsys.path.insert(0, {!r})\nimport slow_to_load\nslow_to_load.whole"
    (tmp_path / "slow_to_load.py").write_text(
        f"import pathlib, time\nfolder = pathlib.Path({str(tmp_path)!r})\n"
        "with open(folder / 'loaded', 'a') as count:\n    count.write('once')\nprint('begun', flush=True)\n"
        "while not (folder / 'go').exists():\n    time.sleep(0.01)\nwhole = True\n"
    )
    asked = kernel.begin(f"{again.format(str(tmp_path))}\nimport time\ntime.sleep(600)")
    kernel.printed(asked)
    kernel.manager.interrupt_kernel()
    (tmp_path / "go").touch()
    assert kernel.error(asked)["evalue"].startswith("interrupted at `")
    assert kernel.error(kernel.begin(again.format(str(tmp_path)))) == {}
    assert (tmp_path / "loaded").read_text() == "once"


def test_an_interrupted_cell_of_a_shell_is_called_by_its_first_line(kernel: Kernel) -> None:
    """Not by the call that IPython makes of it."""
    begin = "from IPython import get_ipython\ndef told(line, cell):\n    print('begun', flush=True)\n"
    begin += "    import time; time.sleep(600)\nget_ipython().register_magic_function(told, 'cell', 'told')"
    kernel.begin(begin)
    asked = kernel.begin("%%told\nkubectl get pods\n")
    kernel.printed(asked)
    kernel.manager.interrupt_kernel()
    assert kernel.error(asked)["traceback"] == [
        "KeyboardInterrupt: interrupted at `%%told`. What was done before stays; run the cell again to go on."
    ]


def test_what_is_shown_already_is_not_shown_again_as_a_value(kernel: Kernel) -> None:
    asked = kernel.begin("from labkit import display\ndisplay.show(display.message('here', 'note'))")
    contents = [message["content"] for message in kernel.said(asked)]
    shown = [content["data"]["text/plain"] for content in contents if "data" in content]
    assert shown == ["ℹ here"]


def test_a_bar_is_plain_html_that_stays(kernel: Kernel) -> None:
    asked = kernel.begin(
        # A clock of the cell's own: how long a step takes decides whether it is drawn.
        "import time\nfrom types import SimpleNamespace\nfrom labkit import display\nnow = [0.0]\n"
        "display.time = SimpleNamespace(monotonic=lambda: now[0])\n"
        "with display.progress(2, 'GET http://x/<a>', 'request') as step:\n"
        "    now[0] = 1.1\n    step()\n    step()\ndisplay.time = time"
    )
    messages = [one for one in kernel.said(asked) if one["msg_type"].endswith("display_data")]
    shown = [message["content"]["data"] for message in messages]
    assert [set(data) for data in shown] == [{"text/html", "text/plain"}] * 2
    assert "1 of 2 requests" in shown[0]["text/plain"]
    assert '<progress max="2" value="2" aria-label="GET http://x/&lt;a&gt;">' in shown[1]["text/html"]
