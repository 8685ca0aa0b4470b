"""An image and its mask, read together and checked to have the same size."""

from collections.abc import Sequence
from dataclasses import replace

from data.errors import DataError
from data.image_io import Pixels, read_image
from data.layouts import Pair
from data.masks import find_coding, read_mask


class SizeMismatchError(DataError):
    """A mask has another size than its image."""


def with_coding(pairs: Sequence[Pair], mask_values: str = "auto") -> list[Pair]:
    """The pairs of a dataset with the coding of its masks, which some of the masks are read for.

    Args:
        pairs: all of the dataset.
        mask_values: values of the foreground, see `data.masks`; auto finds them.

    Raises:
        MaskCodingError: the values are ambiguous, or all masks would come out empty or full.
    """
    coding = find_coding([pair.mask for pair in pairs], mask_values)
    return [replace(pair, coding=coding) for pair in pairs]


def read_pair(pair: Pair) -> tuple[Pixels, Pixels]:
    """Reads an image and its mask. Without a coding, the foreground values are found from this mask only.

    Shapes:
        returns: (H, W, 3) uint8 RGB, (H, W) uint8, foreground from 128 on.

    Raises:
        ImageReadError: a file cannot be read.
        MaskCodingError: the values of the mask are ambiguous.
        SizeMismatchError: the sizes differ.
    """
    image, mask = read_image(pair.image), read_mask(pair.mask, pair.coding)
    if image.shape[:2] != mask.shape:
        (height, width), (mask_height, mask_width) = image.shape[:2], mask.shape
        raise SizeMismatchError(
            f"{pair.mask}: the mask is {mask_width}x{mask_height} and its image {pair.image.name} "
            f"{width}x{height} (width x height, upright by EXIF). Give both the same size."
        )
    return image, mask
