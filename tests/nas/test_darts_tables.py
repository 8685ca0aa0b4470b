"""Tables on the strategy `darts`: differences within a search seed, and how alike two searches end."""

import numpy as np
import pytest
import torch

from nas.darts_tables import remedies_table, seeds_table
from nas.evidence import FinishedSearch, Training, add_search, mixture_file, read_mixtures
from nas.mixtures import correlation
from nas.results import ResultsError
from net.derive import strongest
from net.settings import SpaceConfig

SPACE = SpaceConfig()


def row(group, seed, score, training_seed=0):
    return Training(group, str(seed), seed, training_seed, 0.7, 4, score, None, score)


def test_a_remedy_is_compared_within_a_search_seed():
    base = [row("darts", seed, 0.80 + seed / 100) for seed in range(4)]
    assert remedies_table(base).startswith("No variant")
    changed = [row("darts_minus", seed, 0.80 + seed / 100 + gain) for seed, gain in ((1, 0.001), (2, 0.003))]
    changed.append(row("darts_minus", 3, 0.9, training_seed=1))  # another training seed has no partner
    (line,) = remedies_table(base + changed).splitlines()[2:]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[0] == "with the additional skip of DARTS-" and cells[1] == "2"
    # mean .002, standard error .001, Student's t with one degree of freedom 12.706
    assert cells[3] == "+0.0020 [-0.0107, +0.0147]" and cells[4] == "not scored" and cells[5] == cells[3]


def test_correlation_knows_order_and_not_temperature():
    rng = np.random.default_rng(0)
    alphas = rng.standard_normal((31, 11))
    cold, warm = (torch.softmax(torch.tensor(alphas / t), 1).numpy() for t in (0.5, 2.0))
    assert correlation(cold, warm) == pytest.approx(1)
    assert correlation(cold, torch.softmax(torch.tensor(-alphas), 1).numpy()) == pytest.approx(-1)
    other = torch.softmax(torch.tensor(rng.standard_normal((31, 11))), 1).numpy()
    assert abs(correlation(cold, other)) < 0.2


def keep(folder, group, seed, weights):
    search = FinishedSearch(group, seed, f"{group}{seed}")
    add_search(folder, search, strongest(torch.tensor(weights), SPACE), {}, torch.tensor(weights))


def test_searches_that_differ_in_one_seed_are_paired(tmp_path):
    assert seeds_table(tmp_path).startswith("No two searches")
    rng = np.random.default_rng(0)
    mixtures = [rng.dirichlet(np.ones(11), 31) for _ in range(2)]
    for seed, weights in enumerate(mixtures):
        keep(tmp_path, "darts", seed, weights)
        keep(tmp_path, "darts_order", seed, weights)
    keep(tmp_path, "darts_start", 0, mixtures[0])
    kept = read_mixtures(tmp_path, "darts")
    assert [np.abs(kept[seed] - mixtures[seed]).max() < 1e-5 for seed in (0, 1)] == [True, True]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in seeds_table(tmp_path).splitlines()[2:]]
    assert lines[0] == ["order of the images", "2", "+1.00 (+1.00 to +1.00)", "31.0"]
    expected = f"{correlation(kept[0], kept[1]):+.2f}"
    assert [lines[1][0], lines[1][1], lines[1][2].split()[0]] == ["all of it", "1", expected] and len(lines) == 2
    mixture_file(tmp_path, "darts", 1).write_text("0.5,much\n")
    with pytest.raises(ResultsError, match=r"mixtures/darts_1.csv: .*Restore it"):
        read_mixtures(tmp_path, "darts")
