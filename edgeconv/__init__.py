"""edgeconv takes a trained TensorFlow model to edge artifacts, each proven equal to the original.

>>> import edgeconv
>>> manifest = edgeconv.convert("digits.keras", to="tflite:int8")       # doctest: +SKIP
>>> manifest.artifact("tflite.int8").gate.verdict                       # doctest: +SKIP
'pass'

Importing this package is quick; TensorFlow and the runtimes are imported where they are needed, most of
it in worker processes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version as _version
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeconv.parts import extract, freeze, split, thaw

if TYPE_CHECKING:
    from edgeconv.checking.target import TargetVerdict
    from edgeconv.execution.manifest import Manifest
    from edgeconv.formats.base import Description
    from edgeconv.latency.records import Measurement
    from edgeconv.latency.regress import Comparison as Regression
    from edgeconv.recipe.compare import Comparison
    from edgeconv.runtimes.base import Session

__all__ = [
    "benchmark",
    "check",
    "compare",
    "convert",
    "extract",
    "freeze",
    "inspect",
    "load",
    "regress",
    "split",
    "thaw",
]

__version__ = _version("edgeconv")

AnyPath = str | PathLike[str]


def inspect(model: AnyPath) -> Description:
    """Say what a model is, without running anything that is in it.

    Args:
        model: file, folder or checkpoint prefix of any known format; recognised by content.

    Returns:
        Format, producer, signatures with shapes and dtypes, parameters, MACs, operations, findings.

    Raises:
        edgeconv.errors.UsageError: nothing is there.
        edgeconv.errors.InvalidModelError: no known format, truncated, corrupt, or of a newer version.

    >>> edgeconv.inspect(digits / "digits.keras").format
    'keras'
    """
    from edgeconv.formats import describe

    return describe(Path(model))


def convert(
    model: AnyPath,
    to: str | Sequence[str] = (),
    *,
    target: str | Sequence[str] = (),
    output: AnyPath | None = None,
    calibration: AnyPath | None = None,
    data: AnyPath | None = None,
    shapes: Mapping[str, Sequence[int | None]] | None = None,
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    signature: str | None = None,
    tags: Sequence[str] | None = None,
    tolerance: str | Sequence[str] = (),
    pipeline_config: AnyPath | None = None,
    label_map: AnyPath | None = None,
    postprocessing: str = "keep",
    checkpoint: AnyPath | None = None,
    graph: AnyPath | None = None,
    map_variable: Sequence[str] = (),
    restore: Sequence[str] = (),
    moving_averages: bool = False,
    model_builder: str | None = None,
    custom_objects: str | None = None,
    config: AnyPath | None = None,
    keras_backend: str | None = None,
    trust: bool = False,
    opset: int | None = None,
    jobs: int | None = None,
    seed: int = 0,
    use_cache: bool = True,
) -> Manifest:
    """Convert a model in stages, each proven against its predecessor.

    Args:
        model: file, folder or checkpoint prefix.
        to: ``FORMAT[:PRECISION]``, one or several; the default formats in fp32 where empty.
        target: kinds of devices that the artifacts are to run on; without ``to`` what runs and pays there.
        output: folder for the artifacts; ``MODEL-NAME.edgeconv`` in the current folder where ``None``.
        calibration: ``.npz`` or ``.npy`` of samples for quantization, leading axis the samples.
        data: the same for the gates, in place of seeded probes.
        shapes: input name to the shape to pin, ``None`` for a dimension that stays open.
        inputs, outputs: tensors where the model begins and ends.
        signature, tags: which callable of a SavedModel.
        tolerance: as ``--tolerance`` takes it.
        graph: a file with the graph of a checkpoint that has none beside it.
        map_variable, restore, moving_averages: which values of a checkpoint go where; see ``--map-variable``.
        postprocessing: ``keep`` or ``cut``, of a detector; see ``--postprocessing``.
        pipeline_config, label_map: what a detector's folder does not hold; see ``--pipeline-config``.
        checkpoint, model_builder: what a checkpoint needs; see ``--model-builder``.
        custom_objects, config, keras_backend: what a Keras file may need; see ``--custom-objects``.
        trust: allow the model to run code and to touch files that it names.
        opset: of ONNX files; 17, or what the oldest runtime of the targets takes, where ``None``.
        jobs: workers at the same time.
        seed: of the probes.
        use_cache: whether finished work of earlier runs may be used and kept.

    Returns:
        What was made, with every gate's verdict; what failed is in ``failures``. A failed conversion or
        gate raises nothing: see :attr:`~edgeconv.execution.manifest.Manifest.passed`.

    Raises:
        edgeconv.errors.UsageError: nothing was begun because the call is wrong.

    >>> manifest = edgeconv.convert(digits / "digits.keras", "tflite", output=digits / "out")
    >>> [(artifact.id, artifact.gate.verdict) for artifact in manifest.artifacts]
    [('saved_model.fp32', 'pass'), ('frozen_graph.fp32', 'pass'), ('tflite.fp32', 'pass')]
    """
    from edgeconv.recipe.convert import convert as run
    from edgeconv.recipe.request import ConversionRequest, parse_targets

    manifest, _ = run(
        ConversionRequest(
            model=Path(model),
            output=_path(output),
            to=parse_targets([to] if isinstance(to, str) else to),
            targets=(target,) if isinstance(target, str) and target else tuple(target),
            data=_path(data),
            calibration=_path(calibration),
            shapes={name: tuple(shape) for name, shape in (shapes or {}).items()},
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            signature=signature,
            tags=None if tags is None else tuple(tags),
            tolerance=(tolerance,) if isinstance(tolerance, str) else tuple(tolerance),
            pipeline_config=_path(pipeline_config),
            label_map=_path(label_map),
            postprocessing=postprocessing,
            checkpoint=_path(checkpoint),
            graph=_path(graph),
            map_variable=tuple(map_variable),
            restore=tuple(restore),
            moving_averages=moving_averages,
            model_builder=model_builder,
            custom_objects=custom_objects,
            config=_path(config),
            keras_backend=keras_backend,
            trust=trust,
            opset=opset,
            jobs=jobs,
            seed=seed,
            use_cache=use_cache,
        ),
        lambda event: None,
    )
    return manifest


def compare(
    reference: AnyPath,
    candidate: AnyPath,
    *,
    data: AnyPath | None = None,
    shapes: Mapping[str, Sequence[int | None]] | None = None,
    tolerance: str | Sequence[str] = (),
    output_map: Mapping[str, str] | None = None,
    input_map: Mapping[str, str] | None = None,
    seed: int = 0,
    locate: bool = False,
    device: str | Sequence[str] = (),
    runtime: str | None = None,
    threads: int = 1,
    accelerator: str | None = None,
    **options: Any,
) -> Comparison:
    """Judge whether two artifacts of any formats compute the same, output by output.

    Args:
        reference, candidate: the two; the tolerance is that of the candidate's precision.
        data: samples in place of seeded probes.
        shapes: input name to the shape to pin.
        tolerance: as ``--tolerance`` takes it.
        output_map, input_map: reference name to candidate name, where names do not tell.
        seed: of the probes.
        locate: also find the first tensor that diverges.
        device: name or names of devices that the candidate is run on; here where there are none.
        runtime, threads, accelerator: of the candidate there, see :func:`load`.
        options: what opening a source needs: ``signature``, ``tags``, ``model_builder``,
            ``custom_objects``, ``trust``.

    Raises:
        edgeconv.errors.UsageError: the call is wrong, or the mapping of names is ambiguous.
        edgeconv.errors.ConversionError: one of the two cannot be run.

    >>> edgeconv.compare(digits / "digits.keras", digits / "out" / "digits.fp32.tflite").passed
    True
    """
    from edgeconv.recipe.compare import ComparisonRequest
    from edgeconv.recipe.compare import compare as run

    return run(
        ComparisonRequest(
            reference=Path(reference),
            candidate=Path(candidate),
            data=_path(data),
            shapes={name: tuple(shape) for name, shape in (shapes or {}).items()},
            tolerance=(tolerance,) if isinstance(tolerance, str) else tuple(tolerance),
            output_map=output_map or {},
            input_map=input_map or {},
            options=options,
            seed=seed,
            locate=locate,
            devices=(device,) if isinstance(device, str) else tuple(device),
            runtime=runtime,
            threads=threads,
            accelerator=accelerator,
        )
    )


def check(model: AnyPath, target: str, *, runtime: str | None = None) -> TargetVerdict:
    """Say whether an artifact runs on a kind of device, before it is shipped there.

    Args:
        model: the artifact.
        target: ``rpi4``, or ``rpi4@bullseye`` for another release than the default one.
        runtime: only this one, ``NAME`` or ``NAME==VERSION``, also one that the target does not name.

    Returns:
        The verdict (``runs``, ``refused``, ``unknown``), and the problems of each runtime there.

    Raises:
        edgeconv.errors.UsageError: no such file, target or runtime.
        edgeconv.errors.InvalidModelError: the file is truncated or corrupt.

    >>> verdict = edgeconv.check(digits / "out" / "digits.fp32.tflite", "microcontroller")
    >>> verdict.verdict, verdict.runtimes[0].problems[0].what
    ('refused', 'it is fp32; taken there is int8 only')
    """
    from edgeconv.checking.target import check as run

    return run(Path(model), target, runtime=runtime)


def benchmark(
    *artifacts: AnyPath,
    device: str | Sequence[str] = (),
    runtime: str | None = None,
    threads: int | Sequence[int] = 1,
    accelerator: str | None = None,
    launches: int = 10,
    seconds: float = 5.0,
    data: AnyPath | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    seed: int = 0,
    **options: Any,
) -> tuple[Measurement, ...]:
    """Measure artifacts in fresh processes that take turns: latency, load time, memory, with all samples.

    Args:
        artifacts: files or folders.
        device: name or names; this machine where there are none.
        runtime, accelerator: see :func:`load`.
        threads: a number, or several that are measured each.
        launches: fresh processes of each.
        seconds: of timed inferences of each, all launches together.
        data: samples in place of seeded inputs.
        shapes: input name to its full shape.
        seed: of the inputs and the order.
        options: what opening needs (``signature``, ``inputs``, ``outputs``).

    Returns:
        One measurement an artifact, device and number of threads, in that order;
        ``edgeconv.latency.summary.summarise`` makes numbers of it.

    Raises:
        edgeconv.errors.EdgeconvError: the call is wrong, or one of them cannot be measured.

    >>> measured, = edgeconv.benchmark(digits / "out" / "digits.fp32.tflite", launches=2, seconds=0.2)
    >>> len(measured.launches), measured.launches[0].samples.min() > 0
    (2, np.True_)
    """
    from edgeconv.latency.bench import Effort
    from edgeconv.recipe.benching import BenchRequest, bench

    found = bench(
        BenchRequest(
            artifacts=tuple(Path(artifact) for artifact in artifacts),
            devices=(device,) if isinstance(device, str) else tuple(device),
            runtime=runtime,
            threads=(threads,) if isinstance(threads, int) else tuple(threads),
            accelerator=accelerator,
            effort=Effort(launches=launches, seconds=seconds, seed=seed),
            data=_path(data),
            shapes={name: tuple(shape) for name, shape in (shapes or {}).items()},
            seed=seed,
            options=options,
        )
    )
    if found.run.broken:
        raise found.run.broken[0].error
    return found.run.measurements


def regress(
    baseline: AnyPath,
    candidate: AnyPath,
    *,
    threshold: float = 0.01,
    alpha: float = 0.002,
    seconds: float = 15.0,
    device: str = "local",
    runtime: str | None = None,
    threads: int = 1,
    accelerator: str | None = None,
    data: AnyPath | None = None,
    culprit: bool = False,
    seed: int | None = None,
) -> tuple[Regression, ...]:
    """Say whether one artifact is slower than another, measured together, with the rates at which that errs.

    Args:
        baseline, candidate: files, or folders whose artifacts are matched by their names.
        threshold: the change of latency that matters, as a fraction.
        alpha: the probability that equals are called changed, over everything in the call.
        seconds: of measuring the latency of each pair, at most.
        device: name; this machine where it is not given.
        runtime, accelerator: see :func:`load`.
        threads: of the runtime.
        data: samples in place of seeded inputs.
        culprit: find what slowed down where one regressed.
        seed: of all that is drawn; from the system where ``None``.

    Returns:
        One for each pair: ``verdict`` is ``regressed``, ``ok``, ``improved`` or ``inconclusive``;
        ``quantities`` say it of latency, load time, memory and size, each with its interval.

    Raises:
        edgeconv.errors.EdgeconvError: the call is wrong, the device is emulated, or a runtime refuses one.

    >>> same = digits / "out" / "digits.fp32.tflite"
    >>> one, = edgeconv.regress(same, same, threshold=0.5, seconds=20)
    >>> one.verdict, one.quantities[0].name
    ('ok', 'latency')
    """
    from edgeconv.latency.decisions import Policy
    from edgeconv.recipe.regression import RegressionRequest
    from edgeconv.recipe.regression import regress as run

    found, _ = run(
        RegressionRequest(
            baseline=Path(baseline),
            candidate=Path(candidate),
            policy=Policy(threshold=threshold, alpha=alpha, seconds=seconds),
            device=device,
            runtime=runtime,
            threads=threads,
            accelerator=accelerator,
            data=_path(data),
            culprit=culprit,
            seed=seed,
        )
    )
    return tuple(found)


def load(
    model: AnyPath,
    *,
    device: str | None = None,
    runtime: str | None = None,
    threads: int = 1,
    accelerator: str | None = None,
    **options: Any,
) -> Session:
    """Open an artifact, in this process or on a device, and keep it loaded.

    Args:
        model: an artifact of any format that a runtime opens.
        device: name of a device (``edgeconv devices``); ``local`` is a process of its own on this machine.
            Where neither ``device`` nor ``runtime`` is given, the artifact is opened in this process.
        runtime: what opens it there, ``litert`` or with a version ``tflite-runtime==2.14.0``; on this machine
            in a side environment where it is not installed beside edgeconv.
        threads: intra-op threads.
        accelerator: ``cpu``, ``xnnpack``, ``cuda``, …, or a delegate's library.
        options: what the runtime takes (``signature``, ``providers``, ``xnnpack``, …).

    Returns:
        A session: ``session(inputs)`` takes and gives a dict of arrays by logical name;
        ``session.time(inputs, calls)`` gives the nanoseconds of so many inferences.

    Raises:
        edgeconv.errors.UsageError: the path, a name or an option is wrong.
        edgeconv.errors.UnavailableError: the device, or that runtime on it, is not here.
        edgeconv.errors.ConversionError: the runtime refuses the artifact.

    >>> with edgeconv.load(digits / "out" / "digits.fp32.tflite") as session:
    ...     scores = session({"image": images[:1]})["scores"]
    >>> scores.shape, str(scores.dtype)
    ((1, 10), 'float32')

    >>> with edgeconv.load(digits / "out" / "digits.fp32.tflite", device="local", runtime="litert") as there:
    ...     abs(there({"image": images[:1]})["scores"] - scores).max() < 1e-6
    np.True_
    """
    from edgeconv.recipe.loading import load as open_artifact

    return open_artifact(
        Path(model),
        device=device,
        runtime=runtime,
        threads=threads,
        accelerator=accelerator,
        options=options,
    )


def _path(path: AnyPath | None) -> Path | None:
    return None if path is None else Path(path)
