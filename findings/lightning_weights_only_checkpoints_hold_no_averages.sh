#!/usr/bin/env bash
# Which weights a checkpoint holds that ModelCheckpoint(save_weights_only=True) writes beside Lightning's EMAWeightAveraging.
#
# Guess: the averages, as in every other checkpoint of such a run: they are what was validated and what the checkpoint was chosen by.
# Seen: with save_weights_only callbacks are not asked, and it is the averaging's callback that puts the averages into a
# checkpoint. The file holds the trained weights, under the same keys as a whole one and without a word; its name states
# the loss of other weights.
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
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from torch.utils.data import DataLoader

print("lightning", version("lightning"), "torch", torch.__version__)


class Module(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.validated = []

    def training_step(self, batch, index):
        return (self.weight - 1).square().sum()

    def validation_step(self, batch, index):
        self.validated.append(float(self.weight))
        self.log("loss", (self.weight - 1).square().sum())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def saved(weights_only):
    """The weight that was validated last, and that of the checkpoint of this validation."""
    module = Module()
    keep = ModelCheckpoint("weights" if weights_only else "whole", "{loss:.3f}", monitor="loss", save_weights_only=weights_only)
    trainer = lightning.Trainer(max_epochs=3, accelerator="cpu", logger=False, enable_progress_bar=False, num_sanity_val_steps=0,
                                enable_model_summary=False, callbacks=[EMAWeightAveraging(decay=0.9), keep])
    trainer.fit(module, DataLoader(torch.zeros(4, 1), 1), DataLoader(torch.zeros(1, 1), 1))
    print(keep.best_model_path.rpartition("/")[2], "save_weights_only" if weights_only else "")
    return module.validated[-1], float(torch.load(keep.best_model_path, weights_only=True)["state_dict"]["weight"])


validated, whole = saved(False)
again, alone = saved(True)
print(f"validated {validated:.4f}; whole checkpoint {whole:.4f}; weights alone {alone:.4f}")
assert validated == again and abs(whole - validated) < 1e-6, "changed: a whole checkpoint holds the averages no longer"
assert abs(alone - validated) > 1e-3, "changed: the averages are in a checkpoint of weights alone"
PY
