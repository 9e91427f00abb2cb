"""The page's modules as one file do what they do one by one."""

import shutil
import subprocess
from pathlib import Path

import pytest

from engine.server.page_bundle import bundle
from engine.server.page_routes import ENTRY, WEB
from tests.server.conftest import Site

MODULES = {
    "app.js": """\
import { add, one as first } from "./deep/sum.js";
import "./deep/side.js";

const later = async () => (await import("./later.js")).word;
later().then((word) => console.log(add(first, 2), globalThis.count, word));
""",
    "deep/sum.js": """\
import {
  count,
} from "../count.js";

export const one = 1;
export function add(a, b) {
  return a + b + count();
}
""",
    "deep/side.js": 'import { count } from "../count.js";\n\nglobalThis.count = count();\n',
    "count.js": """\
let seen = 0;
export function count() {
  return (seen += 1) * 10;
}
""",
    "later.js": 'export const word = "done";\n',
}


def write(folder: Path, modules: dict[str, str]) -> None:
    for name, text in modules.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.node
@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
def test_it_does_what_the_modules_do(tmp_path: Path):
    write(tmp_path, MODULES)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "one.js").write_text(bundle(tmp_path, "app.js"))
    said = [
        subprocess.run(["node", name], cwd=tmp_path, capture_output=True, text=True, check=True)
        for name in ("app.js", "one.js")
    ]
    assert said[0].stdout == said[1].stdout == "23 10 done\n"


def test_a_cycle_is_named(tmp_path: Path):
    write(tmp_path, {"a.js": 'import { b } from "./b.js";\n', "b.js": 'import "./a.js";\n'})
    with pytest.raises(ValueError, match=r"a\.js → b\.js → a\.js"):
        bundle(tmp_path, "a.js")


def test_every_module_that_the_page_imports_is_in_it():
    whole = bundle(WEB, ENTRY)
    assert "\nimport " not in whole
    assert "\nexport " not in whole
    assert "await import(" not in whole


async def test_the_page_gets_one_file(site: Site):
    status, text = await site.get(f"/{ENTRY}")
    assert status == 200
    assert text.decode() == bundle(WEB, ENTRY)
    assert (await site.get("/canvas/scene.js"))[1] == (WEB / "canvas" / "scene.js").read_bytes()
