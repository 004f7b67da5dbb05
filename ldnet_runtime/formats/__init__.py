"""Input and output file formats."""

from ldnet_runtime.formats.reading import KINDS, Item, read_items
from ldnet_runtime.formats.writing import LAYOUT, OUTPUTS, Writer
