"""The tables of the shipped models are what evaluate.py wrote."""

import csv

import pytest

from benchmarks.model_tables import BESIDE, PARTS, STRATA, chance, main, signed
from utils.errors import UserError


@pytest.fixture
def folder(tmp_path):
    """What evaluate.py writes, of two of our models and one other; the parts in another order."""
    out = tmp_path / "evaluation"
    (out / "strata").mkdir(parents=True)
    keys = [*BESIDE, "meane"]
    scores, tests = [], []
    for number, part in enumerate(reversed(PARTS)):
        for place, method in enumerate(("lite", "base", "U2-Net")):
            value = 0.8 + 0.01 * number + 0.001 * place
            row = {"data_set": part, "maps": 100, "method": method, "source": "measured"}
            row |= {name: value + shift for key in keys for name, shift in
                    ((key, 0), (f"{key}_low", -0.1), (f"{key}_high", 0.1))}  # fmt: skip
            scores.append(row)
        scores.append({"data_set": part, "maps": "", "method": "F3Net", "source": "paper, Table 1"})
        for first, second in (("lite", "base"), ("lite", "U2-Net"), ("base", "U2-Net"), ("U2-Net", "other")):
            values = {"difference": -0.0123, "low": -0.02, "high": 0.0001, "p": 0.01, "adjusted": 0.03}
            pair = {"data_set": part, "first": first, "second": second}
            tests += [pair | {"key": key} | values for key in ("mae", "wfm")]
        for method in ("lite", "base"):
            (out / "scores" / part).mkdir(parents=True, exist_ok=True)
            write(out / "scores" / part / f"{method}.csv", [{"wfm": 0.0}, {"wfm": 0.1}, *([{"wfm": 0.9}] * 18)])
        for kind in STRATA:
            rows = [{kind: stratum, "images": images, "method": method, "wfm": 0.7, "wfm_low": 0.6, "wfm_high": 0.8}
                    for stratum, images in (("few", 4), ("many", 96)) for method in ("lite", "base")]  # fmt: skip
            write(out / "strata" / f"{part}-{kind}.csv", rows)
    write(out / "tables.csv", scores)
    write(out / "comparisons.csv", tests)
    return out


def write(path, rows):
    heads = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, heads)
        writer.writeheader()
        writer.writerows(rows)


def test_tables_hold_our_parts_in_order(folder, tmp_path):
    assert main([str(folder)], tmp_path) == 0
    card = (tmp_path / "weights" / "base_scores.csv").read_text().splitlines()
    assert card[0] == "part,images,max F,adaptive F,weighted F,MAE,S,adaptive E,mean E"
    assert card[1] == "ECSSD-250,100" + ",.821" * 7 and card[3] == "PASCAL-S-100,100" + ",.801" * 7
    peers = (tmp_path / "docs" / "peers.csv").read_text().splitlines()
    assert len(peers) == 10 and peers[3] == "ECSSD-250,U2-Net" + ",.822 (.722 to .922)" * 7
    tests = (tmp_path / "docs" / "peers_tests.csv").read_text().splitlines()
    assert len(tests) == 10 and tests[1] == "ECSSD-250,lite less base,-.012 (-.020 to .000),.030"
    worst = (tmp_path / "docs" / "worst.csv").read_text().splitlines()
    assert len(worst) == 7 and worst[1] == "ECSSD-250,lite,51 %,.815,.858"  # 1.9 of 3.7; 16.3 of 20; 16.3 of 19
    strata = (tmp_path / "docs" / "failures.csv").read_text().splitlines()
    assert len(strata) == 10 and strata[1] == "ECSSD-250,object's share,many,96" + ",.700 (.600 to .800)" * 2


def test_a_part_that_is_missing_is_named(folder, tmp_path):
    rows = [row for row in csv.DictReader((folder / "tables.csv").open()) if row["data_set"] != PARTS[0]]
    write(folder / "tables.csv", rows)
    with pytest.raises(UserError, match="has the parts DUTS-TE-500, PASCAL-S-100, expected ECSSD-250"):
        main([str(folder)], tmp_path)
    with pytest.raises(UserError, match=r"tables.csv: No such file .* Give a folder that evaluate.py wrote"):
        main([str(tmp_path)], tmp_path)


def test_numbers_as_printed():
    assert [signed(text) for text in ("0.0344", "-0.01", "-0.0002")] == ["+.034", "-.010", ".000"]
    assert [chance(p) for p in (0.0004, 0.0294, 1.0)] == ["< .001", ".029", "1"]
