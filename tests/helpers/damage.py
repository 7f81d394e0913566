"""Random damage to files: bytes, the structure of TIF files, and the parts of checkpoints."""

import io
import itertools
import pickle
import pickletools
import struct
import warnings
import zipfile
from collections import OrderedDict
from random import Random
from typing import Any

import torch

from pti.runs.plain import require_plain_pickle

EXTREMES = (0, 1, 2, 3, 7, 8, 100, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**64 - 1)
"""Numbers that counts, sizes and offsets are replaced by."""

_TIF_TAGS = (254, 255, 256, 257, 258, 259, 262, 266, 270, 273, 274, 277, 278, 279, 282, 283, 284, 296, 317)
_TIF_TAGS += (
    320,
    322,
    323,
    324,
    325,
    330,
    338,
    339,
    347,
    700,
    32997,
    33550,
    33628,
    33629,
    34735,
    42112,
    42113,
)
_CODECS = (1, 2, 4, 5, 6, 7, 8, 32773, 32946, 34712, 34925, 34926, 50000, 50001, 65535)


def damaged_bytes(data: bytes, random: Random, others: list[bytes]) -> bytes:
    """Flip, overwrite, remove, repeat or exchange bytes."""
    content = bytearray(data)
    start = (
        random.randrange(len(content) + 1)
        if random.random() < 0.5
        else random.randrange(min(len(content), 400))
    )
    end = min(len(content), start + random.choice((1, 2, 4, 8, 12, 50, 1000)))
    how = random.choice(("flip", "flip", "number", "number", "cut", "remove", "repeat", "splice", "fill"))
    if how == "flip":
        for _ in range(random.choice((1, 1, 2, 16))):
            content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    elif how == "number":
        number = struct.pack(random.choice("<>") + "Q", random.choice(EXTREMES))
        width = random.choice((2, 4, 8))
        content[start : start + width] = random.choice((number[:width], number[-width:]))
    elif how == "cut":
        del content[start:]
    elif how == "remove":
        del content[start:end]
    elif how == "repeat":
        content[start:start] = content[start:end] * random.choice((1, 2, 1000))
    elif how == "splice":
        other = random.choice(others)
        begin = random.randrange(len(other))
        content[start:end] = other[begin : begin + end - start]
    else:
        content[start:end] = bytes([random.choice((0, 255, random.randrange(256)))]) * (end - start)
    return bytes(content)


def damaged_tif(data: bytes, random: Random, others: list[bytes]) -> bytes:
    """Change a tag, its type, count or value, the chain of pages or the description."""
    if random.random() < 0.35:
        return damaged_bytes(data, random, others)
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    word, count, entry = ("Q", "Q", 20) if big else ("I", "H", 12)
    width = struct.calcsize(f"={word}")
    content = bytearray(data)
    try:
        (page,) = struct.unpack_from(order + word, data, width)
        (entries,) = struct.unpack_from(order + count, data, page)
        first = page + struct.calcsize(f"={count}")
        if random.random() < 0.15:  # the chain of pages
            target = random.choice((page, page, width, 0, len(data), len(data) - 6, first, *EXTREMES))
            struct.pack_into(order + word, content, first + entries * entry, target % 2 ** (8 * width))
        at = first + entry * random.randrange(max(1, min(entries, 50)))
        value = at + entry - width
        part = random.choice(("tag", "type", "count", "value", "value", "inline", "text"))
        if part == "tag":
            struct.pack_into(f"{order}H", content, at, random.choice(_TIF_TAGS))
        elif part == "type":
            struct.pack_into(f"{order}H", content, at + 2, random.choice((*range(20), 255, 65535)))
        elif part == "count":
            struct.pack_into(order + word, content, at + 4, random.choice(EXTREMES) % 2 ** (8 * width))
        elif part == "value":
            number = random.choice((*EXTREMES, len(data), len(data) - 1, page, random.choice(_CODECS)))
            struct.pack_into(order + word, content, value, number % 2 ** (8 * width))
        elif part == "inline":
            number = random.choice((*EXTREMES, random.choice(_CODECS))) % 2**16
            struct.pack_into(f"{order}HHH", content, at + 2, 3, 1, 0)
            struct.pack_into(order + word, content, at + 4, 1)
            struct.pack_into(f"{order}H", content, value, number)
        else:
            words = (
                b"1e999",
                b"-1",
                b"nan",
                b"999999999999",
                b"images",
                b"unit=mm\n",
                b"<Pixels ",
                b'role="scale">',
            )
            position = data.find(random.choice((b"=", b"ImageJ", b"shape", b"Physical", b"unit")))
            if position > 0:
                content[position : position + random.randrange(12)] = random.choice(words) * random.choice(
                    (1, 9)
                )
    except struct.error:  # earlier damage
        return damaged_bytes(data, random, others)
    return bytes(content)


def damaged_checkpoint(data: bytes, random: Random, others: list[bytes]) -> bytes:
    """Damage the bytes, the records of the zip file, the pickle, or the content of a checkpoint."""
    how = random.choice(("bytes", "records", "pickle", "pickle", "content", "content", "content"))
    try:
        if how == "content":
            content = _loaded(data)
            _damage_containers(
                random.choice((content["config"], content["config"], content["state_dict"], content)), random
            )
            file = io.BytesIO()
            torch.save(content, file)
            return file.getvalue()
        if how != "bytes":
            return _damaged_records(data, random, others, how == "pickle")
    except Exception:  # earlier damage
        pass
    return damaged_bytes(data, random, others)


def _loaded(data: bytes) -> dict[str, Any]:
    """Load a checkpoint that earlier damage may have made hostile: torch would allocate gigabytes."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in archive.namelist():
            if name.endswith("data.pkl"):
                require_plain_pickle(archive.read(name))
    return torch.load(io.BytesIO(data), weights_only=True)


def _damaged_records(data: bytes, random: Random, others: list[bytes], in_pickle: bool) -> bytes:
    """Exchange, rename, damage or remove a record of a zip file, and write correct checksums."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        records = [(name, archive.read(name)) for name in archive.namelist()]
    compression = zipfile.ZIP_STORED
    if in_pickle:
        (at,) = (index for index, (name, _) in enumerate(records) if name.endswith("/data.pkl"))
        name, content = records[at]
        how = random.random()
        changed = damaged_bytes(content, random, others) if how < 0.3 else _damaged_operation(content, random)
        records[at] = (name, random.choice(PICKLES) if how > 0.7 else changed)
    else:
        compression = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA))
        one, other = (random.randrange(len(records)) for _ in range(2))
        name, content = records[one]
        records[one] = random.choice(
            (
                (records[other][0], content),
                (name, records[other][1]),
                (name, damaged_bytes(content or b" ", random, others)),
                (name, bytes(random.choice((0, 1, 1000, *[10**8] * (random.random() < 0.05))))),
                (random.choice(("../../x", "", "x" * 5000, "a/data/0", "ü")), content),
            )
        )
        if random.random() < 0.3:
            del records[random.randrange(len(records))]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # double names
        for name, content in records:
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return file.getvalue()


def _power(opener: bytes, closer: bytes) -> bytes:
    """Return a pickle whose containers hold the same container twice, forty times over."""
    start = b"\x80\x02X\1\0\0\0aq\0"
    return start + (b"(" + opener + b"h\0h\0" + closer + b"q\0") * 40 + b"."


PICKLES = (
    b"\x80\x02cos\nsystem\nX\4\0\0\0exit\x85R.",
    b"\x80\x02cbuiltins\nbytearray\n\x8a\x05\0\0\0\0\1\x85R.",  # 4 GiB
    b"\x80\x02ctorch\nFloatTensor\n\x8a\x05\0\0\0\x40\0\x85\x81.",
    b"\x80\x02ctorch\nFloatTensor\n\x8a\x05\0\0\0\x40\0\x85R.",
    b"\x80\x02" + b"]" * 30_000 + b"a" * 29_999 + b".",
    b"\x80\x02}X\6\0\0\0config" + b"]" * 900 + b"a" * 899 + b"s.",
    b"\x80\x02]q\0h\0a.",  # a list that contains itself
    b"\x80\x02}q\0X\6\0\0\0configh\0s.",
    _power(b"", b"t"),
    b"\x80\x02}X\6\0\0\0config}X\5\0\0\0model}X\1\0\0\0a"
    + _power(b"", b"t")[2:-1]
    + b"ssX\x0a\0\0\0state_dict}s.",
    b"\x80\x02}X\6\0\0\0config}X\5\0\0\0model}X\1\0\0\0aX\xff\xff\xff\x7fa.",
    b"\x80\x02\x8a\xff" + bytes(255) + b".",
    b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",
)
"""Pickles that call, allocate, nest or repeat without end."""


def _damaged_operation(data: bytes, random: Random) -> bytes:
    """Replace the argument of one operation of a pickle: a number, a text or a global name."""
    operations = list(pickletools.genops(data))
    candidates = [
        (name, argument, start, end)
        for (operation, argument, start), (_, _, end) in itertools.pairwise(operations)
        if (name := operation.name)
        in ("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "GLOBAL", "BINFLOAT")
    ]
    name, _, start, end = random.choice(candidates)
    number = random.choice((*EXTREMES, -1, -(2**31)))
    new = pickle.dumps(number, 2)[2:-1]
    if name == "BINUNICODE":
        text = random.choice(
            ("", "storage", "cuda", "cpu", "meta", "x" * 300, "0", "_target_", "../0")
        ).encode()
        new = b"X" + struct.pack("<I", len(text)) + text
    elif name == "GLOBAL":
        names = (
            "torch FloatStorage",
            "torch._utils _rebuild_parameter",
            "torch._utils _rebuild_sparse_tensor",
        )
        names += (
            "torch._utils _rebuild_qtensor",
            "torch._utils _rebuild_meta_tensor_no_storage",
            "torch Size",
        )
        names += ("torch._utils _rebuild_wrapper_subclass", "torch.nn.parameter Parameter", "torch float32")
        names += ("collections Counter", "builtins getattr", "torch.jit load", "torch DoubleStorage")
        new = b"c" + random.choice(names).replace(" ", "\n").encode() + b"\n"
    elif name == "BINFLOAT":
        new = b"G" + struct.pack(">d", random.choice((float("nan"), float("inf"), 1e308, -1.0, 0.0)))
    return data[:start] + new + data[end:]


def _damage_containers(value: Any, random: Random) -> None:
    """Replace, rename, remove or add an item of nested containers."""
    places: list[tuple[Any, Any]] = []
    seen: set[int] = set()  # containers may hold each other again and again

    def collect(container: Any) -> None:
        if id(container) in seen:
            return
        seen.add(id(container))
        items = container.items() if isinstance(container, dict) else enumerate(container)
        for key, item in items:
            places.append((container, key))
            if isinstance(item, (dict, list)):
                collect(item)

    collect(value)
    if not places:
        return
    container, key = random.choice(places)
    how = random.choice(("value", "value", "value", "key", "remove", "add"))
    if how == "value" or not isinstance(container, dict):
        container[key] = _hostile(random, container[key])
    elif how == "key":
        container[_name(random)] = container.pop(key)
    elif how == "remove":
        del container[key]
    else:
        container[_name(random)] = _hostile(random, None)


def _name(random: Random) -> Any:
    names = ("_target_", "_args_", "_partial_", "_recursive_", "_convert_", "a.b", "", "weight", "self")
    return random.choice((*names, 1, None, True, 2.5, ("a", 1)))


def _hostile(random: Random, present: Any) -> Any:
    small = isinstance(present, torch.Tensor) and present.numel() < 10**6  # not expanded by earlier damage
    if small and random.random() < 0.8:
        return random.choice(
            (
                lambda: present.double(),
                lambda: present.to(torch.complex64),
                lambda: present.to(torch.int8),
                lambda: present * float("nan"),
                lambda: present.flatten()[:-1],
                lambda: torch.zeros(1).expand(10**9),
                lambda: torch.zeros(1).expand(present.shape),
                lambda: present.reshape(-1)[None],
                lambda: torch.empty(present.shape, device="meta"),
                lambda: present.float().to_sparse(),
                lambda: torch.quantize_per_tensor(present.float(), 0.1, 0, torch.quint8),
                lambda: torch.nn.Parameter(present.float()),
                lambda: torch.empty(0),
                lambda: torch.tensor(1.0),
            )
        )()
    if isinstance(present, (int, float)) and random.random() < 0.6:
        return random.choice((-1, 0, 1, 3, 1000, 10**5, 2**31, 2**63, 10**30, 0.5, 1e308, float("nan"), True))
    shared: list[Any] = [1]
    for _ in range(40):
        shared = [shared, shared]
    names = (
        "os.system",
        "torch.load",
        "pti.losses.Term",
        "pti.modules.regression.Regression",
        "torch.optim.Adam.step",
    )
    names += (
        "monai.networks.nets.AutoencoderKL",
        "pti.data.layouts.csv_table",
        "pti",
        ".",
        "",
        "a b",
        "torch.optim.SGD",
    )
    return random.choice(
        (
            None,
            "",
            "x" * 100_000,
            "${oc.env:HOME}",
            [],
            {},
            [[1], 2],
            ["8", 8],
            b"bytes",
            {1, 2},
            shared,
            OrderedDict(a=1),
            torch.float16,
            torch.device("cuda"),
            torch.Size([3]),
            torch.zeros(3),
            {"_target_": random.choice(names)},
            {"_target_": random.choice(names), "_partial_": random.choice((True, "yes", 1, None))},
            random.choice(names),
            {"_target_": {"_target_": "os.system"}},
            [{"_target_": 5}],
        )
    )
