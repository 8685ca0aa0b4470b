"""What a run of test.py made: scores of datasets, contact sheets, results.json and the report on the console."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.image_io import read_grey, read_image, write_png
from inference.compositing import overlay
from inference.pipeline import Failure
from inference.tasks import ImageSet, Outputs, Task
from utils.errors import UserError, one_line, say
from utils.files import replace_text

if TYPE_CHECKING:
    from data.masks import MaskCoding
    from evaluation.metrics import DatasetScores
    from inference.contact_sheet import SheetRow


@dataclass(frozen=True)
class Result:
    """What became of a set of images.

    Attributes:
        images: the set.
        done: images whose outputs are written.
        failures: the others.
        seconds: time of the run.
        kept: how many of `done` were written by an earlier run.
        members: of tar shards, how many images were written.
        scores: of a dataset.
        problem: why there are no scores, or of how many images they are.
    """

    images: ImageSet
    done: tuple[Task, ...]
    failures: tuple[Failure[Task], ...]
    seconds: float
    kept: int = 0
    members: int = 0
    scores: "DatasetScores | None" = None
    problem: str | None = None

    @property
    def problems(self) -> list[str]:
        """All that was not done, a line each: failed images first."""
        rest = [*self.images.problems, *([] if self.problem is None else [self.problem])]
        return [*(failure.reason for failure in self.failures), *rest]


def merge(parts: Sequence[Result]) -> Result:
    """The results of all processes for one set as one."""
    done = {task for part in parts for task in part.done}
    return Result(
        parts[0].images,
        tuple(task for task in parts[0].images.tasks if task in done),
        tuple(failure for part in parts for failure in part.failures),
        max(part.seconds for part in parts),
        sum(part.kept for part in parts),
        sum(part.members for part in parts),
    )


def score(result: Result, outputs: Outputs) -> Result:
    """Adds the scores of a dataset and writes those of every map; other sets are returned as they are."""
    tasks = [task for task in result.done if task.mask is not None]
    if not tasks or outputs.file:
        return result
    from data.masks import find_coding
    from evaluation.map_files import ScorePair
    from evaluation.score_files import write_csv
    from evaluation.scoring import score_maps

    title = result.images.title
    pairs = [
        ScorePair(task.name.removeprefix(f"{title}/"), outputs.path(task, "maps"), task.mask)
        for task in tasks
        if task.mask is not None
    ]
    try:
        coding = find_coding([pair.mask_path for pair in pairs], result.images.mask_values)
        pairs = [pair._replace(coding=coding) for pair in pairs]
        scores = score_maps(pairs, title=f"scoring {title}")
    except UserError as error:
        return replace(result, problem=f"{title}: not scored. {error}")
    write_csv(scores, outputs.folder / f"scores_{title}.csv")
    part = f"{title}: the scores are of {len(pairs)} of {len(result.images.tasks)} images; the others failed."
    return replace(result, scores=scores, problem=part if result.failures else None)


def write_sheet(result: Result, outputs: Outputs, rows: int) -> None:
    """A contact sheet of images from all over the set."""
    if not result.done:
        return
    from inference.contact_sheet import contact_sheet

    step = -(-len(result.done) // rows)
    coding = _coding(result)
    headers = ["image", "map", "overlay", *([] if coding is None else ["mask"])]
    write_png(
        sheet_path(result.images, outputs),
        contact_sheet(headers, [_row(t, outputs, coding) for t in result.done[::step]]),
    )


def sheet_path(images: ImageSet, outputs: Outputs) -> Path:
    """The file of a set's contact sheet."""
    return outputs.folder / (f"sheet_{images.title}.png" if images.has_masks else "sheet.png")


def write_results(folder: Path, conditions: Mapping[str, Any], results: Sequence[Result]) -> None:
    """`results.json`: scores, speed, failures, and all that they depend on."""
    write_json(folder, {**conditions, "sets": [_record(result) for result in results]})


def write_json(folder: Path, content: Mapping[str, Any]) -> None:
    """`results.json` with this content."""
    replace_text(folder / "results.json", json.dumps(content, indent=1) + "\n")


def write_tables(results: Sequence[Result], method: str, folder: Path) -> None:
    """Prints the scores of the datasets and writes them as `scores.md`."""
    scored = [result for result in results if result.scores is not None]
    if not scored:
        return
    from evaluation.tables.scores import aligned, markdown, score_table

    tables = [
        score_table(result.images.title, len(result.scores.rows), {method: result.scores.measures})
        for result in scored
        if result.scores is not None
    ]
    replace_text(folder / "scores.md", markdown(tables))
    say(f"\n{aligned(tables)}\n")


def print_problems(problems: Sequence[str]) -> None:
    """Each on standard error; a list of maps has a line for each of them."""
    for problem in problems:
        first, *rest = problem.splitlines() or [""]
        print(f"error: {one_line(first)}", *(f"  {one_line(line)}" for line in rest), sep="\n", file=sys.stderr)


def summary(results: Sequence[Result], place: str) -> str:
    """The last line: how many images, how fast, and where the outputs are."""
    done, asked = sum(len(result.done) for result in results), sum(len(result.images.tasks) for result in results)
    seconds = max(sum(result.seconds for result in results), 1e-9)
    kept = sum(result.kept for result in results)
    before = f" ({kept} kept from an earlier run)" if kept else ""
    if any(result.images.shards for result in results):
        members = sum(result.members for result in results)
        speed = f"{members} images in {seconds:.1f} s, {members / seconds:.1f} images/s"
        return f"{done} of {asked} shards, {speed}{before} -> {place}"
    return f"{done} of {asked} images in {seconds:.1f} s, {(done - kept) / seconds:.1f} images/s{before} -> {place}"


def _coding(result: Result) -> "MaskCoding | None":
    """The coding of the masks of a set; None if it has none, or ambiguous ones, which the scores report."""
    masks = [task.mask for task in result.images.tasks if task.mask is not None]
    if not masks:
        return None
    from data.masks import MaskCodingError, find_coding

    try:
        return find_coding(masks, result.images.mask_values)
    except MaskCodingError:
        return None


def _row(task: Task, outputs: Outputs, coding: "MaskCoding | None") -> "SheetRow":
    """Image, map and overlay of one task, and its mask if there is one."""
    from data.masks import read_mask
    from inference.contact_sheet import SheetRow

    image, saliency = read_image(task.image), read_grey(outputs.path(task, "maps"))
    masks = [] if task.mask is None or coding is None else [read_mask(task.mask, coding)]
    return SheetRow(task.name, [image, saliency, overlay(image, saliency), *masks])


def _record(result: Result) -> dict[str, Any]:
    """One set for `results.json`."""
    return {
        "name": result.images.title,
        "source": str(result.images.root),
        "images": len(result.done),
        "kept": result.kept,
        **({"members": result.members} if result.images.shards else {}),
        "failed": {str(failure.item.image): failure.reason for failure in result.failures},
        "unread": list(result.images.problems),
        "seconds": round(result.seconds, 3),
        "scores": None if result.scores is None else dict(result.scores.measures),
        "problem": result.problem,
    }
