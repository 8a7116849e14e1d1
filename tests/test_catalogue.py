"""The catalogue: bundled generators and the user's own, whole or not at all, under their checksums."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import tomli_w
import torch
from click.testing import CliRunner, Result
from filelock import FileLock
from helpers import Trap, assert_one_sentence, tiny_generator, tiny_onnx
from PIL import Image
from safetensors.torch import load_file, save_file
from test_weight_fuzz import nvlabs_file

from cs_lip import __version__
from cs_lip.cli.main import main
from cs_lip.priors import (
    DCGAN,
    DEFAULT_GENERATOR,
    Blueprint,
    Generator,
    Options,
    add_generator,
    bundled_generators,
    check_new_name,
    load_generator,
    recognise,
    remove_generator,
    user_folder,
    user_generators,
)
from cs_lip.priors import adding as adding_module
from cs_lip.priors.reading.weights import sha256_of, write_blueprint
from cs_lip.priors.starts import own_start_path
from cs_lip.seeding import stream


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder, which is not there yet."""
    monkeypatch.setenv("CS_LIP_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "generators"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A foreign weight file."""
    torch.save({"netG": tiny_generator(seed=1).state_dict(), "netD": {"x": torch.ones(1)}}, tmp_path / "netG.pth")
    return tmp_path / "netG.pth"


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def assert_refused(home: Path, *arguments: object, says: str) -> None:
    """Exit code 2, one sentence, and not a byte changed in the user's folder."""
    before = stored(home)
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: ")
    assert says in last
    assert stored(home) == before


def stored(home: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in home.glob("*") if path.name != ".lock"}


def images(generator: Generator) -> torch.Tensor:
    with torch.no_grad():
        return generator(generator.sample_latents(2, generator=stream(1, "test")))


# --- bundled ----------------------------------------------------------------------------------------------------------


def test_catalogue_says_where_weights_come_from_and_under_which_terms() -> None:
    entries = bundled_generators()
    assert DEFAULT_GENERATOR in entries
    for name, entry in entries.items():
        assert entry.name == name
        assert sha256_of(entry.path) == entry.sha256
        assert entry.path.stat().st_size == entry.bytes
        for text in (entry.licence, entry.source, entry.training_data, entry.training_data_terms, entry.description):
            assert text.strip()


@pytest.mark.parametrize("name", bundled_generators())
def test_bundled_generator_draws_what_the_catalogue_says(name: str) -> None:
    entry, generator = bundled_generators()[name], load_generator(name)
    found = (generator.latent_shape, generator.image_shape, generator.geometry)
    assert found == (entry.latent_shape, entry.image_shape, entry.geometry)
    with torch.no_grad():
        latents = generator.sample_latents(8, generator=stream(1, "test"))
        drawn = generator(latents)
        torch.testing.assert_close(generator.fold()(latents), drawn, rtol=0, atol=1e-5)
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    assert drawn.std(0).mean() > 0.1, "eight images look alike"


@pytest.fixture
def small_catalogue(tmp_path: Path) -> Path:
    """A folder like the bundled one, with two tiny generators; quick to damage."""
    rows = {}
    for seed, name in enumerate(("one", "two")):
        path = tmp_path / f"{name}.safetensors"
        save_file(tiny_generator(seed=seed).state_dict(), path)
        rows[name] = {"file": path.name, "sha256": sha256_of(path), "bytes": path.stat().st_size}
        rows[name] |= {"latent_shape": [8], "image_shape": [3, 16, 16]}
        rows[name] |= dict.fromkeys(("architecture", "description", "licence", "source"), "text")
    (tmp_path / "catalogue.toml").write_bytes(tomli_w.dumps(rows).encode())
    return tmp_path


def test_bundled_file_is_loaded_by_name(small_catalogue: Path) -> None:
    generator = load_generator("two", folder=small_catalogue)
    assert torch.equal(images(generator), images(tiny_generator(seed=1)))


def test_damaged_bundled_file_is_refused_by_name(small_catalogue: Path) -> None:
    path = small_catalogue / "one.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1  # one bit of one weight, which no check of keys, shapes or values would see
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"'one' .*SHA-256.*damaged or was swapped") as caught:
        load_generator("one", folder=small_catalogue)
    assert_one_sentence(caught.value)
    load_generator("two", folder=small_catalogue)


def test_swapped_bundled_file_is_refused_by_name(small_catalogue: Path) -> None:
    (small_catalogue / "two.safetensors").replace(small_catalogue / "one.safetensors")
    with pytest.raises(ValueError, match=r"'one' .*damaged or was swapped") as caught:
        load_generator("one", folder=small_catalogue)
    assert_one_sentence(caught.value)
    with pytest.raises(ValueError, match=r"'two' are missing") as caught:
        load_generator("two", folder=small_catalogue)
    assert_one_sentence(caught.value)


# --- the user's own ---------------------------------------------------------------------------------------------------


def test_a_foreign_file_becomes_a_generator_with_a_name(file: Path, home: Path) -> None:
    content = file.read_bytes()
    result = run("generators", "add", file, "--name", "my-faces", "--licence", "MIT", "--source", "a friend")
    assert result.exit_code == 0, result.output
    assert "3 x 16 x 16" in result.stdout
    assert result.stdout.splitlines()[-1] == "Try it: cs-lip recover --generator my-faces --measurements 96"

    assert torch.equal(images(load_generator("my-faces")), images(tiny_generator(seed=1)))
    entry = user_generators().entries["my-faces"]
    assert (entry.architecture, entry.latent_shape, entry.image_shape) == ("dcgan", (8,), (3, 16, 16))
    assert (entry.licence, entry.source, entry.geometry) == ("MIT", "a friend", "gaussian")
    assert (entry.layout, entry.version) == ("DCGAN of the PyTorch tutorial", __version__)
    assert (entry.sha256, entry.bytes) == (sha256_of(entry.path), entry.path.stat().st_size)
    assert entry.source_sha256 == sha256_of(file)
    assert entry.path.parent == home
    assert sorted(stored(home)) == sorted([entry.path.name, "my-faces.toml"])
    assert file.read_bytes() == content


def test_the_next_command_works(file: Path, tmp_path: Path) -> None:
    result = run("generators", "add", file, "--name", "my-faces")
    command = result.stdout.splitlines()[-1].removeprefix("Try it: cs-lip ").split()
    Image.new("RGB", (16, 16), "orange").save(tmp_path / "orange.png")
    result = run(*command, "--image", tmp_path / "orange.png", "--restarts", "1", "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output


def test_the_list_has_both_kinds_in_words_and_as_json(file: Path) -> None:
    assert run("generators", "add", file, "--name", "my-faces").exit_code == 0
    listing = run("generators").stdout
    assert "my-faces: dcgan that draws 3 x 16 x 16 images from 8 latents" in listing
    assert f"{DEFAULT_GENERATOR} (default)" in listing
    table = json.loads(run("generators", "--json").stdout)
    assert table["damaged"] == []
    names = [row["name"] for row in table["generators"]]
    assert names == [*bundled_generators(), "my-faces"]
    assert table["generators"][-1]["image_shape"] == [3, 16, 16]
    assert table["generators"][-1]["source"] == "netG.pth"


@pytest.mark.parametrize("command", ["add", "remove"])
def test_help_has_an_example(command: str) -> None:
    assert f"cs-lip generators {command}" in run("generators", command, "--help").stdout.split("Example")[1]


def test_options_reach_the_layout(tmp_path: Path) -> None:
    torch.save(tiny_generator((8, 16, 8, 3)).state_dict(), tmp_path / "conditional.pth")
    arguments = ("generators", "add", tmp_path / "conditional.pth", "--name", "third", "--labels", 3, "--label", 2)
    assert run(*arguments).exit_code == 0
    loaded = load_generator("third")
    assert loaded.latent_shape == (5,)
    expected = load_generator(str(tmp_path / "conditional.pth"), options=Options(labels=3, label=2))
    assert torch.equal(images(loaded), images(expected))
    with pytest.raises(ValueError, match="try without options") as caught:
        load_generator("third", options=Options(labels=3, label=2))
    assert_one_sentence(caught.value)


@pytest.mark.parametrize("space", ["z", "w", "w+"])
def test_an_nvlabs_pickle_becomes_safetensors(space: str, tmp_path: Path) -> None:
    path, marker = tmp_path / "ffhq.pkl", tmp_path / "marker"
    path.write_bytes(nvlabs_file(trap=Trap(marker)))
    assert run("generators", "add", path, "--name", "mine", "--space", space).exit_code == 0
    entry = user_generators().entries["mine"]
    assert (entry.architecture, entry.layout) == ("stylegan2", "StyleGAN2 of NVlabs stylegan2-ada-pytorch")
    assert entry.path.suffix == ".safetensors"
    loaded = load_generator("mine")
    assert (loaded.latent_shape, loaded.geometry) == (entry.latent_shape, entry.geometry)
    assert torch.equal(images(loaded), images(load_generator(str(path), options=Options(space=space))))
    assert not marker.exists()


def test_an_onnx_file_is_kept_as_it_is(tmp_path: Path, home: Path) -> None:
    pytest.importorskip("onnx2torch", reason="onnx2torch is not installed; pip install 'cs-lip[onnx]'")
    path = tmp_path / "generator.onnx"
    path.write_bytes(tiny_onnx())
    command = ("generators", "add", path, "--name", "mine")
    assert_refused(home, *command, says="--value-range -1,1` after a tanh")
    assert_refused(home, *command, "--value-range=-1,1", "--label", "1", says="try --value-range alone")
    assert run(*command, "--value-range=-1,1").exit_code == 0
    entry = user_generators().entries["mine"]
    assert entry.path.read_bytes() == path.read_bytes()
    assert (entry.architecture, entry.layout, entry.value_range) == ("onnx", "ONNX", (-1, 1))
    expected = load_generator(str(path), options=Options(value_range=(-1, 1)))
    assert torch.equal(images(load_generator("mine")), images(expected))
    assert run("generators").exit_code == 0


def test_an_onnx_file_with_a_nan_is_refused(tmp_path: Path, home: Path) -> None:
    pytest.importorskip("onnx2torch", reason="onnx2torch is not installed; pip install 'cs-lip[onnx]'")
    path = tmp_path / "generator.onnx"
    weight = tiny_generator((2, 3, 1)).state_dict()["main.3.weight"].numpy().tobytes()
    path.write_bytes(tiny_onnx().replace(weight, b"\xff" * 4 + weight[4:]))
    assert_refused(home, "generators", "add", path, "--name", "mine", "--value-range=-1,1", says="not finite")


def test_a_blueprint_is_kept_too() -> None:
    entry = add_generator(recognise(tiny_generator().state_dict()), "trained", training_data="digits", licence="MIT")
    assert (entry.training_data, entry.layout) == ("digits", "DCGAN of the PyTorch tutorial")
    assert torch.equal(images(load_generator("trained")), images(tiny_generator()))


def test_overwriting_replaces_weights_and_entry(file: Path, home: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_file(tiny_generator(seed=2).state_dict(), other)
    assert run("generators", "add", file, "--name", "mine").exit_code == 0
    assert_refused(home, "generators", "add", other, "--name", "mine", says="--overwrite")
    assert run("generators", "add", other, "--name", "mine", "--overwrite").exit_code == 0
    assert torch.equal(images(load_generator("mine")), images(tiny_generator(seed=2)))
    assert len(stored(home)) == 2
    assert run("generators", "add", other, "--name", "mine", "--overwrite").exit_code == 0
    assert torch.equal(images(load_generator("mine")), images(tiny_generator(seed=2)))


def test_a_generator_can_replace_itself(file: Path) -> None:
    entry = add_generator(file, "mine")
    again = add_generator(entry.path, "mine", overwrite=True)
    assert torch.equal(images(load_generator("mine")), images(tiny_generator(seed=1)))
    assert again.source_sha256 == entry.sha256


def test_the_same_weights_added_again_keep_their_learned_start_and_others_do_not(file: Path, tmp_path: Path) -> None:
    add_generator(file, "mine")
    own_start_path("mine").write_bytes(b"a start")
    add_generator(file, "mine", licence="MIT", overwrite=True)
    assert own_start_path("mine").exists()
    save_file(tiny_generator(seed=2).state_dict(), tmp_path / "other.safetensors")
    add_generator(tmp_path / "other.safetensors", "mine", overwrite=True)
    assert not own_start_path("mine").exists()


def test_a_busy_catalogue_and_a_folder_in_it_are_named(file: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cs_lip.priors.adding.LOCK_SECONDS", 0.1)
    home.mkdir(parents=True, exist_ok=True)
    add_generator(file, "mine")
    with FileLock(user_folder() / ".lock"), pytest.raises(ValueError, match="another process is writing") as caught:
        remove_generator("mine")
    assert_one_sentence(caught.value)
    (user_folder() / "other.toml").mkdir()
    with pytest.raises(ValueError, match="is a folder") as caught:
        remove_generator("other")
    assert_one_sentence(caught.value)


@pytest.mark.parametrize(("settings", "says"), [({"name": object()}, "JSON"), ({"name": "x" * 5000}, "5[0-9]{3} char")])
def test_a_blueprint_that_could_not_be_read_again_is_not_written(
    settings: dict[str, object], says: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        write_blueprint(tmp_path / "a.safetensors", Blueprint("dcgan", settings, {}))
    assert_one_sentence(caught.value)
    assert not list(tmp_path.iterdir())


def test_tied_weights_are_written_twice(tmp_path: Path) -> None:
    weight = torch.randn(3, 3)
    write_blueprint(tmp_path / "a.safetensors", Blueprint("dcgan", {}, {"a": weight, "b": weight}))
    stored = load_file(tmp_path / "a.safetensors")
    assert torch.equal(stored["a"], weight) and torch.equal(stored["b"], weight)


def test_removing_leaves_the_others(file: Path, home: Path) -> None:
    for name in ("mine", "mine-0123456789ab", "mine-too"):
        add_generator(file, name)
    assert run("generators", "remove", "mine").exit_code == 0
    assert list(user_generators().entries) == ["mine-0123456789ab", "mine-too"]
    assert len(stored(home)) == 4
    assert_refused(home, "generators", "remove", "mine", says="there is no generator 'mine'")
    assert_refused(home, "generators", "remove", DEFAULT_GENERATOR, says="of your own")
    assert_refused(home, "generators", "remove", "../mine-too", says="of your own")


BAD_NAMES = ["", "My-Faces", "a_b", "../up", "a/b", "-a", "a" * 65, "a.b", "ä", "a\n", DEFAULT_GENERATOR]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_bad_names_are_refused(name: str, file: Path, home: Path) -> None:
    with pytest.raises(ValueError, match="the name") as caught:
        check_new_name(name)
    assert_one_sentence(caught.value)
    assert_refused(home, "generators", "add", file, f"--name={name}", says="the name")


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--label", "-1", "-1"),
        ("--labels", "0", "0"),
        ("--space", "x", "'x'"),
        ("--space", "w", "takes no space"),
        ("--image-shape", "3,64", "try 3,64,64"),
        ("--image-shape", "a,b,c", "try 3,64,64"),
        ("--image-shape", f"{'9' * 400},1,1", "try "),
        ("--value-range", "0,inf", "try -1,1"),
        ("--description", "x" * 70_000, "short --description"),
        ("--description", "\udcff", "plain letters"),
        ("--source", "\x1b[2J", "plain letters"),
        ("--licence", "MIT\nnot", "in one line"),
    ],
)
def test_bad_options_are_refused(option: str, value: str, says: str, file: Path, home: Path) -> None:
    assert_refused(home, "generators", "add", file, "--name", "mine", option, value, says=says)


def test_small_weights_that_draw_gigabytes_are_refused(home: Path) -> None:
    widths = (2, *[1] * 9, 300)  # 300 channels of 2048x2048 from 20 kB of weights
    blueprint = Blueprint("dcgan", {"widths": list(widths)}, DCGAN(widths).state_dict())
    with pytest.raises(ValueError, match="needs more than") as caught:
        add_generator(blueprint, "bomb")
    assert_one_sentence(caught.value)
    assert not list(home.rglob("*bomb*"))


def test_a_generator_that_does_not_draw_is_refused(file: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tiny_generator()
    monkeypatch.setattr(adding_module, "build", lambda blueprint: broken)
    for layers, says in (
        (lambda: {"all": lambda state: (state[0] @ state[0],)}, "does not draw"),
        (lambda: {"all": lambda state: (torch.full((1, 3, 16, 16), 1.5),)}, r"not in \[0, 1\]"),
        (lambda: {"all": lambda state: (torch.full((1, 3, 16, 16), torch.nan),)}, r"not in \[0, 1\]"),
    ):
        monkeypatch.setattr(broken, "layers", layers)
        with pytest.raises(ValueError, match=says) as caught:
            add_generator(file, "mine")
        assert_one_sentence(caught.value)
    assert not stored(home)


# --- damage, crashes and company --------------------------------------------------------------------------------------


def spoil_text(entry: Path) -> None:
    entry.write_text("name = ", encoding="utf-8")


def spoil_bytes(entry: Path) -> None:
    entry.write_bytes(b"\xff\xfe\x00")


def spoil_field(entry: Path) -> None:
    entry.write_text(entry.read_text(encoding="utf-8").replace("sha256", "sha1"), encoding="utf-8")


def spoil_type(entry: Path) -> None:
    entry.write_text(entry.read_text(encoding="utf-8").replace("bytes = ", "bytes = '3' # "), encoding="utf-8")


def spoil_shape(entry: Path) -> None:
    text = entry.read_text(encoding="utf-8")
    entry.write_text(text.replace("    16,\n", ""), encoding="utf-8")


def spoil_place(entry: Path) -> None:
    text = entry.read_text(encoding="utf-8")
    entry.write_text(text.replace('file = "', 'file = "../'), encoding="utf-8")


def spoil_number(entry: Path) -> None:
    """A length that is too long to be printed."""
    text = entry.read_text(encoding="utf-8")
    entry.write_text(text.replace("    16,\n", f"    0x1{'0' * 9999},\n"), encoding="utf-8")


def spoil_range(entry: Path) -> None:
    entry.write_text(entry.read_text(encoding="utf-8") + "value_range = [1979-05-27, inf]\n", encoding="utf-8")


def spoil_terminal(entry: Path) -> None:
    text = entry.read_text(encoding="utf-8")
    entry.write_text(text.replace('layout = "', 'layout = "\\u001b[2J'), encoding="utf-8")


def make_a_pipe(entry: Path) -> None:
    entry.unlink(missing_ok=True)
    os.mkfifo(entry)


def remove_weights(entry: Path) -> None:
    next(entry.parent.glob(f"{entry.stem}-*.safetensors")).unlink()


def cut_weights(entry: Path) -> None:
    weights = next(entry.parent.glob(f"{entry.stem}-*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1])


def take_a_bundled_name(entry: Path) -> None:
    entry.with_stem(DEFAULT_GENERATOR).write_bytes(entry.read_bytes())
    entry.unlink()


DAMAGES = [spoil_text, spoil_bytes, spoil_field, spoil_type, spoil_shape, spoil_place, spoil_number, spoil_range]
DAMAGES += [spoil_terminal, make_a_pipe, remove_weights, cut_weights]


@pytest.mark.parametrize("damage", [*DAMAGES, take_a_bundled_name])
def test_a_damaged_entry_leaves_the_others(damage: Callable[[Path], None], file: Path, home: Path) -> None:
    add_generator(file, "bad")
    add_generator(file, "good")
    damage(home / "bad.toml")
    listing = user_generators()
    assert list(listing.entries) == ["good"]
    (sentence,) = listing.damaged
    assert_one_sentence(sentence.replace(str(home), "HOME"))
    result = run("generators")
    assert result.exit_code == 0
    assert "good: " in result.stdout
    assert result.stderr == f"Not listed: {sentence}\n"
    assert load_generator("good").image_shape == (3, 16, 16)
    assert load_generator(DEFAULT_GENERATOR).image_shape == (3, 64, 64)
    if damage is not take_a_bundled_name:
        with pytest.raises(ValueError, match="bad"):
            load_generator("bad")
        add_generator(file, "bad", overwrite=True)
        assert list(user_generators().entries) == ["bad", "good"]
        damage(home / "bad.toml")
        remove_generator("bad")
        assert (
            sorted(path.name.partition(".")[0][:4] for path in home.glob("*.*") if path.name != ".lock") == ["good"] * 2
        )


def test_an_entry_that_cannot_be_written_leaves_nothing_behind(file: Path, home: Path) -> None:
    (home / "mine.toml").mkdir(parents=True)
    result = run("generators", "add", file, "--name", "mine", "--overwrite")
    assert result.exit_code == 2
    assert "try " in result.stderr
    assert sorted(path.name for path in home.iterdir()) == [".lock", "mine.toml"]
    assert not list((home / "mine.toml").iterdir())


def test_files_are_named_by_texts_and_by_paths(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert add_generator(str(file), "mine").source == file.name
    monkeypatch.chdir(tmp_path)
    save_file(tiny_generator(seed=2).state_dict(), tmp_path / "mine")
    assert torch.equal(images(load_generator(Path("mine"))), images(tiny_generator(seed=2)))


def test_swapped_weights_are_refused_by_name(file: Path) -> None:
    entry = add_generator(file, "mine")
    content = bytearray(entry.path.read_bytes())
    content[-1] ^= 1
    entry.path.write_bytes(content)
    with pytest.raises(ValueError, match=r"'mine' .*SHA-256.*--overwrite") as caught:
        load_generator("mine")
    assert_one_sentence(str(caught.value).replace(str(entry.path), "FILE"))


@pytest.mark.parametrize("call", range(1, 10))
@pytest.mark.parametrize("replacing", [False, True])
def test_a_crash_leaves_the_old_generator_or_the_new(
    call: int, replacing: bool, file: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every rename, write and removal in turn is the last that happens."""
    if replacing:
        other = tmp_path / "other.safetensors"
        save_file(tiny_generator(seed=2).state_dict(), other)
        add_generator(other, "mine")
    done = 0

    def dying(act: Callable[..., object]) -> Callable[..., object]:
        def wrapper(*arguments: object, **options: object) -> object:
            nonlocal done
            done += 1
            if done >= call:
                raise KeyboardInterrupt
            return act(*arguments, **options)

        return wrapper

    with monkeypatch.context() as patch:
        for name in ("replace", "unlink", "write_bytes", "mkdir"):
            patch.setattr(Path, name, dying(getattr(Path, name)))
        try:
            add_generator(file, "mine", overwrite=True)
        except KeyboardInterrupt:
            crashed = True
        else:
            crashed = False
    listing = user_generators()
    assert not listing.damaged
    if not crashed or listing.entries:
        drawn = images(load_generator("mine"))
        assert any(torch.equal(drawn, images(tiny_generator(seed=seed))) for seed in ((1, 2) if replacing else (1,)))
    else:
        assert not replacing
    add_generator(file, "mine", overwrite=True)
    assert torch.equal(images(load_generator("mine")), images(tiny_generator(seed=1)))
    assert len([path for path in home.iterdir() if not path.name.startswith(".")]) == 2


ADD_MANY = """
import sys, torch
from pathlib import Path
from cs_lip.priors import add_generator
for _ in range(4):
    add_generator(Path(sys.argv[1]), "shared", overwrite=True)
add_generator(Path(sys.argv[1]), sys.argv[2])
"""


def test_processes_that_add_at_once_do_each_other_no_harm(home: Path, tmp_path: Path) -> None:
    processes = []
    for seed in (1, 2):
        path = tmp_path / f"{seed}.safetensors"
        save_file(tiny_generator(seed=seed).state_dict(), path)
        command = [sys.executable, "-c", ADD_MANY, str(path), f"own-{seed}"]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        processes.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment))
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    listing = user_generators()
    assert list(listing.entries) == ["own-1", "own-2", "shared"]
    assert not listing.damaged
    drawn = images(load_generator("shared"))
    assert any(torch.equal(drawn, images(tiny_generator(seed=seed))) for seed in (1, 2))
    assert len(stored(home)) == 6


def test_a_name_wins_over_a_file_and_an_unknown_one_lists_what_there_is(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_generator(file, "mine")
    monkeypatch.chdir(tmp_path)
    save_file(tiny_generator(seed=2).state_dict(), tmp_path / "mine")
    assert torch.equal(images(load_generator("mine")), images(tiny_generator(seed=1)))
    assert torch.equal(images(load_generator("./mine")), images(tiny_generator(seed=2)))
    with pytest.raises(ValueError, match=f"'yours'.*{DEFAULT_GENERATOR}.*mine") as caught:
        load_generator("yours")
    assert_one_sentence(caught.value)


def test_without_the_variable_the_folder_is_the_platforms_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CS_LIP_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    folder = user_folder()
    assert folder.name == "generators"
    assert "cs-lip" in folder.parts
    if sys.platform == "linux":
        assert folder == tmp_path / "data" / "cs-lip" / "generators"
    assert not user_generators().entries


def test_a_folder_that_cannot_be_written_is_named(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "occupied").write_text("a file", encoding="utf-8")
    monkeypatch.setenv("CS_LIP_HOME", str(tmp_path / "occupied"))
    result = run("generators", "add", file, "--name", "mine")
    assert result.exit_code == 2
    assert "occupied" in result.stderr
    assert "try " in result.stderr
