"""What a record must be: its fields and their types, what must agree in it, and its digest; checked when it is read."""

import hashlib
import json
import math

FORMAT = 1
LARGEST = 1 << 63  # no count and no second of ours comes near it
MOST_BYTES = 1 << 24  # of a record's file; the longest of the paper's protocol has some 30 kB


def parse(content):
    """The record in a file's bytes. Raises ValueError, with the fault as its words, unless it is sound."""
    record = loads(content)
    check(record)
    return record


def loads(content):
    """What the JSON in bytes or text says. Raises ValueError for what is none, and for numbers that are not finite."""
    try:
        return json.loads(content, parse_float=_finite, parse_constant=_finite)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def check(record):
    """Raise ValueError, with the fault as its words, unless a value read from JSON is a sound record."""
    try:
        fault = _fault(record)
    except RecursionError:
        fault = "it is nested too deep"
    if fault:
        raise ValueError(fault)


def digest(record):
    """SHA-256, in hex, of all of a record but its digest: the same however the file is laid out."""
    return _sha256({key: value for key, value in record.items() if key != "digest"})


def recipe_hash(recipe):
    """The first 12 hex digits of the SHA-256 of a recipe's JSON: what ties a record or checkpoint to its recipe."""
    return _sha256(recipe)[:12]


def _sha256(plain):
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _finite(text):
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no finite number")
    return number


def _fault(record):
    """What is wrong with a record, in words; None where nothing is. Records of before the digest have none."""
    if not isinstance(record, dict):
        return "it is no JSON object"
    for name, sound in FIELDS.items():
        if name not in record:
            return f"it has no {name}"
        if not sound(record[name]):
            return f"its {name} is not what it must be"
    for name, sound in OPTIONAL.items():
        if name in record and not sound(record[name]):
            return f"its {name} is not what it must be"
    if "digest" in record and record["digest"] != digest(record):
        return "its digest does not match"
    if record["recipe_hash"] != recipe_hash(record["recipe"]):
        return "its recipe has another hash than its recipe_hash"
    if record["test_error"] != record["curve"]["test_error"][-1]:
        return "its test_error is not the last of its curve"
    ended = record["status"] == "finished"
    if ended and (missing := [name for name in _tests(record["recipe"]) if name not in record.get("crops", {})]):
        return f"it has no test error at the crop {missing[0]}"
    if ended != (record["test_error"] is not None) or ended != (record["diverged_at"] is None):
        return f"it is {record['status']}, which its test_error and diverged_at contradict"
    return None


def _tests(recipe):
    """The names of a recipe's tests, where it has several: ImageNet's."""
    protocol = recipe.get("protocol", {})
    return [name for name, *_ in protocol.get("tests", ())] if isinstance(protocol, dict) else []


def _text(value):
    return isinstance(value, str)


def _whole(value):
    return type(value) is int and 0 <= value < LARGEST  # a bool is an int to isinstance


def _number(value):
    return type(value) is float and math.isfinite(value) or type(value) is int and abs(value) < LARGEST


def _percent(value):
    return _number(value) and 0 <= value <= 100


def _or_none(sound):
    return lambda value: value is None or sound(value)


def _list_of(sound):
    return lambda value: isinstance(value, list) and all(map(sound, value))


def _columns(sound):
    """Whether an object has the named lists, of one length that is not 0; `sound` by name."""

    def check(value):
        if not isinstance(value, dict) or any(name not in value for name in sound):
            return False
        lengths = {len(value[name]) if _list_of(of)(value[name]) else 0 for name, of in sound.items()}
        return len(lengths) == 1 and 0 not in lengths

    return check


def _share(value):
    return _number(value) and 0 <= value <= 1


def _moments(value):
    """Whether that is what the units were at moments of a run: of each its iteration, and one list per measurement."""
    if not _list_of(_columns(UNITS))(value) or not all(_whole(each.get("iteration")) for each in value):
        return False
    return len({len(each["truncated"]) for each in value}) == 1  # no moments is none; all are of the same units


CURVE = {
    "iteration": _whole,
    "rate": _number,
    "train_loss": _or_none(_number),
    "train_error": _percent,
    "test_error": _or_none(_percent),
}

UNITS = {  # as `analysis.measurements` has them; what is measured may be infinite, but not a share of it
    **dict.fromkeys(("negative", "truncated"), _share),
    **dict.fromkeys(("signal", "residual", "mean", "deviation", "gradient"), _or_none(_number)),
}

FIELDS = {
    "format": lambda value: value == FORMAT,
    "table": lambda value: _text(value) or _whole(value),
    **dict.fromkeys(("row", "variant", "tier", "reduction", "recipe_hash", "precision", "device"), _text),
    **dict.fromkeys(("data_checksum", "written"), _text),
    "commit": _or_none(_text),
    "seed": _whole,
    "status": lambda value: value in ("finished", "diverged"),
    "test_error": _or_none(_percent),
    "diverged_at": _or_none(_whole),
    "threads": _or_none(_whole),
    "wall_seconds": _number,
    "device_seconds": _number,
    "versions": lambda value: isinstance(value, dict) and all(map(_text, value.values())),
    "curve": _columns(CURVE),
    "recipe": lambda value: isinstance(value, dict),
}


def _crop(value):
    """Whether that is what a test at one crop gave; no top-5 error below six classes."""
    if not isinstance(value, dict) or not _or_none(_percent)(value.get("top5")):
        return False
    return _percent(value.get("top1")) and _whole(value.get("side")) and _whole(value.get("crop"))


# of watched runs, of runs whose curve counts on some of the test images, and of those on pictures in files
OPTIONAL = {
    "crops": lambda value: isinstance(value, dict) and all(map(_crop, value.values())),
    "images": _whole,
    "units": _moments,
    "curve_test_images": _whole,
}
