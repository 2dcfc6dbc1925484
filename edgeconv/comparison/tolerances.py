"""How close is close enough, by precision: stated here, and nowhere else.

Every bound is relative to the output it judges, so that logits of 1e-8 and boxes of 500 pixels are judged
alike. The numbers were set on real conversions (below): above what honest conversions were seen to do, and
below what broken ones do (a quarter of the scores zeroed is 6 dB, a flipped sign -6 dB, an unrelated output
-3 dB).
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from edgeconv.errors import UsageError


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Bounds for one precision. All must hold, for each output and each group of its channels.

    Attributes:
        precision: whose tolerance it is.
        abs: an element may always be off by this much.
        rel: an element may be off by this share of the largest value of its group: ``|c - r| <= abs +
            rel · max|r|``.
        sqnr: least signal-to-noise ratio of a group in dB.
        cosine: least cosine.
        corr: least correlation, where the reference varies by more than ``resolution``.
        channel_sqnr: least signal-to-noise ratio in dB of one channel of the last axis, of one probe and of
            one item of a batch, where its signal is above ``resolution``.
        channel_corr: least correlation of one channel, where it varies by more than ``resolution``.
        resolution: smallest signal, as a share of the largest value, that the precision can carry.
        mismatched: share of integer, bool or text elements that may differ.
        top1: least share of rows with the same largest element; ``None`` is not judged.
        allow_nan: NaN at the same places in both is no failure; the other elements are judged.
    """

    precision: str
    abs: float
    rel: float
    sqnr: float
    cosine: float
    corr: float
    channel_sqnr: float
    channel_corr: float
    resolution: float
    mismatched: float
    top1: float | None = None
    allow_nan: bool = False

    @property
    def quantized(self) -> bool:
        """Whether values come from a grid of integer steps."""
        return self.precision in ("int8", "int16x8")


# Worst seen on honest TFLite conversions of seeded random networks (EfficientNetB0, ResNet50, MobileNetV2, a
# small CNN, a small detector; int16x8 on the last two only) and, for fp32, on a published face detector:
#            SQNR of an output   largest error / largest value
#   fp32     115 dB              1.5e-6
#   fp16     61 dB               9e-4    (weights in half precision, sums in single)
#   dynamic  29 dB               0.03
#   int8     16 dB               0.13
#   int16x8  42 dB               0.011
# A fully convolutional network with resizes was reported at 9e-5 in fp32, which sets its ``rel``.
TOLERANCES: Mapping[str, Tolerance] = MappingProxyType(
    {
        tolerance.precision: tolerance
        for tolerance in (
            Tolerance(
                precision="fp32",
                abs=1e-7,
                rel=2e-4,
                sqnr=70.0,
                cosine=0.99999,
                corr=0.99,
                channel_sqnr=20.0,
                channel_corr=0.9,
                resolution=1e-4,
                mismatched=0.0,
            ),
            Tolerance(
                precision="fp16",
                abs=1e-6,
                rel=0.02,
                sqnr=35.0,
                cosine=0.999,
                corr=0.98,
                channel_sqnr=10.0,
                channel_corr=0.8,
                resolution=4e-3,
                mismatched=0.01,
            ),
            Tolerance(
                precision="dynamic",
                abs=1e-6,
                rel=0.2,
                sqnr=15.0,
                cosine=0.98,
                corr=0.95,
                channel_sqnr=4.0,
                channel_corr=0.7,
                resolution=1 / 64,
                mismatched=0.05,
            ),
            Tolerance(
                precision="int8",
                abs=1e-6,
                rel=0.3,
                sqnr=10.0,
                cosine=0.95,
                corr=0.9,
                channel_sqnr=3.0,
                channel_corr=0.6,
                resolution=1 / 64,
                mismatched=0.1,
            ),
            Tolerance(
                precision="int16x8",
                abs=1e-6,
                rel=0.1,
                sqnr=20.0,
                cosine=0.99,
                corr=0.97,
                channel_sqnr=6.0,
                channel_corr=0.8,
                resolution=1 / 128,
                mismatched=0.05,
            ),
        )
    }
)
"""The stated tolerances by precision."""

KEYS = tuple(f.name for f in dataclasses.fields(Tolerance) if f.name != "precision")
"""What ``--tolerance`` can set."""

NO_SQNR = -1e3
"""Below any ratio there is: finite, so that it can go to JSON."""

_RATIOS = ("cosine", "corr", "channel_corr")
_HINT = "--tolerance 1e-3, --tolerance fp32:abs=1e-4,rel=1e-3 or --tolerance int8:sqnr=15,cosine=0.98"


def tolerance_for(
    precision: str, overrides: Mapping[str | None, Mapping[str, float]] | None = None
) -> Tolerance:
    """The stated tolerance of a precision with the user's overrides.

    Args:
        precision: one of the known precisions; ``mixed`` is judged as ``int8``.
        overrides: from :func:`parse_tolerances`.

    Raises:
        UsageError: no such precision.
    """
    known = TOLERANCES.get("int8" if precision == "mixed" else precision)
    if known is None:
        raise UsageError(
            f"no tolerance is stated for the precision '{precision}'",
            hint=f"known precisions: {', '.join(TOLERANCES)}",
        )
    tolerance = known
    for key in (None, precision):
        tolerance = _overridden(tolerance, (overrides or {}).get(key, {}))
    return tolerance


def parse_tolerance(text: str, precision: str = "fp32") -> Tolerance:
    """One ``--tolerance`` of the command line as a tolerance for ``precision``.

    Raises:
        UsageError: the text is none, or is for another precision.
    """
    overrides = parse_tolerances([text])
    named = next(iter(overrides))
    return tolerance_for(named or precision, overrides)


def parse_tolerances(texts: list[str] | tuple[str, ...]) -> dict[str | None, dict[str, float]]:
    """All ``--tolerance`` of a command line.

    Each is ``[PRECISION:]KEY=NUMBER,…`` or ``[PRECISION:]NUMBER``. A bare number bounds each element by
    itself (``abs`` and ``rel``) and takes the place of the other bounds on numbers.

    Returns:
        Precision, or ``None`` for all, to key to number, for :func:`tolerance_for`. Later texts win.

    Raises:
        UsageError: a text cannot be read, or names an unknown precision or key.
    """
    overrides: dict[str | None, dict[str, float]] = {}
    for text in texts:
        head, colon, tail = text.partition(":")
        precision = head.strip() if colon else None
        if precision is not None and precision not in (*TOLERANCES, "mixed"):
            raise _refused(text, f"no precision is called '{precision}'{_nearest(precision, TOLERANCES)}")
        found = _bounds(text, tail if colon else head)
        overrides.setdefault(precision, {}).update(found)
    return overrides


def _bounds(text: str, body: str) -> dict[str, float]:
    parts = [part.strip() for part in body.split(",")]
    if len(parts) == 1 and "=" not in parts[0]:
        number = _number(text, "rel", parts[0])
        return {
            "abs": number,
            "rel": number,
            "sqnr": NO_SQNR,
            "cosine": -1.0,
            "corr": -1.0,
            "channel_sqnr": NO_SQNR,
            "channel_corr": -1.0,
        }
    bounds: dict[str, float] = {}
    for part in parts:
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise _refused(text, f"'{part}' is not KEY=NUMBER")
        if key not in KEYS:
            raise _refused(text, f"there is no bound '{key}'{_nearest(key, KEYS)}")
        if key in bounds:
            raise _refused(text, f"'{key}' is given twice")
        bounds[key] = _number(text, key, value)
    return bounds


def _number(text: str, key: str, value: str) -> float:
    if key == "allow_nan":
        if value.lower() not in ("0", "1", "true", "false"):
            raise _refused(text, f"'{value}' is neither true nor false")
        return float(value.lower() in ("1", "true"))
    try:
        number = float(value)
    except ValueError:
        raise _refused(text, f"'{value}' is no number") from None
    if math.isnan(number) or number == math.inf:
        raise _refused(text, f"{value} is no bound")
    if key in ("abs", "rel", "resolution") and number < 0:
        raise _refused(text, f"{key} cannot be negative")
    if key in _RATIOS and not -1 <= number <= 1:
        raise _refused(text, f"{key} lies between -1 and 1")
    if key in ("mismatched", "top1") and not 0 <= number <= 1:
        raise _refused(text, f"{key} is a share between 0 and 1")
    return number


def _overridden(tolerance: Tolerance, bounds: Mapping[str, float]) -> Tolerance:
    changes: dict[str, float | bool] = dict(bounds)
    if "allow_nan" in changes:
        changes["allow_nan"] = bool(changes["allow_nan"])
    return dataclasses.replace(tolerance, **changes)  # type: ignore[arg-type]


def _nearest(word: str, known: Mapping[str, object] | tuple[str, ...]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean '{near[0]}'?" if near else f"; there are {', '.join(known)}"


def _refused(text: str, why: str) -> UsageError:
    return UsageError(f"cannot read the tolerance '{text}'", why=why, hint=_HINT)
