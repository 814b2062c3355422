"""A plain training loop as users write it, with or without a recorder in it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = ["circle", "square", "triangle"]
ABOUT: dict[str, Any] = {"classes": CLASSES, "mean": [0.5] * 3, "std": [0.25] * 3, "size": 12}
STEPS = 4
"""Of an epoch."""


class Net(nn.Module):
    """Dropout draws random numbers, BatchNorm counts batches: whatever disturbs a training shows."""

    def __init__(self, classes: int = 3, width: int = 4) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, width, 3), nn.BatchNorm2d(width)
        self.drop, self.fc = nn.Dropout(0.3), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.drop(F.relu(self.norm(self.conv(x))).mean((2, 3))))  # type: ignore[no-any-return]


class Gray(nn.Module):
    """Pictures of one channel, and width that its class does not know."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, width, 3), nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.conv(x)).mean((2, 3)))  # type: ignore[no-any-return]


def learn(
    make: Callable[[], nn.Module],
    recorder: Callable[[nn.Module], Any] | None = None,
    epochs: int = 2,
    seed: int = 0,
) -> tuple[nn.Module, list[float]]:
    """Train for some epochs; returns the network and the loss of each step."""
    torch.manual_seed(seed)
    net = make()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    net.train()
    record = recorder(net) if recorder else None
    losses = []
    for epoch in range(epochs):
        for _ in range(STEPS):
            x, y = torch.randn(8, 3, 12, 12), torch.randint(0, 3, (8,))
            optimizer.zero_grad()
            logits = net(x)
            loss = F.cross_entropy(logits, y)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.item())
            if record:
                record.step(loss=loss, accuracy=(logits.argmax(1) == y).float().mean(), lr=0.1)
        if record:
            record.epoch(test_loss=1.0 - 0.1 * epoch, test_accuracy=0.5 + 0.1 * epoch)
    if record:
        record.close()
    return net, losses
