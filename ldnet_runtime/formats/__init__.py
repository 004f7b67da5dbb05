"""Files in, files out."""

from ldnet_runtime.formats.reading import KINDS, Item, read_items
from ldnet_runtime.formats.writing import LAYOUT, OUTPUTS, Writer
