"""Pictures as uint8 tensors: from the official archives, from folders and archives of pictures, or drawn."""

from torchloupe.data.dataset import Dataset, Split
from torchloupe.data.readers import READERS, WORDS, find, load
from torchloupe.data.statistics import counts

__all__ = ["READERS", "WORDS", "Dataset", "Split", "counts", "find", "load"]
