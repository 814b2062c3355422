"""Someone's own network: every form of reference, factory and output."""

import sys
from collections import OrderedDict, namedtuple
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from torchloupe import load
from torchloupe.errors import ModelError
from torchloupe.models import build
from torchloupe.models.reference import split_reference
from torchloupe.models.user import build_user, logits

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, outputs, pack=lambda x: x):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.drop = nn.Dropout()
        self.fc = nn.Linear(4, outputs)
        self.pack = pack

    def forward(self, pixel_values):
        return self.pack(self.fc(self.drop(self.conv(pixel_values)).mean((2, 3))))
"""


def written(folder: Path, code: str, name: str = "mine.py") -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(NET + code)
    return str(path)


@pytest.mark.parametrize(
    "code",
    [
        "def make(classes): return Net(classes)",
        "def make(num_classes=1000): return Net(num_classes)",
        "def make(*, n_classes=2): return Net(n_classes)",
        "def make(pretrained=False, num_labels=1000): return Net(num_labels)",
        "def make(k): return Net(k)",
        "def make(k, /): return Net(k)",
        "def make(k, width=8): return Net(k)",
        "def make(): return Net(7)",
        "def make(width=8): return Net(7)",
        "def make(width=8, **options): return Net(options['num_classes'])",
        "def _inner(width=8): return Net(7)\ndef make(**options): return _inner(**options)",
        "def make(*anything): return Net(7)",
        "make = Net",
        "make = Net(7)",
        "class Zoo:\n    @staticmethod\n    def make(classes): return Net(classes)\nmake = Zoo.make",
        "from functools import partial\nmake = partial(Net, pack=lambda x: (x, 'features'))",
        "class make(Net):\n    def __init__(self, classes=10): super().__init__(classes)",
    ],
)
def test_every_signature(tmp_path: Path, code: str) -> None:
    net = build_user(f"{written(tmp_path, code)}:make", 7, size=8)
    assert net.training
    assert logits(net(torch.rand(2, 3, 8, 8))).shape == (2, 7)
    assert sys.path[0] != str(tmp_path)


def test_an_instance_is_not_shared(tmp_path: Path) -> None:
    reference = f"{written(tmp_path, 'net = Net(2)')}:net"
    assert build_user(reference, 2) is not build_user(reference, 2)


def test_a_name_inside_a_class_is_a_model_wherever_one_is_named(tmp_path: Path) -> None:
    code = "class Nets:\n    class Deep:\n        @staticmethod\n        def small(classes): return Net(classes)\n"
    reference = f"{written(tmp_path, code)}:Nets.Deep.small"
    assert type(build(reference, classes=3)).__name__ == "Net"
    network = load(reference, classes=["cat", "dog", "emu"])
    assert network.classes == ("cat", "dog", "emu") and network(torch.rand(2, 3, 32, 32)).shape == (2, 3)
    assert network.origin.word == reference
    with pytest.raises(ModelError, match="did you mean 'small'"):
        load(reference.replace("small", "smal"), classes=3)


def test_arguments_go_to_the_factory(tmp_path: Path) -> None:
    code = "def make(depth, classes=10):\n    net = Net(classes)\n    net.depth = depth\n    return net"
    assert build(f"{written(tmp_path, code)}:make", classes=3, depth=5).depth == 5


def test_arguments_that_are_no_json_go_there_too(tmp_path: Path) -> None:
    code = "def make(act, classes=10):\n    net = Net(classes)\n    net.act = act()\n    return net"
    assert isinstance(build(f"{written(tmp_path, code)}:make", classes=3, act=nn.GELU).act, nn.GELU)


def test_dotted_names_and_paths(tmp_path: Path) -> None:
    code = "class Zoo:\n    @staticmethod\n    def make(classes): return Net(classes)"
    build_user(f"{written(tmp_path, code, 'v1.2 beta/my.net.py')}:Zoo.make", 3)


def test_a_package_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, "def make(classes): return Net(classes)", "a_package_of_mine/nets.py")
    monkeypatch.chdir(tmp_path)
    build_user("a_package_of_mine.nets:make", 3)


def test_siblings_are_those_of_its_own_folder(tmp_path: Path) -> None:
    for width in (1, 2):
        folder = tmp_path / str(width)
        written(folder, f"WIDTH = {width}", "a_sibling.py")
        code = "import a_sibling\ndef make(classes):\n    import a_late_one\n    return Net(a_sibling.WIDTH)"
        written(folder, "", "a_late_one.py")
        build_user(f"{written(folder, code)}:make", width)


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("package.module:factory", ("package.module", "factory")),
        (r"C:\nets\mine.py:Net", (r"C:\nets\mine.py", "Net")),
        ("../a.b/mine.py:Zoo.make", ("../a.b/mine.py", "Zoo.make")),
    ],
)
def test_references_are_split_at_the_last_colon(reference: str, parts: tuple[str, str]) -> None:
    assert split_reference(reference) == parts


@pytest.mark.parametrize("reference", ["mine.py", r"C:\nets\mine.py", "C:mine.py", ":make", "mine.py:", "mine.py:2x"])
def test_half_a_reference(reference: str) -> None:
    with pytest.raises(ModelError, match="does not say which network"):
        build_user(reference, 3)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def mak(): ...", r"has no 'make'; did you mean 'mak'\? Check"),
        ("import no_such_thing", r"ModuleNotFoundError: No module named 'no_such_thing' \(line 15\)"),
        ("def make(:", "fails when it is imported: SyntaxError"),
        ("import sys; sys.exit(3)", "fails when it is imported: SystemExit: 3"),
        ("make = 3", "is an int, not a class or function"),
        ("def make(): return 3", "gave an int, not a torch.nn.Module"),
        ("def make(): return Net", "gave a type, not a torch.nn.Module"),
        ("def make(classes): raise ValueError('bad\\n thing')", r"called with \(classes=7\): ValueError: bad thing"),
        ("def make(depth, width): return Net(7)", "also needs depth, width"),
        ("def make(depth, classes): return Net(7)", "also needs depth"),
        ("def make(*, depth): return Net(7)", "also needs depth"),
        ("def make(): return Net(1000)", "gives 1000 outputs for 7 classes. Let its factory take"),
        ("def make(**options): return Net(10)", "gives 10 outputs for 7 classes"),
        ("def make(): return nn.Linear(5, 7)", "the network fails on pictures of 224 x 224: .*RuntimeError"),
        ("def make(): return nn.Conv2d(3, 5, 1)", r"gives a tensor of shape \[2, 5, 32, 32\] and type float32"),
        ("def make(): return Net(7, lambda x: {'features': x})", "gives a dict with 'features', not logits"),
        ("def make(): return Net(7, lambda x: None)", "gives a NoneType, not logits"),
        ("def make(): return Net(7, lambda x: x.argmax(1))", r"shape \[2\] and type int64, not logits"),
    ],
)
def test_what_cannot_work_is_told_in_one_sentence(tmp_path: Path, code: str, said: str) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        build_user(f"{written(tmp_path, code)}:make", 7)
    assert "\n" not in str(caught.value)


def test_files_and_modules_that_are_not_there(tmp_path: Path) -> None:
    written(tmp_path, "")
    with pytest.raises(ModelError, match=r"no such file: '.*mime.py'; did you mean 'mine.py'\?"):
        build_user(f"{tmp_path / 'mime.py'}:make", 3)
    with pytest.raises(ModelError, match=r"no module 'no_such_package.nets'"):
        build_user("no_such_package.nets:make", 3)
    with pytest.raises(ModelError, match=r"no module 'torch.no_such_part'"):
        build_user("torch.no_such_part:make", 3)


def test_the_trial_leaves_no_trace(tmp_path: Path) -> None:
    code = """
def make(classes):
    net = nn.Sequential(nn.BatchNorm2d(3), Net(classes))
    net[0].eval()
    return net
"""
    torch.manual_seed(0)
    net = build_user(f"{written(tmp_path, code)}:make", 3)
    state = torch.get_rng_state()
    assert [m.training for m in (net, net.get_submodule("0"), net.get_submodule("1"))] == [True, False, True]
    assert torch.equal(net.get_buffer("0.running_mean"), torch.zeros(3))
    torch.manual_seed(0)
    nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 3))  # the draws of Net's initialisation
    assert torch.equal(state, torch.get_rng_state())


class ModelOutput(OrderedDict[str, Tensor]):
    """As in HF: a dict whose keys are attributes too."""

    @property
    def logits(self) -> Tensor:
        return self["logits"]


Named = namedtuple("Named", ["logits", "aux_logits"])
RIGHT = torch.rand(2, 5)


@pytest.mark.parametrize(
    "output",
    [
        RIGHT,
        (RIGHT,),
        [RIGHT, torch.rand(2, 9)],
        (RIGHT, (torch.rand(2, 3, 4, 4),)),
        {"features": torch.rand(2, 64), "logits": RIGHT},
        ModelOutput(loss=torch.zeros(()), logits=RIGHT),
        SimpleNamespace(logits=RIGHT),
        Named(RIGHT, torch.rand(2, 9)),
    ],
)
def test_outputs_that_are_understood(output: object) -> None:
    assert logits(output) is RIGHT


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ((), "a tuple of 0"),
        ((torch.zeros(()), RIGHT), r"a tuple of 2 beginning with a tensor of shape \[\] and type float32"),
        ({}, "a dict with nothing in it"),
        ({"logits": "none"}, "a dict with 'logits'"),
        (SimpleNamespace(logits=torch.rand(2, 5, 1, 1)), "a SimpleNamespace"),
        ("text", "a str"),
        (torch.zeros(2, 5, dtype=torch.int64), r"a tensor of shape \[2, 5\] and type int64"),
    ],
)
def test_outputs_that_are_refused(output: object, said: str) -> None:
    with pytest.raises(ModelError, match=f"the network gives {said}, not logits"):
        logits(output)
