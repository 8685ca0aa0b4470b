"""Run by tests/test_search.py, in one process or by torchrun: gradients of one bilevel step, first and second order.

    two_searches.py OUT [settings of search.py]

Writes OUT/result.pt: gradients without `sync_batchnorm` (False) and with it (True). Without it BatchNorm sees the
images of one process only. One process alone therefore computes the loss of each of two shares by itself and takes the
mean. What two processes compute must be equal to that. With it they must give what one process gives for the whole
batch.
"""

import sys
from pathlib import Path

import torch

from data.datasets import Batch
from nas.search_state import Search, set_up
from nas.settings import SearchConfig
from net.architect import only
from settings.parser import parse
from training.processes import join

out = Path(sys.argv[1])
config = parse(SearchConfig, "", sys.argv[2:])
processes = join(torch.device("cpu"))
search = set_up(config, processes)
training, validation = next(iter(search.halves.weights)), next(iter(search.halves.alphas))
whole = Search.loss


def mean_of_shares(self, batch, network=None, outputs=None):
    shares = [Batch(*(part[rank::2] for part in batch if part is not None)) for rank in range(2)]
    return sum(whole(self, share, network, outputs) for share in shares) / 2


def gradients(shared):
    """Gradients and losses of the alphas in both orders, and gradients of the weights."""
    found = {}
    Search.loss = whole if shared or processes.world > 1 else mean_of_shares
    search.network.zero_grad()
    with search.network.sharing(shared):
        for order in ("first", "second"):
            step = {"first": lambda: search.architect.first_order(validation),
                    "second": lambda: search.architect.second_order(training, validation)}[order]  # fmt: skip
            gradients, loss, _ = step()
            processes.average([*gradients, loss])
            found[order] = torch.stack(gradients)
            found[f"{order} loss"] = loss
        with only(search.network, [weight for weight in search.network.weights() if weight.requires_grad]):
            search.loss(training, search.trained).backward()
    found["weights"] = {name: p.grad.clone() for name, p in search.network.named_parameters() if p.grad is not None}
    return found


found = {shared: gradients(shared) for shared in (False, True)}
if processes.first:
    torch.save(found, out / "result.pt")
processes.leave()
