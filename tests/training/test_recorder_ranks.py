"""Of several processes that learn together one records, and all learn what they would without it."""

import os
import re
import subprocess
import sys
from pathlib import Path

from own_loop import Net
from torchloupe.checkpoints.file import read_tensors
from torchloupe.runs.metrics import read_metrics

RANKS = """
import hashlib, sys
import torch, torch.distributed as dist
import torch.distributed.nn.functional  # before there is a group: it would keep it, and its threads, for good
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from own_loop import *
from torchloupe import Recorder
torch.set_num_threads(1)
dist.init_process_group("gloo")
torch.manual_seed(0)
net = DistributedDataParallel(Net(), broadcast_buffers=False)
torch.manual_seed(dist.get_rank() + 1)
recorder = Recorder(net, sys.argv[1], **ABOUT) if len(sys.argv) > 1 else None
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for _ in range(6):
    optimizer.zero_grad()
    loss = cross_entropy(net(torch.randn(4, 3, 12, 12)), torch.randint(0, 3, (4,)))
    loss.backward()
    optimizer.step()
    if recorder:
        recorder.step(loss=loss)
if recorder:
    recorder.epoch()
    recorder.close()
weights = b"".join(p.detach().numpy().tobytes() for p in net.parameters())
print("RANK", dist.get_rank(), hashlib.sha256(weights).hexdigest(), flush=True)
del net, recorder
dist.destroy_process_group()
"""


def test_two_ranks_learn_the_same_and_one_records(tmp_path: Path) -> None:
    (tmp_path / "ranks.py").write_text(RANKS)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    found = []
    for words in ([], [str(tmp_path / "r")]):
        done = subprocess.run(
            [*launch, str(tmp_path / "ranks.py"), *words], capture_output=True, text=True, env=environment, check=False
        )
        assert done.returncode == 0, done.stderr
        found.append(re.findall(r"[0-9a-f]{64}", done.stdout))  # lines of two processes may be mixed
    assert found[0] == found[1] and len(found[0]) == 2 and len(set(found[0])) == 1, "gradients are averaged"
    assert len(read_metrics(tmp_path / "r", "step")) == 6 and len(read_metrics(tmp_path / "r", "epoch")) == 1
    assert read_tensors(tmp_path / "r" / "model.safetensors")[0].keys() == Net().state_dict().keys()
