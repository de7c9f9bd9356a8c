"""The water model that the package ships: made from what pretraining learned of open masks, measured by place.

    python benchmarks/water_model.py --data FOLDER --fold-weights 'DIR/fold{fold}/run/runs/pretrain_tiny/model'
        [--head branch] [--weights FOLDER --ship prithvi/weights/water]

It is the pretrained model's own classifier of water, snow, cloud, shadow and land, with the head `fused` (branch and
tokens) or `branch` (the branch alone). Each site of hls_water is mapped by the model that was pretrained without its
fold, and compared with the source's labels of water, which no training saw. With --ship the model made from --weights
(pretrained with the pixels of all sites) is written with these figures in its card; --data then must be complete.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from fine_tuning_shares import CLASSES, WATER, as_pretrained, classes_of, index_rule
from labelled_imagery import FOLDS, READERS, Imagery, LabelledChip, of_fold

from prithvi.contract import IGNORE
from prithvi.files import write_text
from prithvi.modelio import save
from prithvi.modelio.card import with_evaluation, with_licence, with_results


def by_site(imagery: Imagery, found: dict[str, Any], good: bool) -> list[dict[str, Any]]:
    """A row for each site with water: its chips, how much water, and IoU of the model, of Fmask and of MNDWI > 0."""
    rules = {"Fmask's IoU": "Fmask", "MNDWI's IoU": "MNDWI > 0"}
    others = {name: index_rule(rule, imagery, (), 0) for name, rule in rules.items()}
    sites: dict[str, list[LabelledChip]] = {}
    for chip in imagery.chips:
        if chip.good or not good:
            sites.setdefault(chip.place, []).append(chip)
    rows = []
    for site, chips in sites.items():
        truth = np.stack([chip.label == 1 for chip in chips])
        known = np.stack([(chip.label != IGNORE) & chip.valid.any(axis=0) for chip in chips])
        row: dict[str, Any] = {"site": site, "chips": str(len(chips)), "water": truth[known].mean()}
        maps = {"IoU": np.stack([found[chip.name] == WATER for chip in chips])}
        maps |= {name: np.stack([of(chip) for chip in chips]) > 0 for name, of in others.items()}
        for name, called in maps.items():
            either = ((called | truth) & known).sum()
            row[name] = (called & truth & known).sum() / either if either else np.nan
            row |= {f"{name}: hit": (called & truth & known).sum(), f"{name}: either": either}
        rows.append(row)
    return rows


def pooled(rows: list[dict[str, Any]], name: str = "IoU") -> float:
    """IoU over the pixels of all sites."""
    return float(sum(row[f"{name}: hit"] for row in rows) / sum(row[f"{name}: either"] for row in rows))


def confused(imagery: Imagery, found: dict[str, Any]) -> list[dict[str, Any]]:
    """Pixels of land and water on good chips by the class that they are called."""
    rows = []
    for number, name in enumerate(imagery.classes):
        called = np.zeros(len(CLASSES), np.int64)
        for chip in imagery.chips:
            if chip.good:
                called += np.bincount(found[chip.name][(chip.label == number) & chip.valid[0]], minlength=len(CLASSES))
        rows.append({"class": name, **dict(zip(CLASSES, called.tolist(), strict=True))})
    return rows


def truth_of(good: list[dict[str, Any]], every: list[dict[str, Any]]) -> str:
    """How the truth was chosen, and the figures over all pixels."""
    return (
        "Labels of water of hls_water, whose source does not say who drew them or how; no training read them. Good "
        "chips are those whose label agrees with Fmask's water bit (IoU above 0.7) or is dry: chosen by Fmask, which "
        "also taught this model, so that they flatter both. Sites are grounds that do not overlap; half of the chips, "
        "with three quarters of the water, lie in one region of 23 x 23 km on several dates. Each site was mapped by a "
        "model that was pretrained as this one was, but without the pixels of that site's fold (a fifth of the sites) "
        "and for fewer steps.\n\n"
        f"IoU of water over the pixels of all good chips: {pooled(good):.3f} (Fmask's bit "
        f"{pooled(good, name_of('Fmask')):.3f}, MNDWI above 0 {pooled(good, name_of('MNDWI')):.3f}); of all chips: "
        f"{pooled(every):.3f} ({pooled(every, name_of('Fmask')):.3f}, {pooled(every, name_of('MNDWI')):.3f}). The "
        "table has the good chips of sites where at least 1 % is water."
    )


def name_of(rule: str) -> str:
    """The column of a rule's IoU."""
    return f"{rule}'s IoU"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--fold-weights", required=True, help="with {fold}")
    parser.add_argument("--head", choices=("fused", "branch"), default="branch")
    parser.add_argument("--weights", help="of the model that ships")
    parser.add_argument("--ship", type=Path)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    imagery, found = READERS["water"](options.data), {}
    for fold in range(FOLDS):
        task = as_pretrained(of_fold(options.fold_weights, fold) or "", options.head)
        chips = [chip for chip in imagery.chips if chip.fold == fold]
        found |= {chip.name: classes for chip, classes in zip(chips, classes_of(task, chips), strict=True)}
    good, every = by_site(imagery, found, good=True), by_site(imagery, found, good=False)
    truth, confusion = truth_of(good, every), confused(imagery, found)
    shown = ("site", "chips", "water", "IoU", name_of("Fmask"), name_of("MNDWI"))
    places = [{name: row[name] for name in shown} for row in good if row["water"] >= 0.01]
    print(with_evaluation("", places, truth, confusion))
    if options.ship is not None:
        if options.weights is None:
            parser.error("--ship writes the model of --weights: say it too")
        made = {
            "summary": "land, water, snow, cloud and shadow of one date, by the per-pixel branch alone",
            "init": "prithvi_hls_tiny", "head": options.head, "labels of hls_water": "never read",
            "classes taught by": "open masks and maps (benchmarks/pseudo_labels.py)",
        }  # fmt: skip
        fitted = as_pretrained(options.weights, options.head).fitted(**made)
        folder = save(fitted, options.ship)
        file = folder / "README.md"
        card = file.read_text().replace(f"# {fitted.name}, fine-tuned:", "# water:", 1)
        card = with_results(with_licence(card, "apache-2.0"), {
            f"IoU of water, {name} chips, by folds of sites": {"mean": pooled(rows), "runs": 1}
            for name, rows in (("good", good), ("all", every))
        })  # fmt: skip
        write_text(file, with_evaluation(card, places, truth, confusion))


if __name__ == "__main__":
    main()
