"""What every sheet says: how it was made."""

from typing import Any

from torchloupe.errors import printable


def note(about: dict[str, Any], *parts: str) -> str:
    """Return the lines below a sheet: method, network, layer, seed, settings that are not plain, scale.

    >>> note({"method": "invert", "model": "r", "layer": "conv1", "seed": 0, "settings": {"steps": 9}}, "error: …")
    'invert · r · layer conv1 · seed 0 · steps 9\\nerror: …'
    """
    words = [about["method"], printable(str(about["model"])), f"layer {about['layer']}"]
    if about.get("data"):
        words.append(printable(str(about["data"])))
    if about.get("seed") is not None:
        words.append(f"seed {about['seed']}")
    settings = about.get("settings", {})
    words += [f"{name.replace('_', ' ')} {_short(value)}" for name, value in settings.items() if value is not None]
    return "\n".join([" · ".join(words), *parts])


def control(about: dict[str, Any]) -> str:
    """Return what captions say of the parameter-randomization control.

    >>> control({"control": "256 train pictures of cifar10"})[-62:]
    'BatchNorm statistics measured on 256 train pictures of cifar10'
    """
    text = "; randomized: the same through random weights (parameter-randomization control)"
    measured = about.get("control")
    return f"{text}, BatchNorm statistics measured on {measured}" if measured else text


MOST = 8
"""Numbers of a setting that a caption repeats; of more it says how many they are."""


def _short(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        flat = all(isinstance(each, int | float) for each in value)
        return ",".join(map(_short, value)) if flat and len(value) <= MOST else f"of {len(value)}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def called(about: dict[str, Any], image: int) -> str:
    """Return what an image is called: its class, if that is known, else its file.

    >>> about = {"names": ["a/1.png", "my  cat.png"], "labels": ["cat", None]}
    >>> called(about, 0), called(about, 1), called({}, 2)
    ('cat', 'my  cat.png', 'picture 2')
    """
    for words in (about.get("labels"), about.get("names")):
        if words and 0 <= image < len(words) and words[image]:
            return str(words[image])
    return f"picture {image}"


def unit(about: dict[str, Any], channel: int) -> str:
    """Return what a channel is called; channels of the output by their class.

    >>> unit({"layer": "output", "classes": ("cat", "dog")}, 1), unit({"layer": "conv1"}, 3)
    ('1 dog', '3')
    """
    classes = about.get("classes")
    if about.get("layer") == "output" and classes and 0 <= channel < len(classes):
        return f"{channel} {classes[channel]}"
    return str(channel)


def heading(about: dict[str, Any], what: str) -> str:
    """Return a sheet's title.

    >>> heading({"layer": "conv1", "model": "loupe"}, "Filters")
    'Filters of conv1'
    """
    return f"{what} of {about['layer']}"
