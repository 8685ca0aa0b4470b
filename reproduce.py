"""The paper in one command: checks the datasets, trains, tests, scores and writes a report.

    python reproduce.py --data DIR                                 both networks of Table 1
    python reproduce.py --data DIR --backbones resnet50 --search   ResNet-50, and cells of a search of our own
    python reproduce.py --data DIR --plan                          only the steps, with hours for this machine
    python reproduce.py --smoke                                    all of it on generated scenes, minutes on a CPU

DIR holds DUTS-TR and the five benchmarks DUTS-TE, ECSSD, PASCAL-S, DUT-OMRON and HKU-IS, each in its own folder. Into
`--out` go report.md, curves_NAME.png and cells_NAME.png of every network, scores/ (see evaluate.py) and runs/, a folder
for every step. The same command resumes after a stop. A step is recognised by its settings and by the content of its
inputs. A finished one is not done again, and a training or a search resumes at its last checkpoint.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from settings.parser import arguments, parse
from utils.errors import UserError, exit_on_user_error, say
from utils.hardware import DeviceName

if TYPE_CHECKING:  # imported where they are used, after the command line is parsed: `--help` needs no PyTorch
    from nas.settings import SearchConfig
    from training.run_group import Run, RunGroup
    from training.settings import TrainConfig

ROOT = Path(__file__).resolve().parent
TRAINING, TRAINING_IMAGES = "DUTS-TR", 10_553
BACKBONES = ("resnet50", "vgg16")
SMOKE_TRAINING = (
    "--network.encoder", "test_efficientnet", "--network.channels", "16", "--encoder-weights", "none",
    "--data.size", "64", "--data.workers", "0", "--data.held-out", "0.2", "--epochs", "2", "--batch", "4",
    "--precision", "fp32", "--log-every", "1",
)  # fmt: skip
SMOKE_IMAGES = {TRAINING: 20, "DUTS-TE": 4, "ECSSD": 4, "PASCAL-S": 4, "DUT-OMRON": 4, "HKU-IS": 4}


@dataclass(frozen=True)
class Plan:
    """What is done.

    Attributes:
        data: folder of each dataset.
        out: folder of the report.
        backbones: networks of Table 1.
        search: whether cells are searched and trained as well.
        smoke: small networks, few epochs.
        device: where everything computes.
    """

    data: dict[str, Path]
    out: Path
    backbones: tuple[str, ...]
    search: bool
    smoke: bool
    device: DeviceName

    @property
    def benchmarks(self) -> dict[str, Path]:
        """The datasets that are tested on."""
        return {name: folder for name, folder in self.data.items() if name != TRAINING}

    def training(self, config: str, *more: object) -> list[str]:
        """Arguments of train.py for a file of configs/."""
        small = SMOKE_TRAINING if self.smoke else ()
        root = ("--data.root", self.data[TRAINING], "--device", self.device)
        return [*map(str, ("--config", ROOT / "configs" / f"{config}.yaml", *root, *small, *more))]

    def searching(self) -> list[str]:
        """Arguments of search.py."""
        config = "search_smoke" if self.smoke else "search_resnet50"
        # Precisions are measured, and two runs may choose differently: that of the smoke run is stated.
        root = ("--precision", "fp32") if self.smoke else ("--data.root", self.data[TRAINING])
        return [*map(str, ("--config", ROOT / "configs" / f"{config}.yaml", *root, "--device", self.device))]


def main(words: Sequence[str] | None = None) -> int:
    """Does what is left to do and writes the report; with `--plan` lists the steps only."""
    plan, only_plan = _plan(words)
    if only_plan:
        print_plan(plan)
        return 0

    from nas.reproduction import write_report
    from training.run_group import RunGroup

    say(check(plan))
    group = RunGroup(plan.out / "runs")
    networks = {name: finished(group, training(plan, name)) for name in plan.backbones}
    if plan.search:
        cells = finished(group, searching(plan)) / "genotype.json"
        networks["searched"] = finished(group, training(plan, "resnet50", cells))
    maps = {name: finished(group, testing(plan, name, folder)) for name, folder in networks.items()}
    scores = finished(group, scoring(plan, maps))
    path = write_report(plan.out, networks, maps, scores, plan.benchmarks, plan.device)
    say(f"written: {path}")
    return 0


def finished(group: RunGroup, run: Run) -> Path:
    """The folder of a step, which is done unless it is finished already."""
    say(f"{run.title}: {run.program}")
    return group.complete(run)


def training(plan: Plan, backbone: str, cells: Path | None = None) -> Run:
    """A training of 48 epochs by the recipe of configs/, with the published cells or those of a file."""
    from training.run_group import training_run

    more = () if cells is None else ("--network.genotype", cells)
    return training_run(f"train-{'searched' if cells else backbone}", plan.training(backbone, *more))


def searching(plan: Plan) -> Run:
    """A search of cells at the paper's scale."""
    from nas.settings import SearchConfig
    from training.run_group import Run, settings_content

    words = plan.searching()
    return Run("search", "search.py", tuple(words), settings_content(parse(SearchConfig, "Search.", words)))


def testing(plan: Plan, name: str, folder: Path) -> Run:
    """Maps of a trained network on every benchmark, in float32."""
    from training.run_group import Run

    weights = folder / "best.safetensors"
    engine = ("--engine", "torch", "--precision", "fp32", "--device", plan.device, "--resume", "--sheet")
    data = [f"{one}={path}" for one, path in plan.benchmarks.items()]
    content = {"training": (folder / "finished.json").read_text("utf-8"), "engine": engine, **_content(plan)}
    return Run(f"test-{name}", "test.py", ("--weights", str(weights), *engine, "--data", *data), content)


def scoring(plan: Plan, maps: dict[str, Path]) -> Run:
    """Scores of all networks with intervals, curves and sheets."""
    from training.run_group import Run, file_content

    words = ["--data", *(f"{name}={path}" for name, path in plan.benchmarks.items())]
    words += ["--maps", *(f"{name}={folder / 'maps'}" for name, folder in maps.items())]
    words += ["--resamples", "200", "--images", "1"] if plan.smoke else []
    tested = {name: (folder / "finished.json").read_text("utf-8") for name, folder in maps.items()}
    content = {"maps": tested, "smoke": plan.smoke, **_content(plan)}
    content["folders"] = {name: file_content(folder / "maps") for name, folder in maps.items()}
    return Run("scores", "evaluate.py", tuple(words), content)


def _content(plan: Plan) -> dict[str, str]:
    """Names and sizes of the files of every benchmark, by its name."""
    from training.run_group import file_content

    return {name: file_content(path) for name, path in plan.benchmarks.items()}


def check(plan: Plan) -> str:
    """Pairs images and masks of every dataset; returns how many there are, beside the paper's number.

    Raises:
        LayoutError: a folder holds no dataset, or nothing pairs.
        UserError: files do not pair.
    """
    from data.layouts import survey
    from evaluation.table1 import table1

    expected, lines = {TRAINING: TRAINING_IMAGES, **table1().benchmarks}, []
    for name, folder in plan.data.items():
        found = survey(folder)
        if found.faults() and not plan.smoke:
            raise UserError(f"{folder}: {found.faults()[0]}. `python -m data.check {folder}` lists all.")
        differs = "" if len(found.pairs) == expected[name] else f", the paper's has {expected[name]}"
        lines.append(f"{name}: {len(found.pairs)} pairs{differs}")
    return "\n".join(lines)


def print_plan(plan: Plan) -> None:
    """Prints the steps; the hours of trainings and of the search come from five steps on this machine each."""
    import torch

    from data.layouts import survey
    from nas.reproduction import training_hours
    from nas.settings import SearchConfig
    from nas.step_time import measured, search_step
    from training.settings import TrainConfig
    from utils.device import banner, choose_device, choose_precision

    device = choose_device(plan.device)
    precision = choose_precision("auto", device)
    say(f"{banner(device, precision)}\n{check(plan)}")
    images = len(survey(plan.data[TRAINING]).pairs)
    total = 0.0
    for name in plan.backbones:
        config: TrainConfig = parse(TrainConfig, "Train.", plan.training(name))
        total += (hours := training_hours(config, images, device, precision))
        say(f"train {name}: {config.epochs} epochs, {hours:.2f} h; test and score it: minutes, not measured")
    if plan.search:
        search: SearchConfig = parse(SearchConfig, "Search.", plan.searching())
        seconds = measured(search_step(search, device, precision), search.batch, device).seconds
        total += (hours := seconds * search.epochs * (images // 2 // search.batch) / 3600)
        say(f"search: {search.epochs} epochs, {hours:.2f} h, then a training of the cells as of resnet50")
    say(f"together about {total:.1f} h on one {torch.device(device).type} device, without reading images")


def _plan(words: Sequence[str] | None) -> tuple[Plan, bool]:
    """The command line, and whether only the plan is asked for.

    Raises:
        UserError: no datasets are named, or some of them are missing.
    """
    parser = arguments(__doc__, "reproduce.py")
    add = parser.add_argument
    add("--data", type=Path, metavar="DIR", help="folder of DUTS-TR and the five benchmarks")
    add("--backbones", nargs="+", type=Literal["resnet50", "vgg16"], default=list(BACKBONES), metavar="NAME",
        help="resnet50, vgg16 or both (default)")  # fmt: skip
    add("--search", action="store_true", help="search cells as well, then train and test them")
    add("--plan", action="store_true", help="print the steps and their hours on this machine, do nothing")
    add("--smoke", action="store_true", help="generated scenes and small networks, to see that all works")
    add("--device", default="auto", type=DeviceName, help="auto, cpu, cuda or mps")
    add("--out", type=Path, default=Path("runs/reproduce"), help="folder of the report")
    options = parser.parse_args(words)
    if options.smoke == (options.data is not None):
        raise UserError("--data: name the folder of the datasets, or give --smoke alone to use generated scenes.")
    root: Path = options.out / "data" if options.smoke else options.data
    if options.smoke:
        _generate(root)
    data = {name: root / name for name in SMOKE_IMAGES}
    if missing := [name for name, folder in data.items() if not folder.is_dir()]:
        raise UserError(
            f"--data {root}: there is no {', '.join(missing)}. Each dataset has a folder of its name there."
        )
    backbones = tuple(dict.fromkeys(options.backbones))
    return Plan(data, options.out, backbones, options.search, options.smoke, options.device), options.plan


def _generate(root: Path) -> None:
    """Generated scenes in place of the datasets; those that are there stay. A scene depends on its number only."""
    import shutil

    from data.synthetic import write_scenes

    for seed, (name, count) in enumerate(SMOKE_IMAGES.items()):
        if not (root / name).is_dir():
            part = root / f".{name}.part"
            shutil.rmtree(part, ignore_errors=True)  # of a start that was killed
            write_scenes(part, count, 96, seed).replace(root / name)


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
