"""Downloads that break off, at any byte, again and again: the final file is right, or not there."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from badserver import BODY, serving
from torture.tally import Tally

SHA = hashlib.sha256(BODY).hexdigest()


def breaks(home: Path, count: int, seed: int = 0) -> Iterator[Tally]:
    """Break a download off at `count` bytes, drawn by seed, with every way of the bad server before a good one."""
    from torchloupe.data.downloads.fetch import download
    from torchloupe.data.downloads.web import Patience
    from torchloupe.errors import LoupeError

    chance = random.Random(seed)
    patience = Patience(connect=5, silence=5, pause=0)
    ways = ["truncates-once", "truncates", "ignores-range", "longer-no-length", "good"]
    tally = Tally("download broken off at any byte, then fetched again")
    with serving() as server:
        for trial in range(count):
            folder = home / f"break-{trial}"
            folder.mkdir()
            begun = BODY[: chance.randrange(len(BODY) + 1)]
            part = folder / "file.part"
            part.write_bytes(begun if trial % 3 else chance.randbytes(len(begun)))
            wrong = []
            for urls in ([server.url(chance.choice(ways))], [server.url("good")]):
                with suppress(LoupeError):
                    download(urls, folder / "file", bytes_expected=len(BODY), sha256=SHA, patience=patience)
                if (folder / "file").exists() and (folder / "file").read_bytes() != BODY:
                    wrong.append("a final file with wrong content")
            wrong += [] if (folder / "file").exists() else ["no file from a good server"]
            wrong += ["left over"] if part.exists() else []
            tally.add(f"after {len(begun)} bytes", wrong)
    yield tally
