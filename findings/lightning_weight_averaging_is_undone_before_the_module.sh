#!/usr/bin/env bash
# Whose weights a module has in on_validation_epoch_end, where Lightning's EMAWeightAveraging validates the averaged ones.
#
# Guess: the averaged ones, which were validated: a module that computes something of that validation (a threshold, a
# temperature) and keeps it in a buffer finds it beside those weights in the checkpoint.
# Seen: callbacks come before the module, and the averaging has put the trained weights and buffers back by then. What the module
# writes into a buffer belongs to the trained copy; the checkpoint holds the averaged one, in which that buffer is an
# average of the values of earlier validations.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "lightning==2.6.1" "torch==2.13.0" "numpy==2.3.5" "setuptools<81"
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PY'
from importlib.metadata import version

import lightning
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch.utils.data import DataLoader

print("lightning", version("lightning"), "torch", torch.__version__)


class Module(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.register_buffer("kept", torch.zeros(1))
        self.validated, self.ended = [], []

    def training_step(self, batch, index):
        return (self.weight - 1).square().sum()

    def validation_step(self, batch, index):
        self.validated.append(float(self.weight))

    def on_validation_epoch_end(self):
        self.ended.append(float(self.weight))
        self.kept.fill_(self.validated[-1])  # what is true of the weights that were validated

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


data = DataLoader(torch.zeros(4, 1), 1)
module = Module()
trainer = lightning.Trainer(max_epochs=3, accelerator="cpu", logger=False, enable_progress_bar=False, num_sanity_val_steps=0,
                            enable_model_summary=False, callbacks=[EMAWeightAveraging(decay=0.9)])
trainer.fit(module, data, DataLoader(torch.zeros(1, 1), 1))
trainer.save_checkpoint("last.ckpt")
saved = torch.load("last.ckpt", weights_only=True)["state_dict"]
print("validated with", [round(one, 4) for one in module.validated])
print("weight in on_validation_epoch_end", [round(one, 4) for one in module.ended])
print("in the checkpoint", {name: round(float(value), 4) for name, value in saved.items()})
assert all(abs(one - other) > 1e-3 for one, other in zip(module.validated, module.ended)), "changed: the same weights"
assert abs(float(saved["kept"]) - float(saved["weight"])) > 1e-3, "changed: the checkpoint keeps what the module wrote"
PY
