"""Networks on disk: released weights (.safetensors), training checkpoints (.pt), the authors' files (.pth).

Nothing that is loaded here can run code: safetensors holds tensors and text only, and pickles are read weights-only.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from safetensors.torch import save
from torch import Tensor

from net import authors
from net import encoder as encoders
from net.auto_msfnet import AutoMSFNet
from net.genotype import Genotype, load
from net.settings import NetworkConfig
from net.state_dicts import check_values, state_dicts
from utils.checkpoint import FORMAT, CheckpointError, parse_checkpoint, read_bytes
from utils.errors import UserError
from utils.files import write_beside

SIDES = (32, 8192)  # pixels of the network's input
SHIPPED = Path(__file__).resolve().parents[1] / "weights"


@dataclass(frozen=True)
class LoadedNetwork:
    """A network that is ready to predict.

    Attributes:
        network: float32, in eval mode, on the CPU.
        config: what it was built from.
        size: side in pixels of the square that images are resized to.
        source: the file that it came from.
        sha256: of the bytes that were loaded.
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
    content = read_bytes(path)  # once: training may replace the file at any moment
    state, metadata = parse_checkpoint(content, path)
    network, config, size = _from_state(state, metadata, path)
    return LoadedNetwork(network.eval(), config, size, path, hashlib.sha256(content).hexdigest())


def save_weights(
    path: Path, network: AutoMSFNet, config: NetworkConfig, size: int, notes: Mapping[str, Any] | None = None
) -> None:
    """Writes a network as .safetensors, kernels in float16, with all that `load_network` needs to rebuild it.

    Args:
        path: the file; written beside and renamed into place.
        network: the network.
        config: what it was built from; the genotype itself goes into the file, and only the name of its file.
        size: side of its input in pixels.
        notes: data for the reader: recipe, commit, scores. Of absolute paths only the file name is written.
    """
    tensors = {key: _compact(value) for key, value in network.state_dict().items()}
    metadata = {
        "format": FORMAT,
        "network": json.dumps(_without_folders(network_record(config))),
        "genotype": json.dumps(_without_folders(json.loads(network.genotype.to_json())), indent=2) + "\n",
        "size": str(size),
        "notes": json.dumps(_without_folders(dict(notes or {}))),
    }
    save_tensors(path, tensors, metadata)


def network_record(config: NetworkConfig) -> dict[str, Any]:
    """Settings of a network as files hold them: `context` only where there is a block, for earlier versions."""
    record = asdict(config)
    return record if config.context != "none" else {name: value for name, value in record.items() if name != "context"}


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes a .safetensors file, whole or not at all; the same content always gives the same bytes.

    The library writes the metadata in an order that changes from call to call; here they are sorted.
    """
    content = memoryview(save(dict(tensors), dict(metadata)))
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(bytes(content[8:start]))
    header["__metadata__"] = dict(sorted(metadata.items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8 bytes

    def write(part: Path) -> None:
        with part.open("wb") as file:
            file.writelines((len(text).to_bytes(8, "little"), text, content[start:]))

    write_beside(path, write, durable=True)


def _from_state(
    state: Mapping[str, Any], metadata: Mapping[str, str], path: Path
) -> tuple[AutoMSFNet, NetworkConfig, int]:
    """The network of a file's content, its settings and the size of its input."""
    if metadata.get("format") == FORMAT:
        return _ours({**metadata, "network": _json(metadata.get("network"), path), "weights": state}, path)
    for record in _records(state):
        return _ours(record, path)
    for tensors in state_dicts(state):
        if (name := authors.recognise(tensors)) is not None:
            config = NetworkConfig(encoder=name, genotype=name)
            network = AutoMSFNet(encoders.build(name), load(name), config.channels)
            check_values(tensors, tensors, path)
            network.load_state_dict(authors.convert(tensors, name, origin=str(path)))
            return network, config, authors.INPUT_SIZE
    first = next(iter(state), "nothing")
    raise CheckpointError(
        f"{path}: neither a checkpoint of this project nor of the authors: its format is {metadata.get('format')!r}, "
        f"expected {FORMAT!r}, and its first key is '{first}'. Encoder weights go to train.py --encoder-weights."
    )


def _records(state: Mapping[str, Any], depth: int = 4) -> Iterator[Mapping[str, Any]]:
    """Our checkpoint in a dictionary, or inside the wrappers of other programs."""
    if state.get("format") == FORMAT:
        yield state
    elif depth:
        for value in state.values():
            if isinstance(value, Mapping):
                yield from _records(value, depth - 1)


def _ours(record: Mapping[str, Any], path: Path) -> tuple[AutoMSFNet, NetworkConfig, int]:
    config = _config(record.get("network"), path)
    genotype, weights = record.get("genotype"), record.get("weights")
    if not isinstance(genotype, str) or not isinstance(weights, Mapping):
        missing = "genotype" if not isinstance(genotype, str) else "weights"
        raise CheckpointError(f"{path}: holds no '{missing}'. Give a file that train.py or save_weights wrote.")
    network = _rebuild(config, Genotype.from_json(genotype, origin=str(path)), weights, path)
    return network, config, _size(record.get("size"), path)


def _json(text: object, path: Path) -> object:
    try:
        return json.loads(str(text))
    except (ValueError, RecursionError):
        raise CheckpointError(f"{path}: its network settings are no JSON. Copy or download it again.") from None


def _config(record: object, path: Path) -> NetworkConfig:
    try:
        if not isinstance(record, Mapping):
            raise TypeError(f"a {type(record).__name__}")
        config = NetworkConfig(**record)
        if not (isinstance(config.encoder, str) and isinstance(config.genotype, str) and type(config.channels) is int):
            raise TypeError("values of other types")
    except (TypeError, UserError) as error:
        raise CheckpointError(f"{path}: its network settings don't fit this version ({error}).") from None
    return config


def _size(value: object, path: Path) -> int:
    text = str(value)
    if not text.isdecimal() or len(text) > 5 or not SIDES[0] <= int(text) <= SIDES[1]:
        raise CheckpointError(f"{path}: its input size is {text[:20]}, expected {SIDES[0]} to {SIDES[1]} pixels.")
    return int(text)


def _without_folders(value: Any) -> Any:
    """Plain data with the file names of absolute paths: they name the machine that trained, and are of no use."""
    if isinstance(value, Mapping):
        return {key: _without_folders(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_folders(item) for item in value]
    if isinstance(value, str) and (PurePosixPath(value).is_absolute() or PureWindowsPath(value).is_absolute()):
        return PureWindowsPath(value).name
    return value


def _rebuild(config: NetworkConfig, genotype: Genotype, tensors: Mapping[str, Tensor], path: Path) -> AutoMSFNet:
    """Builds the network and loads it strictly."""
    network = AutoMSFNet(encoders.build(config.encoder), genotype, config.channels, config.context)
    wanted = network.state_dict()
    tensors = next(state_dicts(tensors), {})  # without the prefixes of wrappers
    check_values(tensors, wanted, path)
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
