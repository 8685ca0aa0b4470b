"""A picture and its mask read together: what they must have in common."""

from data.errors import DataError
from data.image_io import Pixels, read_image, read_mask
from data.layouts import Pair


class SizeMismatchError(DataError):
    """A mask has another size than its picture."""


class MaskRangeError(DataError):
    """A mask's values are 0 and 1, which would be read as no object at all."""


def read_pair(pair: Pair) -> tuple[Pixels, Pixels]:
    """Reads a picture and its mask and checks that they belong together.

    Shapes:
        returns: (H, W, 3) uint8 RGB, (H, W) uint8.

    Raises:
        ImageReadError: a file cannot be read.
        SizeMismatchError: the sizes differ.
        MaskRangeError: the mask's values are 0 and 1.
    """
    image, mask = read_image(pair.image), read_mask(pair.mask)
    if image.shape[:2] != mask.shape:
        (height, width), (mask_height, mask_width) = image.shape[:2], mask.shape
        raise SizeMismatchError(
            f"{pair.mask}: the mask is {mask_width}x{mask_height} and its picture {pair.image.name} "
            f"{width}x{height} (width x height, upright by EXIF). Give both the same size."
        )
    if mask.max() == 1:
        raise MaskRangeError(f"{pair.mask}: the values are 0 and 1; 0 and 255 are needed. Multiply them by 255.")
    return image, mask
