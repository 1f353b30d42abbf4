"""How the command line is used: errors begin with what is wrong, help is short, much or little is said."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from documents import command_parsers
from generating import TOY, CommandLine

from clipes.cli import COMMANDS
from clipes.commands import progress, terminal
from clipes.commands.parser import Parser
from clipes.commands.progress import ProgressLines
from clipes.commands.terminal import set_verbosity
from clipes.config import COCO14, SCENES, STAGES, ParConfig
from clipes.vocabulary import load_vocabulary

GENERATE = ("generate", "photos", "--labels", "labels.csv", "--out", "m")


@pytest.fixture(autouse=True)
def _in_the_folder(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos.parent)
    monkeypatch.setenv("COLUMNS", "100")


# --- errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "clipes: the following arguments are required: COMMAND"),
        ("genrate", "report, export, prompts, sharpness, synonyms, background, models; did you mean generate?"),
        ("paint", "clipes: there is no command 'paint'; the commands are demo, generate,"),
        ("generate photos --clases voc12", "unrecognized arguments: --clases voc12; did you mean --classes?"),
        ("generate photos --label cat", "unrecognized arguments: --label cat; did you mean --labels"),
        ("generate photos --save", "--save; did you mean --save-confidence or --save-cams or --save-patch-cams?"),
        ("generate photos --box=0.5", "unrecognized arguments: --box=0.5; did you mean --box-threshold or --boxes?"),
        (
            "generate photos --labels cat tree",
            "unrecognized arguments: tree; where a flag takes several values, join them with commas: dog,cat\n",
        ),
        ("generate photos --xyzzy", "clipes generate: unrecognized arguments: --xyzzy\n"),
        (
            "generate photos --refine crff",
            "'crff' (choose from crf, par, pamr, none); did you mean crf?",
        ),
        ("status", "clipes status: the following arguments are required: folder"),
        ("gen photos", "there is no command 'gen'; the commands are demo, "),
        ("ex masks", "; did you mean export?"),
        (
            "show a.jpg --lables=cat",
            "are required: --labels; --lables is no flag; did you mean --labels?",
        ),
        ("tag photos --classes voc12", "clipes tag: the following arguments are required: --out\n"),
        ("export masks --to cocoo", "clipes export: argument --to: invalid choice: 'cocoo' (choose from coco, voc"),
        ("demo --count 0", "clipes demo: argument --count: '0' is not a whole number of at least 1"),
    ],
)
def test_the_message_comes_first(cli: CommandLine, arguments: str, message: str) -> None:
    code, out, err = cli(*arguments.split())
    first, second = err.splitlines()
    assert (code, out) == (2, "") and message.strip() in first and first.startswith("clipes")
    assert second == f"see {first.partition(':')[0]} --help"


# --- help


def _flags(text: str) -> set[str]:
    return {line.split()[0].rstrip(",") for line in text.splitlines() if line.startswith("  -")}


def test_the_help_of_generate(cli: CommandLine) -> None:
    code, short, _ = cli("generate", "--help")
    assert code == 0 and len(_flags(short)) == 12 and "more flags: clipes generate --help-all\n" in short
    assert short.count("\n  clipes generate ") == 3
    code, whole, _ = cli("generate", "--help-all")
    known = command_parsers()["generate"]
    named = {option for action in known._actions for option in action.option_strings if option.startswith("--")}
    assert code == 0 and all(f"{option}" in whole for option in named) and len(named) > 50
    assert "more flags" not in whole and whole.count("\n  clipes generate ") == 3


@pytest.mark.parametrize("name", [command.__name__.rpartition(".")[2] for command in COMMANDS])
def test_every_help(cli: CommandLine, name: str) -> None:
    """It is no more than a screen; its examples parse."""
    code, text, _ = cli(name, "--help")
    assert code == 0 and text.startswith(f"usage: clipes {name}") and len(text.splitlines()) < 70
    parser = command_parsers()[name]
    assert isinstance(parser, Parser) and (bool(parser.examples) == bool(parser.essential))
    for example in parser.examples:
        _, command, *arguments = shlex.split(example)
        assert command == name
        parser.parse_args(arguments)


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "clipes", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("clipes ")


def test_completion(cli: CommandLine) -> None:
    """For every shell that shtab knows; where the shell is here, it can read the script."""
    shtab = pytest.importorskip("shtab", reason="shtab, the extra `completion`, is not installed")
    for shell in shtab.SUPPORTED_SHELLS:
        code, script, _ = cli("--print-completion", shell)
        assert code == 0 and all(word in script for word in ("generate", "ignore-below", "finalize"))
        if shutil.which(shell) and shell in ("bash", "zsh", "fish"):
            done = subprocess.run([shell, "-n"], input=script, capture_output=True, text=True)
            assert (done.returncode, done.stderr) == (0, ""), shell
    assert f"knows no 'csh'; choose from {', '.join(shtab.SUPPORTED_SHELLS)}" in cli("--print-completion", "csh").err


def test_completion_without_shtab(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    code, _, err = cli("--print-completion", "bash")
    assert code == 2 and "argument --print-completion: it needs shtab: pip install shtab, or in a clone" in err


# --- how much is said


@pytest.fixture
def _normal() -> None:
    yield
    set_verbosity(False, False)


@pytest.mark.usefixtures("_normal")
def test_quiet_and_verbose(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from clipes.cli import main

    assert main([*GENERATE]) == 0 and capsys.readouterr().err == TOY
    assert main([*GENERATE, "--overwrite", "-q"]) == 0 and capsys.readouterr().err == ""
    (photos / "b.png").write_bytes(b"")
    assert main([*GENERATE, "--overwrite", "--quiet"]) == 3
    assert "photos/b.png: the file is empty" in capsys.readouterr().err
    assert main([*GENERATE, "--overwrite", "-v"]) == 3
    assert capsys.readouterr().err.startswith(f"{TOY}a: ok\nb: failed, the file is empty\nsub/c: ok\n")
    assert main(["generate", "nowhere", "--labels", "cat", "--out", "m", "-v"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("Traceback") and err.endswith("clipes generate: no such image, folder or list: nowhere\n")


def test_a_line_a_minute_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """The clock is one of the test's own: 20 s for an image."""
    times = iter(range(0, 10**6, 20))
    said: list[str] = []
    lines = ProgressLines(range(300), 300, "images", said.append, lambda: next(times))
    assert list(lines) == list(range(300)) and len(said) == 100
    assert said[0] == "3 of 300 images, 0.05/s, 1 h 39 min left" and said[-1] == "300 of 300 images, 0.05/s"
    lines.set_postfix(failed=2, skipped=0, refresh=False)
    for _ in range(3):
        lines.update()
    assert said[-1].endswith(", failed 2")
    assert isinstance(terminal.progress_bar([], 0, "images"), ProgressLines)


def test_a_run_says_how_far_it_is(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    err = cli(*GENERATE).err
    assert [line.partition(" images")[0] for line in err.splitlines()] == ["1 of 3", "2 of 3", "3 of 3"]


# --- files of settings and of classes


def _config(cli: CommandLine, text: str, *flags: str, name: str = "c.yaml") -> dict[str, object]:
    Path(name).write_text(text)
    code, _, err = cli(*GENERATE, "--overwrite", "--config", name, *flags)
    assert code == 0, err
    return json.loads(Path("m/run.json").read_text())["settings"]["config"]


def test_settings_from_a_file(cli: CommandLine) -> None:
    """On top of the preset's, below the flags; in both formats; all settings of a run are such a file."""
    yaml = "affinity: {attention: {hops: 3}}\nrefine:\n  par: {dilations: [1, 2]}\nmask: {none: {}}\n"
    affinity = {**COCO14.to_dict()["affinity"]["attention"], "hops": 3}
    base = {"affinity": {"attention": affinity}, "mask": {"none": {"background_power": 3}}}
    found = _config(cli, yaml, "--preset", "coco14", "--background-power", "3")
    assert found["affinity"] == base["affinity"] and found["mask"] == base["mask"]
    assert found["refine"] == {"par": {**json.loads(json.dumps(vars(ParConfig()))), "dilations": [1, 2]}}
    assert _config(cli, json.dumps(found), name="c.json") == found
    assert _config(cli, "affinity: null\nrefine: null\n") | {"mask": 0} == {
        **json.loads(json.dumps(SCENES.to_dict())),
        "affinity": None,
        "refine": None,
        "mask": 0,
    }
    assert cli("generate", "--like", "m", "--out", "n", "--config", "c.json", "--dry-run")[0] == 0


@pytest.mark.usefixtures("never_loaded")
@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.yaml", "afinity: {}", "--config c.yaml: the settings: there is no 'afinity'; did you mean 'affinity'?"),
        (
            "c.yaml",
            "affinity: {attention: {hop: 1}}",
            "--config c.yaml: affinity: there is no 'hop'; did you mean 'hops'?",
        ),
        (
            "c.yaml",
            "affinity: {hops: 1}",
            "--config c.yaml: affinity: 'hops' is a setting of 'attention'; write affinity: {attention: {hops: ...}}",
        ),
        ("c.yaml", "affinity: {attention: {hops: 0}}", "--config c.yaml: hops is 0; it must be at least 1"),
        ("c.yaml", "affinity: {attention: {hops: many}}", "--config c.yaml: hops is 'many'; it must be a whole number"),
        (
            "c.yaml",
            "refine: crf",
            "--config c.yaml: refine is 'crf'; give one with its settings, such as crf: {}, or null",
        ),
        ("c.yaml", "refine: {crff: {}}", "--config c.yaml: refine: there is no 'crff'; did you mean 'crf'?"),
        ("c.yaml", "mask: null", "--config c.yaml: mask is None; give one with its settings, such as confidence: {}"),
        ("c.yaml", "- 1", "--config c.yaml: it holds no mapping of settings, such as refine: {par: {}}"),
        ("c.yaml", "a: [", "--config c.yaml: bad YAML"),
        ("c.txt", "", "--config c.txt: settings are in a .json, .yaml, .yml file"),
        ("c.json", '{"settings": {}}', "--config c.json: it is the record of a run; give it as --like"),
    ],
)
def test_a_wrong_file_of_settings(cli: CommandLine, name: str, text: str, message: str) -> None:
    Path(name).write_text(text)
    code, _, err = cli(*GENERATE, "--config", name)
    assert code == 2 and err.startswith(f"clipes generate: {message}") and not os.path.exists("m")
    assert "--config c.toml: there is no such file" in cli(*GENERATE, "--config", "c.toml.json").err.replace(
        "c.toml.json", "c.toml"
    )


def test_names_and_values_of_the_plan_are_apart(cli: CommandLine) -> None:
    lines = cli(*GENERATE, "--dry-run").out.splitlines()
    names = {line.partition(" ")[0] for line in lines}
    assert names >= {"source", "images", *STAGES} and all(line[10:11] == " " or " " in line[11:] for line in lines)


def test_the_settings_of_the_tutorial(cli: CommandLine) -> None:
    page = (Path(__file__).parents[2] / "docs/tutorial.md").read_text(encoding="utf-8")
    (yaml,) = re.findall(r"^```yaml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    found = _config(cli, yaml)
    assert found["affinity"]["attention"]["box_threshold"] == 0.5 and found["mask"]["confidence"]["ignore_below"] == 0.9


def test_finalize_takes_a_file_of_settings(cli: CommandLine) -> None:
    """On top of the run's settings, below the flags; stages that made the saved maps are refused."""
    made = _config(cli, "mask: {confidence: {background_power: 2}}", "--save-patch-cams")
    Path("d.yaml").write_text(
        "refine: {par: {iterations: 3}}\nmask: {confidence: {background_power: 3, ignore_below: 0.5}}\n"
    )
    code, _, err = cli("finalize", "m", "--config", "d.yaml", "--ignore", "none", "--out", "n")
    assert code == 0, err
    found = json.loads(Path("n/run.json").read_text())["settings"]["config"]
    par = {**json.loads(json.dumps(vars(ParConfig()))), "iterations": 3}
    assert found == {**made, "refine": {"par": par}, "mask": {"none": {"background_power": 3}}}
    Path("d.yaml").write_text("affinity: {attention: {hops: 3}}\nmask: {confidence: {background_power: 3}}\n")
    code, _, err = cli("finalize", "m", "--config", "d.yaml", "--out", "o")
    assert code == 2 and not os.path.exists("o")
    message = "affinity: the saved maps are made with it already, and refine, mask, regions, vote alone can be changed"
    assert f"clipes finalize: --config d.yaml: {message}" in err
    Path("d.yaml").write_text("mask: {confidence: {background_power: 3}}\n")
    assert cli("finalize", "m", "--config", "d.yaml", "--out", "o")[0] == 0


def test_yaml_in_the_place_of_json(cli: CommandLine) -> None:
    """Class files and files of templates; never read as text."""
    Path("own.yaml").write_text("classes:\n- name: cat\n  prompts: [cat, kitten]\n- tree\ntemplates: ['my {}.']\n")
    own = load_vocabulary("own.yaml")
    assert own.class_names == ("cat", "tree") and own.prompt_names[0] == ("cat", "kitten")
    Path("t.yml").write_text("- a {}.\n- the {}.\n")
    flags = ("--labels", "cat,tree", "--out", "m", "--classes", "own.yaml", "--templates", "t.yml")
    assert cli("generate", "photos", *flags)[0] == 0
    assert json.loads(Path("m/run.json").read_text())["settings"]["templates"] == ["a {}.", "the {}."]
    Path("no.yaml").write_text("- cat\n- no\n")
    with pytest.raises(ValueError, match=r"no\.yaml: class names: entry 2 is False, not a string"):
        load_vocabulary("no.yaml")


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "pbtxt", "toml", "tsv", "xml"])
def test_a_file_that_is_no_list(suffix: str) -> None:
    Path(f"own.{suffix}").write_text("name,id\ncat,1\n")
    message = rf"own\.{suffix}: a \.{suffix} file is no list of entries; save it as \.json, \.yaml, or \.txt"
    with pytest.raises(ValueError, match=message):
        load_vocabulary(f"own.{suffix}")


# --- the first seconds


@pytest.mark.parametrize(
    "command",
    [
        [*GENERATE],
        ["demo", "--count", "1"],
        ["show", "photos/a.jpg", "--labels", "cat", "--overlay"],
        ["background", "photos", "--labels", "labels.csv"],
        ["sharpness", "photos", "--labels", "labels.csv", "--out", "s"],
    ],
    ids=lambda command: command[0],
)
def test_the_model_is_named_before_torch_is_imported(command: list[str]) -> None:
    code = (
        "import sys; from clipes import cli; from clipes.commands import model\n"
        "def note(text): print(text, 'torch' in sys.modules); raise KeyboardInterrupt\n"
        f"model.print_note = note; cli.main({command!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == f"{TOY.strip()} False\n", done.stderr


def test_a_model_that_takes_time_is_named_first(cli: CommandLine) -> None:
    code, _, err = cli(*GENERATE, "--model", "ViT-B-16", "--pretrained", "no.bin", "--classes", "scenes")
    assert code == 2 and err.splitlines()[0] == "loading ViT-B-16 no.bin ..."


def test_other_classes_are_told_in_words(cli: CommandLine) -> None:
    generate = ("generate", "photos", "--labels", "cat", "--out", "m")
    assert cli(*generate)[0] == 0
    code, _, err = cli(*generate, "--classes", "apple,bird,boat,car,cat,fish")
    assert code == 2 and "other settings (classes: scenes → 6 own names; background: 10 → " in err
