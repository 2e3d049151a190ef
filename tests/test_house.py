"""Rules of the house that no other tool checks on its own."""

import ast
import re
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LOCK = (ROOT / "requirements.lock").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKED = dict(line.split("==") for line in LOCK.splitlines() if line and not line.startswith("#"))


def test_imports_run_one_way() -> None:
    command = Path(sys.executable).with_name("lint-imports")
    finished = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr


@pytest.mark.parametrize(
    "module",
    ["cli.main", "cli.upscale", "cli.train", "cli.dataset", "cli.evaluate", "cli.serve", "cli.keys"],
)
def test_command_line_is_ready_without_heavy_packages(module: str) -> None:
    heavy = ("torch", "diffusers", "transformers", "av", "matplotlib", "scipy", "fastapi", "redis")
    heavy += ("training", "pipelines", "cv2", "scenedetect")
    code = f"import sys, {module}; print([name for name in {heavy!r} if name in sys.modules])"
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert finished.stdout.strip() == "[]"


def test_no_module_is_longer_than_300_lines() -> None:
    """What is longer has more than one idea (tests may list more cases)."""
    folders = ("benchmarks", "cli", "dovetail_client", "jobs", "media", "pipelines", "scripts", "service")
    files = [path for folder in (*folders, "training", "workers") for path in (ROOT / folder).rglob("*.py")]
    assert len(files) > 400
    lengths = {path.relative_to(ROOT): len(path.read_text().splitlines()) for path in files}
    assert {str(path): length for path, length in lengths.items() if length > 300} == {}


def our_modules() -> list[Path]:
    """Modules of the packages that this repository runs; its client has the service's words on purpose."""
    folders = ("cli", "jobs", "media", "pipelines", "service", "training", "workers")
    return [path for folder in folders for path in (ROOT / folder).rglob("*.py")]


@pytest.mark.parametrize("word", ["Job", "Manifest", "Plan", "Stage"])
def test_one_word_names_one_thing(word: str) -> None:
    """What a customer submitted is a job and how far it is its stage; nothing else may be called so."""
    definition = re.compile(rf"^(?:class )?{word}(?:\(| ?[:=])", re.MULTILINE)
    found = [str(path.relative_to(ROOT)) for path in our_modules() if definition.search(path.read_text())]
    assert found == (["jobs/records.py"] if word in ("Job", "Stage") else [])


def test_no_two_modules_of_a_folder_have_nearly_one_name() -> None:
    """Not by an underscore or an `s`: whoever looks for one would open the other."""
    names = Counter((path.parent, path.stem.replace("_", "").removesuffix("s")) for path in our_modules())
    assert [str(folder / name) for (folder, name), number in names.items() if number > 1] == []


def test_libswscale_runs_in_one_thread() -> None:
    """In several it now and then gives a whole wrong row, in some formats (FFmpeg 8, odd slices)."""
    folders = ("benchmarks", "media", "pipelines", "scripts", "tests", "training", "workers")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    calls = [
        (path.relative_to(ROOT), node.lineno, {keyword.arg for keyword in node.keywords})
        for path, text in ((path, path.read_text()) for path in files)
        if "reformat" in text  # parsing all files takes seconds
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "reformat"
    ]
    assert len(calls) > 10
    assert [f"{path}:{line}" for path, line, names in calls if "threads" not in names] == []


def test_lock_pins_every_requirement_within_its_range() -> None:
    locked = {canonicalize_name(name): version for name, version in LOCKED.items()}
    optional = PROJECT["optional-dependencies"]
    extras = ("prompt", "training", "networks", "quantization", "dev")
    wanted = [*PROJECT["dependencies"], *(line for extra in extras for line in optional[extra])]
    for requirement in map(Requirement, wanted):
        name = canonicalize_name(requirement.name)
        if name != PROJECT["name"]:
            assert requirement.specifier.contains(locked[name]), requirement


def test_lock_fits_machines_with_and_without_a_gpu() -> None:
    assert "+" not in LOCK  # a local build such as +cpu exists on some machines only
    # Nor torchvision: none fits the CPU build of torch.
    assert not re.search(r"^(nvidia|triton|xformers|cuda|torchvision)", LOCK, re.MULTILINE)


def test_weights_in_the_repository_stay_small() -> None:
    folders = [path for path in (ROOT / "pipelines" / "checkpoints").iterdir() if path.is_dir()]
    assert folders
    for folder in folders:
        assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 20_000_000


def test_list_of_options_is_that_of_the_commands() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "cli_docs.py"), "--check"]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr


def test_list_of_settings_is_that_of_the_classes() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "settings_docs.py"), "--check"]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr


def links_of(document: Path) -> list[str]:
    """Targets of a Markdown file's links and pictures that lie in the repository, without anchors."""
    targets = re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8"))
    return [target.split("#")[0] for target in targets if not re.match(r"[a-z]+:|#", target)]


@pytest.mark.parametrize(
    "document",
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_links_in_the_documents_lead_somewhere(document: Path) -> None:
    missing = [target for target in links_of(document) if not (document.parent / target).exists()]
    assert missing == []
