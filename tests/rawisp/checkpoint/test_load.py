"""Loading checkpoints: what is accepted, what is refused, and with which sentence."""

from __future__ import annotations

import json
import pickle
import runpy
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import rawisp
from rawisp.checkpoint import CheckpointMetadata, load_isp, save_native
from rawisp.checkpoint.load import choose_device, describe_checkpoint
from rawisp.checkpoint.torchscript import deprecation_silenced, save_module
from rawisp.errors import (
    CheckpointError,
    InvalidArrayError,
    ProcessingError,
    UsageError,
)
from rawisp.isp.fixed import ClassicIsp
from rawisp.isp.registry import create_isp


class Scaled(torch.nn.Module):
    """A foreign module that does what many do: a gain and a curve."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * 20.0).clamp(0.0, 1.0) ** 0.45


class Nan(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / torch.zeros_like(x)


class Cropping(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :, 2:-2, 2:-2]


class Integer(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * 255).to(torch.uint8)


class Pair(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x


class Picky(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[2] % 32 != 0:
            raise RuntimeError("height must be a multiple of 32")
        return x


@pytest.fixture
def scripted(tmp_path: Path) -> Path:
    """`classic` as a TorchScript file with metadata."""
    path = tmp_path / "classic.ts"
    save_module(ClassicIsp(), str(path), CheckpointMetadata("classic", "classic", "xyz"))
    return path


def script(module: torch.nn.Module, path: Path) -> Path:
    with deprecation_silenced():
        torch.jit.script(module).save(str(path))
    return path


def test_classic_is_shipped_and_says_what_it_is() -> None:
    archive, metadata = describe_checkpoint("classic")
    assert metadata.name == "classic"
    assert metadata.isp == "classic"
    assert metadata.input_color == "xyz"
    assert metadata.fit == (1333, 800)
    assert metadata.provenance["training"] == "none; a fixed pipeline"
    assert len(archive.sha256) == 64


def test_night_was_trained_at_another_size_than_it_is_meant_for() -> None:
    _, metadata = describe_checkpoint("night")
    assert metadata.fit == (1333, 800)
    assert metadata.training_fit == tuple(metadata.provenance["training"]["fit"]) == (400, 300)


@pytest.mark.parametrize("name", ["classic", "rawpy-default"])
def test_the_shipped_files_are_the_isps_of_their_names(name: str) -> None:
    x = torch.rand(1, 3, 45, 67) * 0.02
    with torch.no_grad():
        expected = rawisp.create_isp(name).eval()(x)
        torch.testing.assert_close(load_isp(name, device="cpu", safe=True).run(x), expected)


@pytest.mark.parametrize("name", ["classic", "rawpy-default"])
def test_the_shipped_files_are_what_their_script_writes(
    name: str, repository: Path, tmp_path: Path
) -> None:
    make_shipped = runpy.run_path(str(repository / "benchmarks" / "make_shipped.py"))
    make_shipped["main"](tmp_path)
    shipped, _ = describe_checkpoint(name)
    assert (tmp_path / f"{name}.safetensors").read_bytes() == Path(shipped.path).read_bytes()


def test_a_scripted_file_names_no_path_of_the_machine_that_made_it(scripted: Path) -> None:
    with zipfile.ZipFile(scripted) as members:
        for name in members.namelist():
            assert not name.endswith(".debug_pkl")
            assert b".py:" not in members.read(name), name


def test_a_program_is_announced_and_data_are_not(scripted: Path) -> None:
    notice = describe_checkpoint(scripted)[0].trust_notice()
    assert notice is not None
    assert "is a program (torchscript); loading it can run any code" in notice
    assert describe_checkpoint("classic")[0].trust_notice() is None


def test_large_pictures_are_rendered_in_tiles_with_the_same_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    isp = load_isp("classic", device="cpu")
    xyz = np.random.default_rng(0).uniform(0, 0.02, (120, 170, 3)).astype(np.float32)
    whole = isp(xyz, fit=None)
    monkeypatch.setattr("rawisp.checkpoint.loaded._TILED_ABOVE_PIXELS", 10_000)
    monkeypatch.setattr("rawisp.checkpoint.loaded._TILE", 50)
    assert np.abs(isp(xyz, fit=None).astype(int) - whole).max() <= 1


def test_describing_a_checkpoint_imports_no_torch(repository: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys; from rawisp.checkpoint.load import describe_checkpoint;"
        "describe_checkpoint('classic'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_call_gives_an_image_of_the_checkpoints_size() -> None:
    isp = load_isp("classic", device="cpu")
    xyz = np.random.default_rng(0).uniform(0, 0.02, (900, 1400, 3)).astype(np.float32)
    image = isp(xyz)
    assert image.shape == (800, 1244, 3)
    assert image.dtype == np.uint8
    assert isp(xyz, fit=None).shape == (900, 1400, 3)
    assert isp(xyz, fit=(300, 200)).shape == (193, 300, 3)


def test_rounding_is_half_up_and_never_wraps(tmp_path: Path) -> None:
    class Same(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    isp = load_isp(script(Same(), tmp_path / "same.ts"), input_color="camera", device="cpu")
    values = np.array([-0.2, 0.0, 0.5 / 255, 0.499 / 255, 254.5 / 255, 1.0, 1.1], np.float32)
    image = isp(np.tile(values[None, :, None], (3, 1, 3)), fit=None)
    assert image[0, :, 0].tolist() == [0, 0, 1, 0, 255, 255, 255]


def test_a_foreign_module_needs_its_input_colour_and_then_works(tmp_path: Path) -> None:
    path = script(Scaled(), tmp_path / "scaled.ts")
    with pytest.raises(CheckpointError, match=r"--input-color xyz\|camera\|xyz-uninverted"):
        load_isp(path)
    isp = load_isp(path, input_color="camera", device="cpu")
    assert isp.metadata.input_color == "camera"
    assert isp.metadata.isp == "foreign"
    image = np.full((10, 12, 3), 0.01, np.float32)
    assert isp(image)[0, 0, 0] == round(0.2**0.45 * 255)


def test_a_contradicting_input_colour_is_refused() -> None:
    with pytest.raises(CheckpointError, match="trained on xyz input, not camera"):
        load_isp("classic", input_color="camera")


def test_an_unknown_name_lists_the_shipped_ones() -> None:
    with pytest.raises(CheckpointError, match=r"neither a file nor .*classic"):
        load_isp("clasic")


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (Nan(), "returned NaN or infinite values"),
        (Cropping(), r"returned shape \(1, 3, 60, 60\) for an input of \(1, 3, 64, 64\)"),
        (Integer(), "returned torch.uint8"),
        (Pair(), "returned tuple, not a tensor"),
        (Picky(), "height must be a multiple of 32"),
    ],
)
def test_a_module_that_is_no_isp_is_refused_by_its_trial_run(
    module: torch.nn.Module, said: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=said):
        load_isp(script(module, tmp_path / "bad.ts"), input_color="xyz", device="cpu")


def a_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"weight": 1}, protocol=4))


def a_state_dict(path: Path) -> None:
    torch.save(torch.nn.Conv2d(3, 3, 1).state_dict(), path)


def a_safetensors(path: Path) -> None:
    header = json.dumps({"__metadata__": {}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(32))


def an_aoti_package(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/archive_format", "pt2")
        archive.writestr("m/data/aotinductor/model/x.so", b"")


def an_exported_program(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/archive_format", "pt2")
        archive.writestr("m/models/model.json", "{}")


def another_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "a")


def cut_short(path: Path) -> None:
    save_module(ClassicIsp(), str(path), CheckpointMetadata("classic", "classic", "xyz"))
    path.write_bytes(path.read_bytes()[:7000])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (a_pickle, "bare pickle"),
        (a_state_dict, "bare pickle of weights"),
        (a_safetensors, "without rawisp's metadata"),
        (an_aoti_package, "AOTInductor"),
        (an_exported_program, r"torch\.export cannot load it"),
        (another_zip, "no TorchScript"),
        (cut_short, "damaged or cut short"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_text("hello"), "is no checkpoint"),
        (lambda path: path.mkdir(), "is a folder"),
    ],
)
def test_other_files_are_refused_by_what_they_are(
    make: Callable[[Path], None], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "some.ts"
    make(path)
    with pytest.raises(CheckpointError, match=said) as caught:
        load_isp(path, input_color="xyz")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_is_executed_before_a_file_is_classified(tmp_path: Path) -> None:
    marker = tmp_path / "executed"

    class Evil:
        def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
            return (open, (str(marker), "w"))  # type: ignore[return-value]

    path = tmp_path / "evil.pt"
    torch.save({"weights": Evil()}, path)
    with pytest.raises(CheckpointError, match="bare pickle"):
        load_isp(path, input_color="xyz")
    assert not marker.exists()


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_a_mutated_checkpoint_ends_in_one_sentence_or_works(
    seed: int, native: bool, scripted: Path, tmp_path: Path
) -> None:
    source = Path(describe_checkpoint("classic")[0].path) if native else scripted
    whole = source.read_bytes()
    rng = np.random.default_rng(seed)
    for number in range(12):
        data = bytearray(whole)
        for _ in range(int(rng.integers(1, 20))):
            data[int(rng.integers(len(data)))] = int(rng.integers(256))
        path = tmp_path / f"{number}.ts"
        path.write_bytes(data)
        try:
            load_isp(path, device="cpu")
        except CheckpointError as error:
            assert "\n" not in str(error)


def test_metadata_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "new.ts"
    save_module(ClassicIsp(), str(path), CheckpointMetadata("n", "classic", "xyz"))
    text = path.read_bytes().replace(b'"format_version": 1', b'"format_version": 9')
    path.write_bytes(text)
    with pytest.raises(CheckpointError):
        load_isp(path)


def test_metadata_round_trips_through_json() -> None:
    metadata = CheckpointMetadata("a", "staged", "camera", fit=None, config={"x": [1, 2.5]})
    assert CheckpointMetadata.from_json(metadata.to_json(), "a.ts") == metadata


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.float32),
        np.zeros((3, 4, 4), np.float32),
        np.zeros((4, 4, 3), np.uint8),
    ],
)
def test_wrong_arrays_are_refused(image: np.ndarray) -> None:
    with pytest.raises(InvalidArrayError, match=r"takes float \(H, W, 3\)"):
        load_isp("classic", device="cpu")(image)


def test_nan_in_an_image_is_refused() -> None:
    image = np.zeros((8, 8, 3), np.float32)
    image[3, 3, 1] = np.nan
    with pytest.raises(ProcessingError, match="NaN"):
        load_isp("classic", device="cpu")(image)


def test_cuda_is_never_replaced_by_the_cpu_in_silence() -> None:
    if torch.cuda.is_available():
        assert choose_device("cuda").type == "cuda"
    else:
        with pytest.raises(UsageError, match="no usable CUDA"):
            choose_device("cuda")
    with pytest.raises(UsageError, match="none of auto, cpu, cuda"):
        choose_device("gpu")


@pytest.mark.cuda
def test_cuda_and_cpu_render_alike() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    xyz = np.random.default_rng(0).uniform(0, 0.02, (200, 300, 3)).astype(np.float32)
    on_cpu = load_isp("classic", device="cpu")(xyz).astype(int)
    on_cuda = load_isp("classic", device="cuda")(xyz).astype(int)
    assert np.abs(on_cpu - on_cuda).max() <= 1


def test_the_deprecation_of_torch_jit_is_silenced_and_nothing_else(scripted: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rawisp.load_isp(scripted, device="cpu")
        with pytest.raises(UserWarning), deprecation_silenced():
            warnings.warn("something else", UserWarning, stacklevel=1)


def test_a_runs_folder_stands_for_its_checkpoint(tmp_path: Path) -> None:
    save_native(
        create_isp("staged"),
        str(tmp_path / "isp.safetensors"),
        CheckpointMetadata(name="run", isp="staged", input_color="xyz"),
    )
    assert load_isp(tmp_path, device="cpu").metadata.name == "run"
