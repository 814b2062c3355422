"""Foreign networks × every method: right, refused in a sentence, or wrong. Networks have random weights.

    pip install --no-deps timm; pip install transformers huggingface_hub safetensors
    python bench/any_network.py [--only WORD] [--seconds 120]  # hours; goes on where it was stopped

One network of each family of timm (its smallest), of transformers' image classifiers, and some odd ones of the tests.
*Right* is checked, not assumed: feature maps and gradients against hooks and autograd of this script's own, filters
against the weights, top examples against a search by hand, deconvnet and guided against a copy of the network whose
ReLUs are replaced, or, where there are other rectifiers, by being another than the gradient; images that are
optimised by being finite, in [0, 1], and the same a second time. After each method the network's weights, modes,
flags and hooks are what they were.
"""

import argparse
import copy
import gc
import itertools
import json
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))
import torchloupe
import torchvision_stub
from common import RESULTS
from torchloupe.errors import LoupeError
from torchloupe.features.owner import random_state_restored, reseed
from torchloupe.features.trace import last_layer, placed
from torchloupe.models.network import HALF, Network, dtype_of, wrap

CLASSES = 7
METHODS = ("filters", "feature_maps", "top_examples", "gradient", "deconvnet", "guided", "invert", "maximize", "dream")
CLOSE, HALVES = 2e-3, 5e-2
"""Relative difference that counts as equal, in float32 and more, and in half precision."""
SIDE = 96
"""Pixels of a picture's side, where a network takes that."""
LARGE = 10_000_000
"""Weights from which on two blocks are asked for."""
Make = Callable[[], tuple[nn.Module, tuple[int, int, int]]]
"""Makes a network; says channels, height and width of what it takes."""


class Slow(BaseException):
    """A network takes longer than it may."""


def timm_networks() -> Iterator[tuple[str, Make]]:
    """The smallest network of each of timm's families, with two blocks and small pictures where it takes that."""
    import timm

    for family in timm.list_modules():
        names = timm.list_models(module=family)
        if not names:
            continue

        def make(names: list[str] = names) -> tuple[nn.Module, tuple[int, int, int]]:
            sizes = {}
            for name in (
                names
                if len(names) < 20
                else [
                    n
                    for n in names
                    if any(w in n for w in ("tiny", "nano", "test", "18", "small", "050", "_s", "b0", "atto"))
                ]
                or names
            ):
                try:
                    with torch.device("meta"):
                        sizes[name] = sum(p.numel() for p in timm.create_model(name).parameters())
                except Exception:
                    continue
            last: Exception | None = None
            for name in sorted(sizes, key=sizes.__getitem__) or names:
                fewer = ({"depth": 2}, {}) if sizes.get(name, 0) > LARGE else ({},)
                for size, few in itertools.product(({"img_size": SIDE}, {}), fewer):
                    try:
                        net = timm.create_model(name, num_classes=CLASSES, **size, **few).eval()
                    except Exception as error:
                        last = error
                        continue
                    channels, height, width = net.default_cfg["input_size"]
                    for shape in ((channels, SIDE, SIDE), (channels, height, width)):
                        try:
                            with torch.no_grad():
                                net(torch.rand(2, *shape))
                        except Exception as error:
                            last = error
                        else:
                            return net, shape
            raise RuntimeError("timm cannot make it") from last

        yield f"timm/{family}", make


TRANSFORMERS = (
    "Beit",
    "Bit",
    "ConvNext",
    "ConvNextV2",
    "Cvt",
    "Data2VecVision",
    "DeiT",
    "Dinov2",
    "Dinov2WithRegisters",
    "EfficientNet",
    "FocalNet",
    "HGNetV2",
    "IJepa",
    "ImageGPT",
    "Levit",
    "MobileNetV1",
    "MobileNetV2",
    "MobileViT",
    "MobileViTV2",
    "PoolFormer",
    "PvtV2",
    "Pvt",
    "RegNet",
    "ResNet",
    "Segformer",
    "SwiftFormer",
    "Swin",
    "Swinv2",
    "TextNet",
    "ViT",
    "ViTMSN",
    "VisionTransformer",
)


def transformers_networks() -> Iterator[tuple[str, Make]]:
    """Image classifiers of transformers, of two layers where that can be asked for."""
    import transformers

    for word in TRANSFORMERS:
        config_class = getattr(transformers, f"{word}Config", None)
        net_class = getattr(transformers, f"{word}ForImageClassification", None)
        if config_class is None or net_class is None:
            continue

        def make(
            config_class: Any = config_class, net_class: Any = net_class
        ) -> tuple[nn.Module, tuple[int, int, int]]:
            config = config_class(num_labels=CLASSES)
            if (
                isinstance(getattr(config, "num_hidden_layers", None), int)
                and hasattr(config, "num_attention_heads")
                and isinstance(config.num_attention_heads, int)
            ):
                config = config_class(num_labels=CLASSES, num_hidden_layers=2)
            side = config.image_size if isinstance(getattr(config, "image_size", None), int) else 224
            return net_class(config), (getattr(config, "num_channels", 3), side, side)

        yield f"transformers/{word}", make


class Odd:
    """Networks of shapes that others turn away."""

    class Segments(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.head = nn.Conv2d(3, 6, 3, 2), nn.Conv2d(6, 8, 3), nn.Conv2d(8, CLASSES, 1)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            maps = torch.relu(self.b(torch.relu(self.a(x))))
            return {"aux": maps, "logits": self.head(maps).mean((2, 3))}

    class Views(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.act, self.fc = nn.Conv2d(3, 6, 3, 2), nn.ReLU(inplace=True), nn.Linear(6 * 15 * 15, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.act(self.a(x)).view(len(x), -1))  # type: ignore[no-any-return]

    class Chance(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.fc = nn.Conv2d(3, 6, 3, 2), nn.Conv2d(6, 6, 3), nn.Linear(6, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            x = nn.functional.dropout(torch.relu(self.a(x)), 0.5, training=True)
            return self.fc(torch.relu(self.b(x)).mean((2, 3)))  # type: ignore[no-any-return]

    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.fc = nn.Conv2d(3, 6, 3, 2), nn.Conv2d(6, 6, 3), nn.Linear(6, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(_relu(self.b(_relu(self.a(x)))).mean((2, 3)))  # type: ignore[no-any-return]

    @staticmethod
    def plain(norm: Callable[[int], nn.Module]) -> nn.Module:
        parts: list[nn.Module] = [nn.Conv2d(3, 8, 3), norm(8), nn.ReLU(), nn.Conv2d(8, 8, 3), norm(8), nn.ReLU()]
        return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, CLASSES))


class _HiddenRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        slope: Tensor = ctx.saved_tensors[0] > 0
        return grads[0] * slope


def _relu(x: Tensor) -> Tensor:
    out: Tensor = _HiddenRelu.apply(x)  # type: ignore[no-untyped-call]
    return out


def odd_networks() -> Iterator[tuple[str, Make]]:
    """Networks of the tests."""
    small = (3, 32, 32)
    made: dict[str, Callable[[], nn.Module]] = {
        "segmentation, a dict": Odd.Segments,
        "view": Odd.Views,
        "dropout that stays on": Odd.Chance,
        "ReLU in an autograd.Function": Odd.Hidden,
        "BatchNorm without statistics": lambda: Odd.plain(lambda n: nn.BatchNorm2d(n, track_running_stats=False)),
        "InstanceNorm": lambda: Odd.plain(nn.InstanceNorm2d),
        "GroupNorm": lambda: Odd.plain(lambda n: nn.GroupNorm(2, n)),
        "bfloat16": lambda: Odd.plain(nn.BatchNorm2d).bfloat16(),
        "half": lambda: Odd.plain(nn.BatchNorm2d).half(),
        "double": lambda: Odd.plain(nn.BatchNorm2d).double(),
        "sigmoid at the end": lambda: nn.Sequential(*Odd.plain(nn.BatchNorm2d).children(), nn.Sigmoid()),
        "weight_norm": lambda: nn.Sequential(
            nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 8, 3)),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, CLASSES),
        ),
        "one channel": lambda: nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, CLASSES)
        ),
        "five channels": lambda: nn.Sequential(
            nn.Conv2d(5, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, CLASSES)
        ),
    }
    for name, make in made.items():
        channels = {"one channel": 1, "five channels": 5}.get(name, 3)
        yield f"odd/{name}", lambda make=make, channels=channels: (make(), (channels, *small[1:]))  # type: ignore[misc]


def state(net: nn.Module) -> tuple[Any, ...]:
    """What no method may change."""
    numbers = [
        (name, t._version, float(t.double().sum()) if t.is_floating_point() else 0.0)
        for name, t in net.state_dict().items()
    ]
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in net.modules())
    flags = tuple(m.training for m in net.modules()), tuple(p.requires_grad for p in net.parameters())
    return tuple(n[0::2] for n in numbers), hooks, flags


def output_of(net: Network, layer: str, x: Tensor) -> Tensor:
    """A layer's first output tensor, by a hook of this script's own."""
    seen: list[Tensor] = []

    def first(value: Any) -> Tensor | None:
        if isinstance(value, Tensor):
            return value
        parts = value.values() if isinstance(value, dict) else value if isinstance(value, tuple | list) else ()
        return next((t for part in parts if (t := first(part)) is not None), None)

    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        found = first(output)
        if found is not None and not seen:
            seen.append(found.clone())

    handle = net.get_submodule(layer).register_forward_hook(hook)
    reseed()  # whatever chance is in it, it is that of a method's pass
    try:
        net.raw(x.clone())
    finally:
        handle.remove()
    return seen[0]


def element(out: Tensor, maps: Tensor, c: int, y: int, x: int) -> Tensor:
    """The value in a layer's own output that stands for channel c at (y, x) of its maps, wherever its axes are."""
    rows, columns = maps.shape[2:]
    places: list[Callable[[], Tensor]] = [lambda: out[0, c, y, x], lambda: out[0, y, x, c]]
    if out.ndim == 3:
        n = y * columns + x
        places = [lambda: out[0, out.shape[1] - rows * columns + n, c], lambda: out[0, c, n]]
    if out.ndim == 2:
        places = [lambda: out[0, c]]
    for place in places:
        try:
            found = place()
        except IndexError:
            continue
        if torch.isclose(found.float(), maps[0, c, y, x].float(), rtol=CLOSE, atol=1e-5):
            return found
    raise AssertionError("feature maps are not the layer's output")


def close(a: Tensor, b: Tensor, near: float = CLOSE) -> bool:
    """Equal, relative to the larger."""
    scale = max(float(a.abs().max()), float(b.abs().max()), 1e-30)
    return float((a.double() - b.double()).abs().max()) <= near * scale


class Rule(torch.autograd.Function):
    """A ReLU that hands back what deconvnet or guided backpropagation do."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, guided: bool) -> Tensor:
        ctx.guided = guided
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        signal = grads[0].clamp(min=0)
        return (signal * (ctx.saved_tensors[0] > 0) if ctx.guided else signal), None


class Replaced(nn.Module):
    def __init__(self, guided: bool) -> None:
        super().__init__()
        self.guided = guided

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = Rule.apply(x, self.guided)  # type: ignore[no-untyped-call]
        return out


OTHER = (
    "Relu",
    "Clamp",
    "Gelu",
    "Silu",
    "Hardswish",
    "Hardtanh",
    "LeakyRelu",
    "Elu",
    "Mish",
    "Threshold",
    "Prelu",
    "Celu",
    "Selu",
    "Softplus",
    "MaximumB",
    "MaxPool",
    "AdaptiveMax",
    "Max",
)
"""Nodes that a walk with replaced nn.ReLU modules does not follow as the rule does."""


def walked(net: Network, layer: str, x: Tensor, maps: Tensor, at: tuple[int, int, int], guided: bool) -> Tensor | None:
    """The same by a copy with replaced ReLUs; None where it has other rectifiers."""
    twin = copy.deepcopy(net)
    for name, module in list(twin.named_modules()):
        if type(module) is nn.ReLU and name:
            parent, _, own = name.rpartition(".")
            setattr(twin.get_submodule(parent) if parent else twin.bare, own, Replaced(guided))
    x = x.clone().requires_grad_()
    value = element(output_of(twin, layer, x), maps, *at)
    names: set[str] = set()
    waiting: list[Any] = [value.grad_fn]
    seen: set[Any] = {None}
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        names.add(node.name())
        waiting += [n for n, _ in node.next_functions]
    if any(name.startswith(OTHER) for name in names):
        return None
    (slope,) = torch.autograd.grad(value, x)
    return slope * value.detach()


def check(net: Network, method: str, layer: str, shape: tuple[int, int, int]) -> str:
    """Run a method on a network; returns "right" or "right, weakly", raises what it raises, asserts what is wrong."""
    x = placed(net, torch.rand(1, *shape, generator=torch.Generator().manual_seed(1)))
    near = HALVES if dtype_of(net.bare) in HALF else CLOSE
    call = getattr(torchloupe, method)
    if method == "filters":
        found = call(net, "first").weight
        weight = next(m for m in net.modules() if isinstance(m, nn.Conv2d)).weight
        first: Any = net.get_submodule(call(net, "first").layer)
        assert found.shape == first.weight.shape and close(found, first.weight.detach()), "not the weights"
        return "right" if first.weight.shape == weight.shape else "right, weakly"
    maps = torchloupe.feature_maps(net, layer, x).maps
    at = (0, maps.shape[2] // 2, maps.shape[3] // 2)
    if method == "feature_maps":
        with torch.no_grad():
            out = output_of(net, layer, x)
        assert maps.isfinite().all(), "not finite"
        for c in range(0, maps.shape[1], max(1, maps.shape[1] // 5)):
            element(out, maps, c, *at[1:])
        return "right"
    if method == "top_examples":
        data = (255 * torch.rand(5, *shape, generator=torch.Generator().manual_seed(2))).to(torch.uint8)
        from torchloupe.data.dataset import Split

        split = Split(data, torch.zeros(5, dtype=torch.int64), tuple(map(str, range(5))))
        found = call(net, layer, split, channels=[0], count=2)
        each = torch.stack(
            [torchloupe.feature_maps(net, layer, image[None].float() / 255).maps[0, 0].max() for image in data]
        )
        assert set(found.index[0].tolist()) == set(each.topk(2).indices.tolist()), "others are stronger"
        return "right"
    if method in ("gradient", "deconvnet", "guided"):
        options: dict[str, Any] = {"channels": [at[0]], "each": True, "position": at[1:], "randomized": False}
        found = call(net, layer, x[:1], **options).signal[0]
        assert found.isfinite().all(), "not finite"
        if method == "gradient":
            one = x[:1].clone().requires_grad_()
            value = element(output_of(net, layer, one), maps, *at)
            (slope,) = torch.autograd.grad(value, one)
            assert close(found, slope[0] * value.detach(), near), "not autograd's gradient"
            return "right"
        expected = walked(net, layer, x[:1], maps, at, method == "guided")
        if expected is not None:
            assert close(found, expected[0], near), "not what replaced ReLUs give"
            return "right"
        plain = torchloupe.gradient(net, layer, x[:1], **options).signal[0]
        assert not torch.equal(plain, found), "the plain gradient under another name"
        return "right, weakly"
    return _optimised(method, call, net, layer, x)


def _optimised(method: str, call: Any, net: Network, layer: str, x: Tensor) -> str:
    def made() -> Tensor:
        if method == "maximize":
            pictures: Tensor = call(net, layer, channels=[0], steps=2).pictures
        else:
            pictures = call(net, layer, x[:1], steps=2, **({} if method == "invert" else {"octaves": 1})).pictures
        return pictures

    one, two = made(), made()
    assert torch.equal(one, two), "another image for the same seed"
    assert one.isfinite().all() and float(one.min()) >= 0 and float(one.max()) <= 1, "no image in [0, 1]"
    return "right"


def main() -> int:
    """Run all; returns 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", help="networks whose name holds this")
    parser.add_argument("--seconds", type=int, default=120, help="that a network may take with a method")
    parser.add_argument("--anew", action="store_true", help="those that were run before as well")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    hugging = list(transformers_networks())  # before the stub: they would take it for torchvision
    torchvision_stub.install()
    signal.signal(signal.SIGALRM, _late)
    rows: dict[str, dict[str, str]] = {}
    reasons: list[str] = []
    kept = RESULTS / "any_network.jsonl"
    known = {} if given.anew or not kept.is_file() else {row["name"]: row for row in map(json.loads, kept.open())}
    for name, make in (*odd_networks(), *timm_networks(), *hugging):
        if given.only and given.only not in name:
            continue
        if (before := known.get(name)) and "slow" not in before["methods"].values() and not given.only:
            rows[name] = before["methods"]
            reasons += before["reasons"]
            continue
        began = time.monotonic()
        try:
            torch.manual_seed(0)
            bare, shape = make()
            net = wrap(bare.eval(), mean=[0.5] * shape[0], std=[0.5] * shape[0], size=shape[1], classes=CLASSES)
        except Exception as error:
            print(
                f"{name}: cannot be made: {(str(error.__cause__ or error).splitlines() or [''])[0][:150]}", flush=True
            )
            continue
        rows[name], first = {}, len(reasons)
        try:
            layer = last_layer(net)[0]
        except Exception:
            layer = "last"
        for method in METHODS:
            rows[name][method], why = tried(net, method, layer, shape, given.seconds)
            if why:
                reasons.append(f"{name}, {method}: {why}")
        known[name] = {"name": name, "methods": rows[name], "reasons": reasons[first:]}
        if not given.only:
            kept.write_text("".join(json.dumps(row) + "\n" for row in known.values()), encoding="utf-8")
        counts = Counter(rows[name].values())
        print(f"{name} ({layer}): {dict(counts)}, {time.monotonic() - began:.0f} s", flush=True)
        del bare, net
        gc.collect()
    report(rows, reasons, given.only)
    return int(any(cell == "wrong" for row in rows.values() for cell in row.values()))


def tried(net: Network, method: str, layer: str, shape: tuple[int, int, int], seconds: int) -> tuple[str, str]:
    """Return what came of a method on a network, and why it is not right."""
    before = state(net)
    signal.alarm(seconds)
    try:
        with random_state_restored():
            found, why = check(net, method, layer, shape), ""
    except LoupeError as error:
        found, why = "refused", str(error)
    except Slow:
        return "slow", f"more than {seconds} s"
    except AssertionError as error:
        found, why = "wrong", str(error) or traceback.format_exc().splitlines()[-2]
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        found, why = "wrong", f"{type(error).__name__}: {error} ({Path(where.filename).name}, line {where.lineno})"
    finally:
        signal.alarm(0)
    return ("wrong", "it changed the network, or the random state") if state(net) != before else (found, why)


def _late(*_: object) -> None:
    raise Slow


def report(rows: dict[str, dict[str, str]], reasons: list[str], only: str) -> None:
    """Print the table by family, and keep it where all was run."""
    counts = {method: Counter(row[method] for row in rows.values()) for method in METHODS}
    kinds = ("right", "right, weakly", "refused", "slow", "wrong")
    lines = [f"{len(rows)} networks\n", f"| method | {' | '.join(kinds)} |", "|---" * (len(kinds) + 1) + "|"]
    lines += [f"| {m.replace('_', ' ')} | {' | '.join(str(counts[m][k]) for k in kinds)} |" for m in METHODS]
    lines += ["", "What is not right, by network:", "", *(f"- {' '.join(reason.split())[:300]}" for reason in reasons)]
    text = "\n".join(lines)
    print(text)
    if not only:
        (RESULTS / "any_network.md").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
