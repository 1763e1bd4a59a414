"""The Keras formats are recognised by content, and their tensors are where the layout says."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Literal

import h5py
import numpy as np
import pytest

from mstore.domain.tensors import DECODED, Tensor
from mstore.errors import DamagedFileError, InputError
from mstore.formats.hdf5_blocks import cover
from mstore.formats.keras_read import read_keras
from mstore.formats.layout import Layout
from tests.formats.keras_writer import (
    BIAS,
    KERNEL,
    STEP,
    h5_bytes,
    keras3_weights,
    legacy_model,
    legacy_weights,
    members,
    write_archive,
    write_directory,
    write_shards,
)

ROOT = Path(__file__).parents[2]
KERAS3 = {
    "layers/dense/vars/0": KERNEL,
    "layers/dense/vars/1": BIAS,
    "layers/sequential/layers/dense/vars/0": KERNEL + 1,
    "layers/sequential/layers/dense/vars/1": BIAS + 1,
    "optimizer/vars/0": np.array(STEP),
    "optimizer/vars/1": np.array(0.001, np.float32),
    "optimizer/vars/2": KERNEL * np.float32(0.1),
}


@contextmanager
def opened(layout: Layout) -> Iterator[dict[str, BinaryIO]]:
    with ExitStack() as stack:
        files: dict[str, BinaryIO] = {
            suffix: stack.enter_context(layout.path(suffix).open("rb", buffering=0))
            for suffix in layout.files
        }
        yield files


def contents(layout: Layout) -> dict[str, bytes]:
    """Return the bytes of each file that tensors are in, by suffix."""
    with opened(layout) as files:
        found = {suffix: file.read() for suffix, file in files.items()}
        if layout.decode is not None:
            output = BytesIO()
            layout.decode(files, output)
            found[DECODED] = output.getvalue()
    return found


def identity(path: Path) -> bytes:
    layout = read(path)
    assert layout.identity is not None
    with opened(layout) as files:
        return layout.identity(files)


def read(path: Path) -> Layout:
    layout = read_keras(path)
    assert layout is not None
    return layout


def raw(layout: Layout, files: dict[str, bytes], tensor: Tensor) -> bytes:
    return files[layout.table.files[tensor.shard]][tensor.offset : tensor.offset + tensor.size]


def check_table(layout: Layout, expected: dict[str, Any]) -> None:
    """Check dtype, shape and bytes of each tensor, and that there are no others."""
    files = contents(layout)
    found = {t.name: (t.dtype, t.shape, raw(layout, files, t)) for t in layout.table}
    wanted = {
        name: (
            value.dtype.name,
            value.shape,
            value.astype(value.dtype.newbyteorder("<")).tobytes(),
        )
        for name, value in expected.items()
    }
    assert found == wanted
    assert [t.key for t in layout.table] == sorted(t.key for t in layout.table)
    assert not layout.checked
    assert layout.table.num_shards == len(layout.table.files)
    assert set(layout.table.files) <= {*layout.files, DECODED}


def written(path: Path, fill: Any, **options: Any) -> Path:
    path.write_bytes(h5_bytes(fill, **options))
    return path


def test_weights_are_taken_from_where_they_stand(tmp_path: Path) -> None:
    layout = read(written(tmp_path / "epoch_12.weights.h5", keras3_weights))
    check_table(layout, KERAS3)
    assert layout.format == "weights-h5"
    assert layout.prefix == tmp_path / "epoch_12"
    assert layout.files == layout.table.files == (".weights.h5",)
    assert layout.step == (1200, "optimizer/vars/0")
    assert (layout.architecture, layout.decode, layout.identity) == (None, None, None)


def test_variables_are_named_by_the_layers_around_them(tmp_path: Path) -> None:
    layout = read(written(tmp_path / "m.weights.h5", keras3_weights))
    names = {tensor.name: tensor.full_name for tensor in layout.table}
    assert names["layers/dense/vars/1"] == "hidden/1"
    assert names["layers/sequential/layers/dense/vars/0"] == "encoder/deep/0"
    assert names["optimizer/vars/2"] == "adam/2"


def test_names_that_two_variables_would_share_are_left_out(tmp_path: Path) -> None:
    def fill(file: Any) -> None:
        for path in ("blocks/a", "blocks/b"):
            group = file.create_group(f"{path}/vars")
            group.attrs["name"] = "same"
            group["0"] = BIAS

    layout = read(written(tmp_path / "m.weights.h5", fill))
    assert [tensor.full_name for tensor in layout.table] == [None, None]


def test_a_legacy_model_is_read_with_its_names(tmp_path: Path) -> None:
    layout = read(written(tmp_path / "m.h5", legacy_model))
    check_table(
        layout,
        {
            "model_weights/dense/dense/kernel:0": KERNEL,
            "model_weights/dense/dense/bias:0": BIAS,
            "optimizer_weights/iteration:0": np.array(STEP),
            "optimizer_weights/Adam/m/dense/kernel:0": KERNEL * np.float32(0.1),
        },
    )
    assert (layout.format, layout.architecture) == ("legacy-h5", "keras")
    assert layout.step == (1200, "optimizer_weights/iteration:0")
    assert {t.full_name for t in layout.table} == {
        *("dense/kernel", "dense/bias", "iteration", "Adam/m/dense/kernel")
    }


def test_legacy_weights_have_no_architecture(tmp_path: Path) -> None:
    layout = read(written(tmp_path / "m.hdf5", legacy_weights))
    check_table(layout, {"dense/dense/kernel:0": KERNEL, "dense/dense/bias:0": BIAS})
    assert (layout.format, layout.architecture, layout.step) == ("legacy-h5", None, None)
    assert layout.files == (".hdf5",)


def test_names_that_keras_splits_over_attributes_are_read(tmp_path: Path) -> None:
    def fill(file: Any) -> None:
        legacy_weights(file)
        del file["dense"].attrs["weight_names"]
        file["dense"].attrs["weight_names0"] = np.array([b"dense/kernel:0"])
        file["dense"].attrs["weight_names1"] = np.array([b"dense/bias:0"])

    layout = read(written(tmp_path / "m.h5", fill))
    assert {t.full_name for t in layout.table} == {"dense/kernel", "dense/bias"}


def test_an_archive_is_read_in_place(tmp_path: Path) -> None:
    layout = read(write_archive(tmp_path / "m.keras"))
    check_table(layout, KERAS3)
    assert (layout.format, layout.architecture) == ("keras", "keras")
    assert layout.files == layout.table.files == (".keras",)
    assert layout.decode is None


def test_a_packed_archive_is_decoded(tmp_path: Path) -> None:
    layout = read(write_archive(tmp_path / "m.keras", method=zipfile.ZIP_DEFLATED))
    check_table(layout, KERAS3)
    assert layout.files == (".keras",)
    assert {layout.table.files[t.shard] for t in layout.table} == {DECODED}
    assert layout.step == (1200, "optimizer/vars/0")


def test_an_archive_behind_other_bytes_is_read_in_place(tmp_path: Path) -> None:
    """An archive may begin anywhere in a file that begins like one."""
    path = write_archive(tmp_path / "m.keras")
    path.write_bytes(b"PK\x03\x04" + bytes(1000) + path.read_bytes())
    check_table(read(path), KERAS3)


def test_a_directory_is_read(tmp_path: Path) -> None:
    layout = read(write_directory(tmp_path / "model"))
    (tmp_path / "model" / "notes.txt").write_text("not Keras's")
    check_table(layout, KERAS3)
    assert (layout.format, layout.architecture) == ("keras-directory", "keras")
    assert layout.files == (
        "/model.weights.h5",
        "/assets/layers/string_lookup/vocabulary.txt",
        "/metadata.json",
        "/config.json",
    )


@pytest.mark.parametrize("name", ["model.weights.json", "model_00001.weights.h5"])
def test_shards_are_one_checkpoint(tmp_path: Path, name: str) -> None:
    write_shards(tmp_path)
    layout = read(tmp_path / name)
    check_table(
        layout,
        {
            "layers/dense/vars/0": KERNEL,
            "layers/dense/vars/1": BIAS,
            "optimizer/vars/0": np.array(STEP),
        },
    )
    assert layout.format == "weights-json"
    assert layout.prefix == tmp_path / "model"
    assert layout.files == ("_00000.weights.h5", "_00001.weights.h5", ".weights.json")
    assert layout.step == (1200, "optimizer/vars/0")
    assert layout.table.tensors[1].full_name == "hidden/1"  # named in the other shard


@pytest.mark.parametrize(
    ("base", "map_name", "prefix"),
    [
        ("weights", "weights.json", "weights"),
        ("my.v", "my.weights.v.weights.json", "my"),  # Keras drops each ".weights"
        ("run_00007", "run_00007.weights.json", "run_00007"),
    ],
)
def test_every_shard_has_its_suffix(tmp_path: Path, base: str, map_name: str, prefix: str) -> None:
    layout = read(write_shards(tmp_path, base, map_name))
    assert layout.prefix == tmp_path / prefix
    assert {str(layout.path(suffix)) for suffix in layout.files} == {
        str(path) for path in tmp_path.iterdir()
    }


def test_a_numbered_file_without_a_map_is_a_checkpoint_of_its_own(tmp_path: Path) -> None:
    layout = read(written(tmp_path / "epoch_00003.weights.h5", keras3_weights))
    assert (layout.format, layout.prefix) == ("weights-h5", tmp_path / "epoch_00003")


@pytest.mark.parametrize("gone", ["model_00000.weights.h5", "model_00001.weights.h5"])
def test_a_missing_shard_is_named(tmp_path: Path, gone: str) -> None:
    path = write_shards(tmp_path)
    (tmp_path / gone).unlink()
    with pytest.raises(DamagedFileError, match=f"{gone} is damaged: it is missing"):
        read_keras(path)


def test_shards_of_two_saves_are_refused(tmp_path: Path) -> None:
    path = write_shards(tmp_path)
    written(tmp_path / "model_00000.weights.h5", legacy_weights)
    with pytest.raises(DamagedFileError, match="does not hold /layers/dense/vars"):
        read_keras(path)


def test_formats_are_known_by_content(tmp_path: Path) -> None:
    for name, made in (
        ("a.h5", write_archive(tmp_path / "x.keras")),
        ("b.keras", written(tmp_path / "x.h5", legacy_model)),
        ("c.bin", written(tmp_path / "y.h5", keras3_weights)),
        ("ckpt", write_archive(tmp_path / "y.keras")),
    ):
        path = made.rename(tmp_path / name)
        layout = read(path)
        assert layout.table.values
        assert [layout.path(suffix) for suffix in layout.files] == [path]


def test_other_things_are_none_of_ours(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("{not json")
    (tmp_path / "list.json").write_text('{"a": 1}')
    (tmp_path / "empty").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "arrays.npz", "w") as archive:
        archive.writestr("x.npy", b"")
    os.mkfifo(tmp_path / "pipe")
    names = ("text", "list.json", "empty", "arrays.npz", "pipe", "nothing", ".", "x" * 5000)
    assert [read_keras(tmp_path / name) for name in names] == [None] * len(names)


@pytest.mark.parametrize("name", ["m.keras", "m.h5", "m.weights.h5"])
def test_a_name_of_keras_with_other_content_is_damage(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\0" * 100)
    with pytest.raises(DamagedFileError, match="neither as HDF5 nor as zip"):
        read_keras(tmp_path / name)


def test_hdf5_that_is_not_of_keras_is_said_so(tmp_path: Path) -> None:
    path = written(tmp_path / "m.h5", lambda file: file.create_dataset("table", data=KERNEL))
    with pytest.raises(InputError, match="no weights as Keras writes them"):
        read_keras(path)


NUMBERS = (
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128", "bool"),
)


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_type_of_numbers_comes_out_little_endian(
    tmp_path: Path, dtype: str, order: Literal["<", ">"]
) -> None:
    values = np.arange(-3, 9).astype(dtype).reshape(3, 4)

    def fill(file: Any) -> None:
        file["a/vars/0"] = values.astype(values.dtype.newbyteorder(order))

    check_table(read(written(tmp_path / "m.weights.h5", fill)), {"a/vars/0": values})


def test_bfloat16_is_told_by_its_attribute(tmp_path: Path) -> None:
    bits = np.arange(6, dtype="<u2").view("V2").reshape(2, 3)

    def fill(file: Any) -> None:
        file.create_dataset("a/vars/0", data=bits).attrs["dtype"] = "bfloat16"
        file.create_dataset("a/vars/1", data=bits)
        file["a/vars/2"] = BIAS

    layout = read(written(tmp_path / "m.weights.h5", fill))
    half, _ = layout.table
    assert (half.name, half.dtype, half.shape) == ("a/vars/0", "bfloat16", (2, 3))
    assert raw(layout, contents(layout), half) == bits.tobytes()


AWKWARD: dict[str, dict[str, Any]] = {
    "chunked": {"chunks": (7, 3)},
    "gzip": {"chunks": (7, 3), "compression": "gzip", "shuffle": True, "fletcher32": True},
    "lzf": {"chunks": (40, 30), "compression": "lzf"},
    "scaled": {"chunks": True, "scaleoffset": 0},
}


@pytest.mark.parametrize("kind", [*AWKWARD, "compact", "unwritten", "empty"])
def test_awkward_storage_is_decoded(tmp_path: Path, kind: str) -> None:
    values = np.arange(1200, dtype=np.int32).reshape(40, 30)

    def fill(file: Any) -> None:
        nonlocal values
        if kind in AWKWARD:
            file.create_dataset("a/vars/0", data=values, **AWKWARD[kind])
        elif kind == "compact":
            plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            plist.set_layout(h5py.h5d.COMPACT)
            space, type_ = h5py.h5s.create_simple(values.shape), h5py.h5t.STD_I32LE
            group = file.create_group("a/vars").id
            h5py.h5d.create(group, b"0", type_, space, plist).write(
                h5py.h5s.ALL, h5py.h5s.ALL, values
            )
        elif kind == "unwritten":
            file.create_dataset("a/vars/0", values.shape, "<i4", fillvalue=7)
            values = np.full_like(values, 7)
        else:
            values = values[:0]
            file.create_dataset("a/vars/0", data=values)
        file["b/vars/0"] = BIAS

    layout = read(written(tmp_path / "m.weights.h5", fill))
    check_table(layout, {"a/vars/0": values, "b/vars/0": BIAS})
    assert (layout.decode is None) == (kind == "empty")


def test_what_is_packed_twice_is_decoded(tmp_path: Path) -> None:
    def fill(file: Any) -> None:
        file.create_dataset("a/vars/0", data=KERNEL, chunks=(2, 3), compression="gzip")
        file["b/vars/0"] = BIAS

    files = members(model=h5_bytes(fill))
    layout = read(write_archive(tmp_path / "m.keras", files, zipfile.ZIP_DEFLATED))
    check_table(layout, {"a/vars/0": KERNEL, "b/vars/0": BIAS})


@pytest.mark.parametrize(
    ("shape", "chunk"),
    [((5,), (2,)), ((40, 30, 50), (7, 30, 1)), ((3, 1000, 1000), (3, 10, 1000)), ((1, 9), (1, 1))],
)
def test_blocks_cover_a_dataset_in_order(shape: tuple[int, ...], chunk: tuple[int, ...]) -> None:
    numbers = np.arange(np.prod(shape)).reshape(shape)
    found = [
        numbers[tuple(slice(at, at + n) for at, n in zip(start, count, strict=True))].ravel()
        for start, count in cover(shape, chunk, 800)
    ]
    assert np.array_equal(np.concatenate(found), numbers.ravel())
    assert max(len(block) for block in found) * 800 <= 4 << 20


def test_texts_and_objects_are_no_tensors(tmp_path: Path) -> None:
    def fill(file: Any) -> None:
        file["a/vars/0"] = BIAS
        file["a/vars/text"] = "words"
        file["a/vars/texts"] = np.array([b"x", b"y"])
        file["a/vars/null"] = h5py.Empty("f4")
        file["a/vars/reference"] = np.array([file["a"].ref], h5py.ref_dtype)
        file["a/vars/record"] = np.zeros(2, [("x", "f4"), ("y", "i4")])
        file["a/type"] = np.dtype("f4")
        file.create_dataset("a/vars/enum", (2,), h5py.enum_dtype({"X": 1}, basetype="i4"))

    check_table(read(written(tmp_path / "m.weights.h5", fill)), {"a/vars/0": BIAS})


def test_keys_need_not_be_utf8(tmp_path: Path) -> None:
    def fill(file: Any) -> None:
        h5py.h5g.create(file.create_group("vars").id, b"\xff")
        file["vars"][b"\xff"]["0"] = BIAS

    layout = read(written(tmp_path / "m.weights.h5", fill))
    assert [tensor.key for tensor in layout.table] == [b"vars/\xff/0"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"optimizer": 5, "d_optimizer": 9}, (5, "optimizer/vars/0")),
        ({"d_optimizer": 9, "g_optimizer": 9}, (9, "d_optimizer/vars/0")),
        ({"d_optimizer": 9, "g_optimizer": 8}, None),
        (
            {"optimizer": 0, "optimizer/inner_optimizer": 4},
            (4, "optimizer/inner_optimizer/vars/0"),
        ),
        ({"layers/optimizer": 9}, None),
        ({"optimizer": -1}, None),
        ({"optimizer": 1.5}, None),
    ],
)
def test_the_step_is_that_of_the_models_optimizer(
    tmp_path: Path, values: dict[str, float], expected: tuple[int, str] | None
) -> None:
    def fill(file: Any) -> None:
        for path, value in values.items():
            file[f"{path}/vars/0"] = value

    assert read(written(tmp_path / "m.weights.h5", fill)).step == expected


def test_two_saves_of_one_model_are_equal(tmp_path: Path) -> None:
    first = members()
    later = members(
        metadata=first["metadata.json"].replace(b"2026", b"2027"),
        config=first["config.json"]
        .replace(b"140089741580304", b"77")
        .replace(b"139889741580123", b"140089741580304"),
    )
    made = [
        write_archive(tmp_path / "a.keras", first),
        write_archive(tmp_path / "b.keras", later),
        write_archive(tmp_path / "c.keras", dict(reversed(later.items())), zipfile.ZIP_DEFLATED),
    ]
    assert len({path.read_bytes() for path in made}) == 3
    assert len({identity(path) for path in made}) == 1
    directories = [write_directory(tmp_path / "d", first), write_directory(tmp_path / "e", later)]
    assert len({identity(path) for path in directories}) == 1
    assert identity(directories[0]) != identity(made[0])


def test_any_other_content_is_another_identity(tmp_path: Path) -> None:
    def other_weights(file: Any) -> None:
        keras3_weights(file)
        file["layers/dense/vars/1"][0] = 99

    config = members()["config.json"]
    variants = [
        members(),
        members(model=h5_bytes(other_weights)),
        members(config=config.replace(b'"units": 2', b'"units": 3')),
        # What is shared with what matters, whatever the numbers.
        members(config=config.replace(b"139889741580123", b"140089741580304")),
        members(vocabulary=b"one\nthree\n"),
        members(metadata=b'{"keras_version": "3.14.0", "date_saved": "2026-01-02@03:04:05"}'),
        {**members(), "assets/more.txt": b""},
    ]
    for write in (write_archive, write_directory):
        made = [write(tmp_path / f"{write.__name__}{n}", v) for n, v in enumerate(variants)]
        assert len({identity(path) for path in made}) == len(variants)


def test_without_h5py_the_extra_is_named(tmp_path: Path) -> None:
    """In an interpreter that does not find h5py."""
    path = written(tmp_path / "m.weights.h5", keras3_weights)
    code = (
        "import sys; sys.modules['h5py'] = None\n"
        "from pathlib import Path; from mstore.errors import MissingExtraError\n"
        "from mstore.formats.keras_read import read_keras\n"
        "try: read_keras(Path(sys.argv[1]))\n"
        "except MissingExtraError as error: print(error.hint)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, path], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout == "pip install 'mstore[keras-files]'\n"


def test_reading_loads_neither_h5py_nor_numpy_here(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "m.keras")
    code = (
        "import sys; from pathlib import Path\n"
        "from mstore.formats.keras_read import read_keras\n"
        "assert read_keras(Path(sys.argv[1])).table.values\n"
        "print({'h5py', 'numpy', 'tensorflow', 'keras'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, path], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout == "set()\n"


def test_python_may_be_told_to_start_without_the_users_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    layout = read(written(tmp_path / "a.weights.h5", keras3_weights))
    assert layout.format == "weights-h5"
