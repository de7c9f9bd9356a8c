"""Models and datasets from and to the hub, against a local server that answers as the hub does."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
import yaml

from prithvi.catalog.stac_catalog import collection
from prithvi.modelio import save
from prithvi.models import PrithviMAE
from prithvi.models.zoo import VARIANTS
from tests.conftest import small_task
from tests.hub_client import Client, forking, small, total
from tests.hub_server import TOKEN, Hub, serve_hub

BURN_SCARS = collection("hls_burn_scars")["prithvi:hub"]
PUBLISHED = {name: variant for name, variant in VARIANTS.items() if variant.hub_id}


def weights(name: str) -> PrithviMAE:
    torch.manual_seed(len(name))
    return PrithviMAE(small(VARIANTS[name]))


def published(name: str) -> bytes:
    """A weights file in the published layout: version 1 with flat names, version 2 with prefixes."""
    state = weights(name).state_dict()
    if "_v1_" in name:
        state = {key.split(".", 1)[1]: value for key, value in state.items()}
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


IMPATIENT = "import time; time.sleep = lambda _: None\n"
"""huggingface_hub asks a host that does not answer five times, ever later."""

LOAD = """
import sys, prithvi
import dataclasses
from prithvi.modelio import loader
from prithvi.models import zoo
from tests.hub_client import small, total
shapes = {name: dataclasses.replace(v, config=small(v)) if v.hub_id else v for name, v in zoo.VARIANTS.items()}
zoo.VARIANTS = loader.VARIANTS = shapes
for name in sys.argv[1:]:
    print(total(prithvi.load(name)))
"""


@pytest.fixture(scope="module")
def process() -> Iterator[subprocess.Popen[str]]:
    with forking() as found:
        yield found


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serve_hub() as found:
        yield found


@pytest.fixture
def client(process: subprocess.Popen[str], hub: Hub, tmp_path: Path) -> Client:
    return Client(process, hub.url, tmp_path / "home")


def sentence(client: Client, *arguments: object, **environment: str) -> str:
    """The one line that a command is refused with."""
    answer = client.run(*arguments, **environment)
    assert answer.code == 2, answer
    assert "Traceback" not in answer.err
    errors = [line for line in answer.err.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, answer.err
    return errors[0]


def test_every_published_model_loads_by_its_name_and_later_without_the_hub(hub: Hub, client: Client) -> None:
    for name, variant in PUBLISHED.items():
        hub.add(str(variant.hub_id), {str(variant.filename): published(name)})
    expected = [total(weights(name)) for name in PUBLISHED]
    by_id = [variant.hub_id for variant in PUBLISHED.values()]
    unreachable = dataclasses.replace(client, endpoint="http://127.0.0.1:9")
    for answer in (
        client.run(*PUBLISHED, code=LOAD),
        client.run(*by_id, code=LOAD, HF_HUB_OFFLINE="1"),
        unreachable.run(*by_id, code=IMPATIENT + LOAD),
    ):
        assert answer.code == 0, answer.err
        assert list(map(float, answer.out.split())) == pytest.approx(expected, rel=1e-12)


def test_pull_says_where_the_verified_file_is_and_list_that_it_is_here(hub: Hub, client: Client) -> None:
    content = published("prithvi_eo_v2_300")
    commit = hub.add("ibm-nasa-geospatial/Prithvi-EO-2.0-300M", {"Prithvi_EO_V2_300M.pt": content})
    path = Path(client.run("models", "pull", "prithvi_eo_v2_300").out.strip())
    assert path.read_bytes() == content
    assert path.parts[-3:] == ("snapshots", commit, "Prithvi_EO_V2_300M.pt")  # where huggingface_hub keeps it
    assert client.home / "hub" in path.parents
    here = [line for line in client.run("models", "list").out.splitlines() if line.endswith("(in the cache)")]
    assert [line.split()[0] for line in here] == ["prithvi_eo_v2_300"]
    hub.add("ibm-nasa-geospatial/Prithvi-EO-2.0-300M", {"Prithvi_EO_V2_300M.pt": b"newer"})
    pinned = client.run("models", "pull", f"prithvi_eo_v2_300@{commit}")
    assert pinned.out.strip() == str(path)


def test_a_broken_download_goes_on_where_it_broke(hub: Hub, client: Client) -> None:
    content = np.random.default_rng(0).bytes(12_000_000)  # huggingface_hub keeps what it has each 10 MiB
    hub.add("ibm-nasa-geospatial/Prithvi-EO-2.0-300M", {"Prithvi_EO_V2_300M.pt": content})
    hub.cut_after = 11_000_000
    if version("huggingface_hub") < "1":  # which gives up where a connection breaks, and goes on when asked again
        assert "(ChunkedEncodingError): try again" in client.run("models", "pull", "prithvi_eo_v2_300").err
    answer = client.run("models", "pull", "prithvi_eo_v2_300")
    assert answer.code == 0, answer.err
    assert Path(answer.out.strip()).read_bytes() == content
    ranges = [where for method, path, where in hub.asked if method == "GET" and path.startswith("store/")]
    assert ranges == [None, f"bytes={10 * 2**20}-"]


KILLED = """
import os, pathlib, signal, threading, time
def watch():
    while not any(file.stat().st_size for file in pathlib.Path(os.environ["HF_HOME"]).rglob("*.incomplete")):
        time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGKILL)
threading.Thread(target=watch, daemon=True).start()
from prithvi.cli import main
main()
"""


@pytest.mark.skipif(version("huggingface_hub") < "2", reason="others take up the half, and have no `hf cache prune`")
def test_a_killed_download_begins_anew_and_its_half_stays_until_it_is_pruned(hub: Hub, client: Client) -> None:
    content = np.random.default_rng(0).bytes(12_000_000)
    hub.add("ibm-nasa-geospatial/Prithvi-EO-2.0-300M", {"Prithvi_EO_V2_300M.pt": content})
    hub.cut_after, hub.hold = 11_000_000, True
    assert client.run("models", "pull", "prithvi_eo_v2_300", code=KILLED).code == -9
    (half,) = client.home.rglob("*.incomplete")
    assert 0 < half.stat().st_size < len(content)
    answer = client.run("models", "pull", "prithvi_eo_v2_300")
    assert Path(answer.out.strip()).read_bytes() == content
    ranges = [where for method, path, where in hub.asked if method == "GET" and path.startswith("store/")]
    assert ranges == [None, None]
    assert half.is_file()
    pruned = client.run("cache", "prune", "--yes", code="from huggingface_hub.cli.hf import main; main()")
    assert pruned.code == 0, pruned.err
    assert not half.exists()
    assert Path(answer.out.strip()).read_bytes() == content


def test_a_file_that_is_not_the_one_the_hub_names_is_refused_and_removed(hub: Hub, client: Client) -> None:
    content = published("prithvi_eo_v2_300")
    hub.add("ibm-nasa-geospatial/Prithvi-EO-2.0-300M", {"Prithvi_EO_V2_300M.pt": content})
    hub.damage = True
    told = sentence(client, "models", "pull", "prithvi_eo_v2_300")
    assert "Prithvi_EO_V2_300M.pt of ibm-nasa-geospatial/Prithvi-EO-2.0-300M has the SHA-256" in told
    assert hashlib.sha256(content).hexdigest() in told
    assert "it was removed from the cache; fetch it again" in told
    assert not [file for file in (client.home / "hub").rglob("*") if file.is_file() and file.stat().st_size > 1000]
    hub.damage = False
    assert client.run("models", "pull", "prithvi_eo_v2_300").code == 0


def test_weights_that_are_not_those_of_the_config_are_refused(hub: Hub, client: Client, model_folder: Path) -> None:
    files = {file.name: file.read_bytes() for file in model_folder.iterdir()}
    other = json.loads(files["config.json"]) | {"weights_sha256": "0" * 64}
    hub.add("me/model", {**files, "config.json": json.dumps(other).encode()})
    told = sentence(client, "models", "pull", "me/model")
    assert "model.safetensors of me/model" in told
    assert f"its record names {'0' * 64}" in told


def test_what_the_hub_lacks_is_one_sentence_with_the_way_out(hub: Hub, client: Client) -> None:
    def pull(name: str, **environment: str) -> str:
        return sentence(client, "models", "pull", name, **environment)

    file, repository = "Prithvi_EO_V2_300M.pt", "ibm-nasa-geospatial/Prithvi-EO-2.0-300M"
    hub.add(repository, {"Prithvi_300M.pt": b"old name"})
    hub.add("me/private", {"config.json": b"{}"}, private=True)
    hub.add("me/gated", {"config.json": b"{}"}, gated=True)
    assert f"the hub has no {file} of {repository} (renamed?); it holds Prithvi_300M.pt" in pull("prithvi_eo_v2_300")
    assert f"`hf download {repository} FILE`" in pull(repository)
    assert "the hub knows no revision 'v9' of ibm-nasa" in pull(f"{repository}@v9")
    assert "the hub has no nobody/nothing, or it is private: check the name, or `hf auth login`" in pull(
        "nobody/nothing"
    )
    assert "the hub has no me/private, or it is private" in pull("me/private")
    assert "config.json of me/gated is gated: accept its terms on the hub" in pull("me/gated")
    assert "the token may not do this (401): `hf auth login`" in pull("me/private", HF_TOKEN="hf_wrong")
    assert "the hub has no model.safetensors of me/private" in pull("me/private", HF_TOKEN=TOKEN)  # its config is read
    assert "there is no model, file, folder or hub id 'prithvi_eo_v2_30': did you mean prithvi_eo_v2_300" in pull(
        "prithvi_eo_v2_30"
    )
    offline = f"{file} of {repository} is not in the local cache and the hub cannot be reached: connect once, or give"
    assert offline in pull("prithvi_eo_v2_300", HF_HUB_OFFLINE="1")
    client.endpoint = "http://127.0.0.1:9"
    unreachable = client.run(
        "models", "pull", "prithvi_eo_v2_300", code=IMPATIENT + "from prithvi.cli import main; main()"
    )
    assert unreachable.code == 2
    assert offline in unreachable.err


def test_a_pushed_model_maps_the_same_on_another_machine(
    hub: Hub,
    client: Client,
    model_folder: Path,
    tmp_path: Path,
    write_tif: Callable[..., Path],
    six_bands: np.ndarray,
) -> None:
    scene = write_tif(six_bands[:, :70, :90])
    (shutil.copytree(model_folder, tmp_path / "model") / "notes.txt").write_text("mine")
    pushed = client.run("models", "push", tmp_path / "model", "me/flood", "--private", HF_TOKEN=TOKEN)
    assert pushed.code == 0, pushed.err
    assert "prithvi map me/flood SCENE" in pushed.out
    assert hub.repositories["me/flood"].private
    sent = hub.files("me/flood")
    assert set(sent) == {".gitattributes", "README.md", "config.json", "item.json", "model.safetensors"}
    assert sent["model.safetensors"] == (model_folder / "model.safetensors").read_bytes()
    other = dataclasses.replace(client, home=tmp_path / "elsewhere")
    for machine, model in ((client, model_folder), (other, "me/flood")):
        answer = machine.run("map", model, scene, "-o", machine.home / "maps", HF_TOKEN=TOKEN)
        assert answer.code == 0, answer.err
    aux = "maps/scene.tif.aux.xml"  # the names of the classes
    assert (other.home / aux).read_bytes() == (client.home / aux).read_bytes()
    with (
        rasterio.open(client.home / "maps" / "scene.tif") as here,
        rasterio.open(other.home / "maps/scene.tif") as there,
    ):
        np.testing.assert_array_equal(here.read(), there.read())
        assert here.colormap(1) == there.colormap(1)
        assert here.profile == there.profile
    again = other.run("map", "me/flood", scene, "-o", tmp_path / "again", HF_HUB_OFFLINE="1")
    assert again.code == 0, again.err


@pytest.mark.slow
def test_a_hub_id_stands_for_a_folder_in_every_verb_and_in_python(
    hub: Hub, client: Client, model_folder: Path, write_tif: Callable[..., Path], six_bands: np.ndarray
) -> None:
    hub.add("me/flood", {file.name: file.read_bytes() for file in model_folder.iterdir()})
    commit = hub.repositories["me/flood"].branches["main"]
    scene = write_tif(six_bands[:, :70, :90])
    shown = json.loads(client.run("models", "show", f"me/flood@{commit}", "--json").out)
    assert shown["classes"] == ["0 land E8E4D0", "1 water 2B6CB0"]
    assert not [path for method, path, _ in hub.asked if "safetensors" in path or path.startswith("store/")]
    assert "Prithvi-EO-2.0-300M" in client.run("models", "show", str(PUBLISHED["prithvi_eo_v2_300"].hub_id)).out
    embedded = client.run("embed", "me/flood", scene, "-o", client.home / "vectors.tif")
    assert embedded.code == 0, embedded.err
    exported = client.run("export", f"me/flood@{commit}", "-o", client.home / "flood.pt2", "--no-check")
    assert exported.code == 0, exported.err
    code = """
import sys, prithvi
scene = prithvi.open_scene(sys.argv[1])
print(prithvi.load("me/flood", revision="main").sha256, int(prithvi.map(scene, "me/flood@main")["class"].sum()))
"""
    answer = client.run(scene, code=code)
    assert answer.code == 0, answer.err
    assert answer.out.split()[0] == json.loads((model_folder / "config.json").read_text())["weights_sha256"]
    assert "two revisions: give one" in sentence(client, "models", "pull", "me/flood@main", "--revision", "v1")


def test_a_file_of_the_hub_is_hashed_once_a_process(hub: Hub, client: Client) -> None:
    shipped = Path(__file__).parents[1] / "prithvi" / "weights" / "prithvi_hls_tiny"
    hub.add("me/tiny", {file.name: file.read_bytes() for file in shipped.iterdir()})
    code = """
import prithvi.files
from prithvi.mapping import with_model
from prithvi.modelio import contract_of, load, load_weights
whole, read = prithvi.files.sha256, []
prithvi.files.sha256 = lambda path: (read.append(path.name), whole(path))[1]
model = load("me/tiny")
contract_of("me/tiny")
load_weights(model, "me/tiny")
with_model("me/tiny")
load("me/tiny")
print(len(read), len(set(read)))
"""
    answer = client.run(code=code)
    assert answer.code == 0, answer.err
    assert answer.out.split() == ["1", "1"]


def test_a_gap_filler_fills_from_the_hub(
    hub: Hub, client: Client, write_tif: Callable[..., Path], six_bands: np.ndarray
) -> None:
    shipped = Path(__file__).parents[1] / "prithvi" / "weights" / "prithvi_hls_tiny"
    hub.add("me/filler", {file.name: file.read_bytes() for file in shipped.iterdir()})
    holes = six_bands[:, :64, :64].copy()
    holes[:, 10:20, 10:20] = -9999
    series = [write_tif(holes, "a.tif", nodata=-9999), write_tif(six_bands[:, :64, :64], "b.tif", nodata=-9999)]
    dates = ["--date", "2022-05-01", "--date", "2022-05-11"]
    for model in ("me/filler", "prithvi_hls_tiny"):
        answer = client.run("fill", model, *series, *dates, "-o", client.home / model)
        assert answer.code == 0, answer.err
    here, there = (sorted((client.home / model).glob("*.tif")) for model in ("me/filler", "prithvi_hls_tiny"))
    assert [file.name for file in here] == [file.name for file in there] != []
    for one, other in zip(here, there, strict=True):
        with rasterio.open(one) as left, rasterio.open(other) as right:
            np.testing.assert_array_equal(left.read(), right.read())


@pytest.mark.skipif(version("huggingface_hub") < "1", reason="asks huggingface.co whatever HF_ENDPOINT says")
def test_the_card_has_what_was_measured_and_the_hub_s_validator_takes_it(
    hub: Hub, client: Client, tmp_path: Path
) -> None:
    made = {"init": "prithvi_eo_v2_300", "data": "Sen1Floods11", "steps": 3, "val/miou": 0.8125}
    folder = save(small_task().fitted(**made), tmp_path / "model")
    assert json.loads((folder / "metrics.json").read_text()) == {"val/miou": {"mean": 0.8125, "runs": 1}}
    runs = []
    for seed, value in enumerate((0.7, 0.8, 0.9)):
        runs += ["--results", tmp_path / f"{seed}.json"]
        runs[-1].write_text(json.dumps({"figures": {"test/miou": value}, "seconds": 3.5}))
    options = ["--dataset", "Sen1Floods11", "--licence", "apache-2.0", "--revision", "tested"]
    pushed = client.run("models", "push", folder, "me/flood", *runs, *options, HF_TOKEN=TOKEN)
    assert pushed.code == 0, pushed.err
    assert "model.safetensors" not in hub.files("me/flood")  # main is as it was made
    sent = hub.files("me/flood", "tested")
    card = sent["README.md"].decode()
    for line in (
        "| 1 | water | 2B6CB0 |", "| data | Sen1Floods11 |", "| val/miou | 0.8125 | 1 |",
        "| test/miou | 0.8 ± 0.100 | 3 |", "Figures of val/ chose the checkpoint, so they flatter it.", "## Limits",
        "## Licence\n\napache-2.0.",
    ):  # fmt: skip
        assert line in card, line
    assert card.count("## Results") == 1
    measured = json.loads(sent["metrics.json"])["test/miou"]
    assert measured == pytest.approx({"mean": 0.8, "std": 0.1, "runs": 3})
    (tmp_path / "README.md").write_text(card)
    code = """
import json, sys
from huggingface_hub import ModelCard, ModelCardData
card = ModelCard.load(sys.argv[1])
card.validate()
assert ModelCardData(**card.data.to_dict()).to_dict() == card.data.to_dict()
result, = (entry for entry in card.data.eval_results if entry.metric_type == "test/miou")
print(json.dumps({**card.data.to_dict(), "model-index": [result.dataset_name, result.metric_value]}))
"""
    answer = client.run(tmp_path / "README.md", code=code)
    assert answer.code == 0, answer.err
    told = json.loads(answer.out)
    assert "val/miou" not in str(yaml.safe_load(card.split("---")[1])["model-index"])  # not of that dataset
    assert told["model-index"] == ["Sen1Floods11", 0.8]
    assert (told["license"], told["library_name"], told["pipeline_tag"], told["base_model"]) == (
        "apache-2.0", "prithvi", "image-segmentation", "ibm-nasa-geospatial/Prithvi-EO-2.0-300M",
    )  # fmt: skip


def test_a_push_that_cannot_be_is_one_sentence(hub: Hub, client: Client, model_folder: Path, tmp_path: Path) -> None:
    def push(*arguments: object, **environment: str) -> str:
        return sentence(client, "models", "push", *arguments, **{"HF_TOKEN": TOKEN, **environment})

    hub.add("you/model", {})
    assert "write to me/new: `hf auth login`, or set HF_TOKEN" in push(model_folder, "me/new", HF_TOKEN="")
    assert "the token may not do this (403): `hf auth login` with one that may write" in push(model_folder, "you/model")
    assert "'new' is no hub id: say owner/name" in push(model_folder, "new")
    assert "'mine' has no results" in push(model_folder, "me/new", "--dataset", "mine")
    assert "HF_HUB_OFFLINE is set" in push(model_folder, "me/new", HF_HUB_OFFLINE="1")
    told = push(model_folder, "me/new", "--licence", "my own")
    assert "the hub does not accept the card of me/new" in told
    assert '"license" must be one of' in told
    assert "model.safetensors" not in hub.files("me/new")
    assert "there is no model, file, folder or hub id" in push(tmp_path / "nothing", "me/new")
    altered = Path(shutil.copytree(model_folder, tmp_path / "altered"))
    plain = json.loads((altered / "config.json").read_text()) | {"weights_sha256": "0" * 64}
    (altered / "config.json").write_text(json.dumps(plain))
    assert "altered/model.safetensors is not the file that its config.json names" in push(altered, "me/new")
    client.endpoint = "http://127.0.0.1:9"
    assert "the hub could not take the files for me/new (Connect" in push(model_folder, "me/new")


def test_a_card_that_was_written_by_hand_is_kept(hub: Hub, client: Client, model_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model_folder, tmp_path / "model"))
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Mine\n\n## Results\n\nBy eye.\n\n## Thanks\n\nAll.\n")
    assert client.run("models", "push", folder, "me/flood", HF_TOKEN=TOKEN).code == 0
    assert hub.files("me/flood")["README.md"] == (folder / "README.md").read_bytes()
    (tmp_path / "metrics.json").write_text('{"test/miou": 0.5}')
    results = ["--results", tmp_path / "metrics.json"]
    assert client.run("models", "push", folder, "me/flood", *results, HF_TOKEN=TOKEN).code == 0
    card = hub.files("me/flood")["README.md"].decode()
    assert card.startswith("---\nlicense: mit\n---\n# Mine\n")
    assert "By eye" not in card
    assert "| test/miou | 0.5 | 1 |" in card
    assert card.endswith("## Thanks\n\nAll.\n")


def archive(names: list[str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size = len(name)
            tar.addfile(entry, io.BytesIO(name.encode()))
    return buffer.getvalue()


def test_a_dataset_is_fetched_verified_and_unpacked_once(hub: Hub, client: Client, tmp_path: Path) -> None:
    code = """
import sys
from prithvi.catalog import stac_catalog
from prithvi.cli import main
sum, sys.argv = sys.argv[1], ["prithvi", "data", "get", *sys.argv[2:]]
plain = stac_catalog.collection
def known(name):  # the true archive's checksum is not that of this test's
    entry = plain(name)
    if sum != "-" and entry.get("prithvi:hub"):
        entry = {**entry, "prithvi:hub": {**entry["prithvi:hub"], "sha256": {"hls_burn_scars.tar.gz": sum}}}
    return entry
stac_catalog.collection = known
main()
"""
    names = ["training/a_merged.tif", "training/a.mask.tif", "validation/b_merged.tif"]
    content, data = archive(names), tmp_path / "data"
    right, repository = hashlib.sha256(content).hexdigest(), f"datasets/{BURN_SCARS['repo_id']}"
    hub.add(repository, {"hls_burn_scars.tar.gz": content})
    hub.repositories[repository].branches[BURN_SCARS["revision"]] = hub.repositories[repository].branches["main"]
    wrong = client.run("-", "hls_burn_scars", "-o", data, code=code)
    assert wrong.code == 2
    assert "hls_burn_scars.tar.gz of ibm-nasa-geospatial/hls_burn_scars" in wrong.err
    assert "has the SHA-256" in wrong.err
    assert not data.exists()
    (data / "training").mkdir(parents=True)
    (data / "training" / "mine.txt").write_text("mine")
    done = client.run(right, "hls_burn_scars", "-o", data, code=code)
    assert done.code == 0, done.err
    assert f"--data.root {data}" in done.out
    assert (data / "training" / "mine.txt").read_text() == "mine"
    assert all((data / name).read_text() == name for name in names)
    hub.asked.clear()
    assert client.run(right, "hls_burn_scars", "-o", data, code=code).code == 0
    assert not hub.asked  # it is there
    elsewhere = client.run("-", "cloud_gaps", "-o", tmp_path / "gaps", code=code)
    assert elsewhere.code == 2
    assert "cloud_gaps is not on the hub: fetch chip_catalog.csv, " in elsewhere.err
    assert "source.coop" in elsewhere.err
