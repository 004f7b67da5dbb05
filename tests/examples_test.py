"""The notebook in `examples/`: committed without outputs, and its code runs as it is."""

import json
import os
import subprocess
import sys

import pytest

from tests.resources import ROOT

NOTEBOOK = ROOT / "examples" / "layer_selection.ipynb"
CELLS = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


def test_it_has_no_outputs():
    code = [cell for cell in CELLS if cell["cell_type"] == "code"]
    assert code and all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


def test_it_selects_two_layers_prunes_and_tags(tmp_path):
    """In a process that sees only the repository, without a window for the plot."""
    pytest.importorskip("matplotlib")
    program = "\n".join("".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code")
    (tmp_path / "notebook.py").write_text(
        program + "\nfigure.savefig(out.parent / 'gates.png')\n", encoding="utf-8"
    )
    done = subprocess.run(
        [sys.executable, str(tmp_path / "notebook.py")],
        cwd=str(NOTEBOOK.parent),
        env={**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg", "TMPDIR": str(tmp_path)},
        capture_output=True,
        encoding="utf-8",
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    scores = [float(line.split()[3]) for line in lines if line.startswith("F1 on test")]
    assert len(scores) == 2 and min(scores) > 0.9 and any("with 2 layers" in line for line in lines)
    (after,) = [line for line in lines if line.startswith("after:")]
    assert len([word for word in after.partition("layers:")[2].split() if word.strip(",").isdecimal()]) == 2
    assert {"PER: Niklaus Wirth", "PER: Radia Perlman", "LOC: Zurich"} == {
        line[: line.index(" (")] for line in lines[-3:]
    }
    assert (tmp_path / "gates.png").stat().st_size > 5000
