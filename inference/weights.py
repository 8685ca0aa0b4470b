"""Networks on disk: released weights (.safetensors), training checkpoints (.pt), the authors' files (.pth).

Nothing that is loaded here can run code: safetensors holds tensors and text only, and pickles are read weights-only.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import load_file
from torch import Tensor

from net import authors
from net import encoder as encoders
from net.auto_msfnet import AutoMSFNet
from net.genotype import Genotype, load
from net.settings import NetworkConfig
from utils.checkpoint import FORMAT, CheckpointError, load_checkpoint, save_tensors

SHIPPED = Path(__file__).resolve().parents[1] / "weights"


@dataclass(frozen=True)
class LoadedNetwork:
    """A network that is ready to predict.

    Attributes:
        network: float32, in eval mode, on the CPU.
        config: what it was built from.
        size: side in pixels of the square that pictures are resized to.
        source: the file that it came from.
        sha256: of that file.
    """

    network: AutoMSFNet
    config: NetworkConfig
    size: int
    source: Path
    sha256: str


def shipped() -> list[str]:
    """Names of the models that come with the project."""
    return sorted(path.stem for path in SHIPPED.glob("*.safetensors"))


def weights_path(source: str | Path) -> Path:
    """The file of a shipped name or of a path.

    Raises:
        CheckpointError: there is none.
    """
    names = shipped()
    path = SHIPPED / f"{source}.safetensors" if str(source) in names else Path(source)
    if not path.is_file():
        raise CheckpointError(
            f"weights '{source}': neither a shipped model ({', '.join(names) or 'none'}) nor a file. "
            f"Give one of these names or the path of a .safetensors, .pt or .pth file."
        )
    return path


def load_network(source: str | Path) -> LoadedNetwork:
    """Loads a network by shipped name, from our .safetensors or .pt, or from a checkpoint of the authors.

    Raises:
        CheckpointError: naming the file, what is wrong with it and what to do.
    """
    path = weights_path(source)
    network, config, size = _from_safetensors(path) if path.suffix == ".safetensors" else _from_pickle(path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return LoadedNetwork(network.eval(), config, size, path, sha256)


def save_weights(
    path: Path, network: AutoMSFNet, config: NetworkConfig, size: int, notes: Mapping[str, Any] | None = None
) -> None:
    """Writes a network as .safetensors, kernels in float16, with all that `load_network` needs to rebuild it.

    Args:
        path: the file; written beside and renamed into place.
        network: the network.
        config: what it was built from; the genotype goes into the file, not its path.
        size: side of its input in pixels.
        notes: data for the reader: recipe, commit, scores.
    """
    tensors = {key: _compact(value) for key, value in network.state_dict().items()}
    metadata = {
        "format": FORMAT, "network": json.dumps(asdict(config)), "genotype": network.genotype.to_json(),
        "size": str(size), "notes": json.dumps(dict(notes or {})),
    }  # fmt: skip
    save_tensors(path, tensors, metadata)


def _from_safetensors(path: Path) -> tuple[AutoMSFNet, NetworkConfig, int]:
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        tensors = load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path}: truncated or no safetensors file ({error}). Copy it again.") from None
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: format is {metadata.get('format')!r}, expected {FORMAT!r}. It holds no Auto-MSFNet network; "
            f"encoder weights go to train.py --encoder_weights."
        )
    config = _config(json.loads(metadata["network"]), path)
    genotype = Genotype.from_json(metadata["genotype"], origin=str(path))
    return _rebuild(config, genotype, tensors, path), config, int(metadata["size"])


def _from_pickle(path: Path) -> tuple[AutoMSFNet, NetworkConfig, int]:
    state = load_checkpoint(path)
    if state.get("format") == FORMAT:
        config = _config(state["network"], path)
        genotype = Genotype.from_json(state["genotype"], origin=str(path))
        return _rebuild(config, genotype, state["weights"], path), config, int(state["size"])
    name = authors.recognise(state)
    if name is None:
        first = next(iter(state), "nothing")
        raise CheckpointError(
            f"{path}: neither a checkpoint of this project nor of the authors (its first key is '{first}'). "
            f"Expected keys such as 'weights' or 'resnet.conv1.weight'."
        )
    config = NetworkConfig(encoder=name, genotype=name)
    network = AutoMSFNet(encoders.build(name), load(name), config.channels)
    network.load_state_dict(authors.convert(state, name, origin=str(path)))
    return network, config, authors.INPUT_SIZE


def _config(record: Mapping[str, Any], path: Path) -> NetworkConfig:
    try:
        return NetworkConfig(**record)
    except TypeError as error:
        raise CheckpointError(f"{path}: its network settings don't fit this version ({error}).") from None


def _rebuild(config: NetworkConfig, genotype: Genotype, tensors: Mapping[str, Tensor], path: Path) -> AutoMSFNet:
    """Builds the network and loads it strictly."""
    network = AutoMSFNet(encoders.build(config.encoder), genotype, config.channels)
    wanted = network.state_dict()
    wrong = [key for key in wanted if key not in tensors or tensors[key].shape != wanted[key].shape]
    extra = [key for key in tensors if key not in wanted]
    if wrong or extra:
        raise CheckpointError(
            f"{path}: not weights of {config}: {len(wrong)} tensors missing or of another shape, {len(extra)} extra, "
            f"'{(wrong or extra)[0]}' the first. Load it with the settings that it was trained with."
        )
    network.load_state_dict({key: tensors[key].to(value.dtype) for key, value in wanted.items()})
    return network


def _compact(value: Tensor) -> Tensor:
    """Kernels as float16; vectors stay as they are, since a running variance may not fit float16's range."""
    return (value.half() if value.is_floating_point() and value.ndim > 1 else value).contiguous()
