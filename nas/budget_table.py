"""The table of docs/search.md on what the searches of each group cost, from the accounts in their genotypes."""

from collections import defaultdict
from collections.abc import Mapping
from statistics import fmean
from typing import Any

from evaluation.tables.writer import Table, markdown
from net.genotype import Genotype

_COUNTS = {"supernet_steps": "supernet steps", "trainings": "trainings", "scored": "scored"}


def budget_table(genotypes: Mapping[tuple[str, str], Genotype]) -> str:
    """Mean account of a search, by group; groups without searches, or whose searches cost nothing, are left out.

    Args:
        genotypes: (group, name) -> the cells, with `provenance.budget` where a search found them.
    """
    accounts: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for (group, _), genotype in genotypes.items():
        budget = genotype.provenance.get("budget")
        if budget and (budget["supernet_steps"] or budget["trainings"] or budget["gmac"]):
            accounts[group].append({**budget, "precision": genotype.provenance["precision"]})
    if not accounts:
        return "No search has kept its account yet."
    heads = ["group", "searches", *_COUNTS.values(), "multiply-adds seen, 10^12", "minutes", "precision"]
    return markdown(Table(heads, [_line(group, mine) for group, mine in accounts.items()]))


def _line(group: str, accounts: list[Mapping[str, Any]]) -> list[str]:
    counts = [f"{fmean(one[key] for one in accounts):.0f}" for key in _COUNTS]
    minutes = [one["minutes"] for one in accounts]
    precisions = sorted({one["precision"] for one in accounts})
    seen = fmean(one["gmac"] for one in accounts) / 1000
    return [
        group,
        str(len(accounts)),
        *counts,
        f"{seen:.1f}",
        f"{min(minutes):.0f} to {max(minutes):.0f}",
        ", ".join(precisions),
    ]
