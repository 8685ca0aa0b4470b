"""A linear model with shrinkage: ridge regression as Bayes has it, its strength chosen by the evidence.

Source: MacKay, "Bayesian interpolation", Neural Computation 4 (1992). Weights have the prior N(0, s^2 / r), noise
N(0, s^2); the ratio r maximises the marginal likelihood of the data over a grid, s^2 follows in closed form.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
RATIOS = np.logspace(-3, 5, 65)


@dataclass(frozen=True)
class LinearModel:
    """What was fitted.

    Attributes:
        center: (D,) mean of every feature.
        scale: (D,) its standard deviation; a constant feature has infinity, so its weight is 0.
        intercept: mean of the observations.
        mean: (D,) posterior mean of the weights of standardised features.
        covariance: (D, D) their posterior covariance.
        noise: standard deviation of an observation.
        ratio: of the noise's variance to that of the prior.
    """

    center: Array
    scale: Array
    intercept: float
    mean: Array
    covariance: Array
    noise: float
    ratio: float

    def predict(self, features: Array) -> tuple[Array, Array]:
        """Posterior mean and standard deviation of the function; (M, D) -> (M,), (M,)."""
        rows = (features - self.center) / self.scale
        deviation = np.sqrt(np.einsum("md,de,me->m", rows, self.covariance, rows))
        return self.intercept + rows @ self.mean, deviation

    def sample(self, rng: np.random.Generator, features: Array) -> Array:
        """The function at (M, D) features for one draw of the weights from the posterior: (M,)."""
        values, vectors = np.linalg.eigh(self.covariance)
        drawn = self.mean + vectors @ (np.sqrt(np.maximum(values, 0)) * rng.standard_normal(len(values)))
        return self.intercept + ((features - self.center) / self.scale) @ drawn

    def effects(self) -> tuple[Array, Array]:
        """Worth of one unit of each feature, and its posterior standard deviation: (D,), (D,)."""
        return self.mean / self.scale, np.sqrt(np.diag(self.covariance)) / self.scale


def fit(features: Array, observed: Array) -> LinearModel:
    """Fits the model.

    Args:
        features: (N, D), any units; each is standardised.
        observed: (N,).

    Raises:
        ValueError: if there are fewer than two observations.
    """
    count = len(observed)
    if count < 2:
        raise ValueError(f"{count} observations, a linear model needs two or more")
    center, deviation = features.mean(0), features.std(0)
    scale = np.where(deviation > 1e-12, deviation, np.inf)
    rows, target = (features - center) / scale, observed - observed.mean()
    values, vectors = np.linalg.eigh(rows @ rows.T)  # (N,), (N, N)
    values, rotated = np.maximum(values, 0), vectors.T @ target
    best, chosen, noise2 = -np.inf, float(RATIOS[-1]), float(target.var())
    for ratio in RATIOS:
        spread = 1 + values / ratio  # eigenvalues of the covariance of the observations, in units of the noise
        variance = float((rotated**2 / spread).mean())
        if variance <= 0:  # all observations are alike
            break
        evidence = -0.5 * (count * np.log(variance) + np.log(spread).sum())
        if evidence > best:
            best, chosen, noise2 = evidence, float(ratio), variance
    precision = rows.T @ rows + chosen * np.eye(rows.shape[1])
    inverse = np.linalg.inv(precision)
    return LinearModel(
        center, scale, float(observed.mean()), inverse @ rows.T @ target, noise2 * inverse, noise2**0.5, chosen
    )


def left_out_predictions(features: Array, observed: Array) -> Array:
    """Of each observation, the prediction of the model that is fitted to all others: (N, D), (N,) -> (N,)."""
    places = np.arange(len(observed))
    fits = (fit(features[places != place], observed[places != place]) for place in places)
    return np.array([model.predict(row[None])[0][0] for model, row in zip(fits, features, strict=True)])
