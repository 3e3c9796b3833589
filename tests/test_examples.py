"""Every example runs, is short, and gets the right answer."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def example(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_examples_are_short_and_run_as_scripts(path):
    assert len(path.read_text().splitlines()) <= 60
    done = subprocess.run([sys.executable, "-W", "error", path], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_joint_salary_mean():
    module = example("joint_salary_mean")
    pool = np.concatenate(module.PAYROLLS)
    np.testing.assert_allclose(module.main(), (pool.mean(), pool.std()), rtol=1e-9)


def test_who_is_larger():
    assert example("who_is_larger").main() == ("Birch", [True, None, None, True])


def least_squares(x, y):
    return np.linalg.lstsq(np.column_stack([x, np.ones(len(x))]), y, rcond=None)[0]


def coefficients_agree(found, wanted, x):
    sd = x.std(axis=0)
    assert (np.abs(found - wanted) * sd).max() < 1e-5 * (np.abs(wanted) * sd).max()


def test_hospital_regression():
    module = example("hospital_regression")
    rows = np.concatenate(module.PATIENTS)
    x, y = rows[:, :-1], rows[:, -1]
    wanted = least_squares(x, y)
    coefficients, intercept, score = module.main()
    coefficients_agree(coefficients, wanted[:-1], x)
    assert abs(intercept - wanted[-1]) < 1e-3 * y.std()
    residual = y - x @ wanted[:-1] - wanted[-1]
    assert abs(score - (1 - residual.var() / y.var())) < 1e-6


def test_two_banks_and_an_insurer():
    module = example("two_banks_and_an_insurer")
    x = np.column_stack(module.COLUMNS)
    wanted = least_squares(x, module.CLAIMS)
    coefficients, intercept, predicted = module.main()
    coefficients_agree(coefficients, wanted[:-1], x)
    assert abs(intercept - wanted[-1]) < 1e-3 * module.CLAIMS.std()
    np.testing.assert_allclose(predicted, x @ wanted[:-1] + wanted[-1], atol=1e-4 * module.CLAIMS.std())


NOTEBOOK = EXAMPLES / "regression.ipynb"


def test_the_notebook_is_stored_without_results():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    assert NOTEBOOK.stat().st_size < 10_000
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells if cell["cell_type"] == "code")


@pytest.mark.filterwarnings("ignore")  # the kernel's own libraries
def test_the_notebook_runs_in_a_kernel(tmp_path, monkeypatch):
    import nbclient
    import nbformat

    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = "".join(output.get("text", "") for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs)
    assert "R² 0.5177" in printed
    assert printed.count("error ") == 2
