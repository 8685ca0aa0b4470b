"""The linear model finds weights that made the data, shrinks what is noise, and knows how sure it is."""

import numpy as np
import pytest

from nas.linear_model import fit, left_out_predictions


def data(count, noise, seed=0):
    rng = np.random.default_rng(seed)
    features = rng.integers(0, 4, (count, 6)).astype(float)
    features[:, 5] = 1.0  # constant
    weights = np.array([1.0, -2.0, 0.0, 0.0, 0.5, 7.0])
    return features, features @ weights + noise * rng.standard_normal(count)


def test_effects_are_those_that_made_the_data():
    features, observed = data(200, 0.1)
    model = fit(features, observed)
    effects, errors = model.effects()
    assert effects[:5] == pytest.approx([1, -2, 0, 0, 0.5], abs=0.05)
    assert effects[5] == 0, "a constant explains nothing"
    assert model.noise == pytest.approx(0.1, rel=0.2)
    assert all(abs(effects[:5] - [1, -2, 0, 0, 0.5]) < 4 * errors[:5])


def test_noise_alone_is_shrunk_to_nothing():
    features, _ = data(40, 0.0)
    observed = np.random.default_rng(1).standard_normal(40)
    strong = np.linalg.lstsq(features - features.mean(0), observed - observed.mean(), rcond=None)[0]
    effects, _ = fit(features, observed).effects()
    assert np.abs(effects[:5]).max() < 0.5 * np.abs(strong[:5]).max()
    assert fit(features, np.ones(40)).effects()[0] == pytest.approx(np.zeros(6))


def test_it_equals_ridge_regression_of_its_ratio():
    features, observed = data(30, 0.5)
    model = fit(features, observed)
    rows = (features[:, :5] - features[:, :5].mean(0)) / features[:, :5].std(0)
    expected = np.linalg.solve(rows.T @ rows + model.ratio * np.eye(5), rows.T @ (observed - observed.mean()))
    assert model.mean[:5] == pytest.approx(expected)


def test_predictions_are_less_sure_far_from_the_data():
    features, observed = data(30, 0.5)
    model = fit(features, observed)
    means, deviations = model.predict(np.array([features.mean(0), features.mean(0) + 20]))
    assert means[0] == pytest.approx(observed.mean()) and deviations[1] > 10 * deviations[0]
    rng = np.random.default_rng(0)
    draws = np.array([model.sample(rng, features[:3]) for _ in range(3000)])
    expected = model.predict(features[:3])
    assert draws.mean(0) == pytest.approx(expected[0], abs=0.05)
    assert draws.std(0) == pytest.approx(expected[1], rel=0.1)


def test_one_observation_is_too_few():
    with pytest.raises(ValueError, match="1 observations"):
        fit(np.ones((1, 2)), np.ones(1))


def test_what_is_left_out_has_no_part_in_its_prediction():
    features, observed = data(40, 0.1)
    found = left_out_predictions(features, observed)
    assert np.corrcoef(found, observed)[0, 1] > 0.95
    observed[7] += 100
    assert left_out_predictions(features, observed)[7] == pytest.approx(found[7])
