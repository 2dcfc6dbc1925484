"""Calibration sets are checked, and their ranges are those of LiteRT Quantizer's own calibrator."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeconv.errors import ConversionError, UsageError
from edgeconv.formats.base import Contract, TensorSpec
from edgeconv.quantization.calibration import check_calibration, synthetic_calibration

IMAGE = TensorSpec("image", "float32", (1, 6, 6, 3))
CONTRACT = Contract(inputs=(IMAGE,), outputs=())


def images(
    count: int = 12, low: float = -1.0, high: float = 1.0, seed: int = 0
) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [{"image": rng.uniform(low, high, (1, 6, 6, 3)).astype(np.float32)} for _ in range(count)]


def codes(samples, contract=CONTRACT, reference=None) -> list[str]:
    return [finding.code for finding in check_calibration(samples, contract, reference=reference)]


class TestChecks:
    def test_good_samples_give_no_findings(self) -> None:
        assert codes(images()) == []

    def test_too_few(self) -> None:
        assert codes(images(9)) == ["calibration-few"]
        assert codes(images(10)) == []

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_values_that_are_not_finite_name_the_sample(self, value) -> None:
        samples = images()
        samples[4]["image"][0, 1, 2, 0] = value
        [finding] = check_calibration(samples, CONTRACT)
        assert finding.code == "calibration-nan"
        assert "sample 4" in finding.message
        assert finding.where == "input 'image'"

    def test_constant_inputs(self) -> None:
        samples = [{"image": np.zeros((1, 6, 6, 3), np.float32)} for _ in range(12)]
        assert "calibration-constant" in codes(samples)

    def test_a_constant_scalar_is_nothing_unusual(self) -> None:
        contract = Contract(inputs=(IMAGE, TensorSpec("keep", "float32", ())), outputs=())
        samples = [{**sample, "keep": np.float32(1)} for sample in images()]
        assert codes(samples, contract) == []

    def test_repeated_samples(self) -> None:
        samples = images(11) + images(1)
        [finding] = check_calibration(samples, CONTRACT)
        assert finding.code == "calibration-same"
        assert "sample 11 equals sample 0" in finding.message

    def test_pixels_that_were_not_normalised_as_the_contract_says(self) -> None:
        contract = Contract((IMAGE,), (), normalisation={"mean": [127.5] * 3, "std": [127.5] * 3})
        assert codes(images(low=0, high=255), contract) == ["calibration-scale"]
        assert codes(images(), contract) == []

    def test_pixels_that_were_not_normalised_as_the_test_data_is(self) -> None:
        assert codes(images(low=0, high=255), reference=images(seed=9)) == ["calibration-scale"]

    @pytest.mark.parametrize("scale", [0.01, 90.0])
    def test_a_range_unlike_that_of_the_test_data(self, scale) -> None:
        samples = images(low=-scale, high=scale)
        assert codes(samples, reference=images(seed=9)) == ["calibration-range"]

    def test_one_outlier(self) -> None:
        samples = images(30)
        samples[7]["image"][0, 0, 0, 0] = 500.0
        [finding] = check_calibration(samples, CONTRACT)
        assert finding.code == "calibration-outlier"
        assert "sample 7" in finding.message

    def test_strings_are_looked_at_for_repeats_only(self) -> None:
        contract = Contract((TensorSpec("text", "string", (1,)),), ())
        samples = [{"text": np.array([b"a"], dtype=object)} for _ in range(12)]
        assert codes(samples, contract) == ["calibration-same"]

    @settings(max_examples=30, deadline=None)
    @given(count=st.integers(10, 20), seed=st.integers(0, 1000), scale=st.floats(1e-3, 1e3))
    def test_any_well_mixed_set_passes(self, count, seed, scale) -> None:
        assert codes(images(count, -scale, scale, seed), reference=images(5, -scale, scale, seed + 1)) == []


class TestMadeUpSamples:
    def test_fit_the_contract_and_come_again_with_their_seed(self) -> None:
        first, again = synthetic_calibration(CONTRACT, 7), synthetic_calibration(CONTRACT, 7)
        other = synthetic_calibration(CONTRACT, 7, seed=1)
        assert len(first) == 7
        assert all(s["image"].shape == (1, 6, 6, 3) and s["image"].dtype == np.float32 for s in first)
        np.testing.assert_array_equal(first[3]["image"], again[3]["image"])
        assert not np.array_equal(first[3]["image"], other[3]["image"])

    def test_are_of_batch_one_where_the_batch_is_not_fixed(self) -> None:
        contract = Contract((TensorSpec("x", "float32", (None, 5)),), ())
        assert {s["x"].shape for s in synthetic_calibration(contract, 5)} == {(1, 5)}

    def test_need_a_known_rank(self) -> None:
        with pytest.raises(UsageError):
            synthetic_calibration(Contract((TensorSpec("x", "float32", None),), ()), 3)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A small network with a branch, a transpose and several kinds of activation, as a TFLite file."""
    import tensorflow as tf

    rng = np.random.default_rng(3)
    kernel = tf.constant(rng.normal(0, 0.3, (3, 3, 3, 8)), tf.float32)
    dense = tf.constant(rng.normal(0, 0.3, (8, 4)), tf.float32)

    @tf.function(input_signature=[tf.TensorSpec([1, 6, 6, 3], tf.float32, "image")])
    def f(image):
        x = tf.nn.conv2d(image, kernel, 1, "SAME")
        left, right = tf.nn.relu6(x), tf.sigmoid(x)
        mean = tf.reduce_mean(tf.transpose(left * right + 0.1, [0, 2, 1, 3]), [1, 2])
        return {"y": tf.nn.softmax(mean @ dense)}

    folder = tmp_path_factory.mktemp("network")
    module = tf.Module()
    module.f = f
    tf.saved_model.save(module, str(folder / "m"), signatures={"serving_default": f.get_concrete_function()})
    path = folder / "m.tflite"
    path.write_bytes(tf.lite.TFLiteConverter.from_saved_model(str(folder / "m")).convert())
    return path


def ranges_of(path, samples, rule):
    from edgeconv.quantization.litert_quantizer import activations, load_float_model
    from edgeconv.quantization.ranges import collect_ranges
    from edgeconv.runtimes.litert import RUNTIME

    source = load_float_model(path.read_bytes(), str(path))
    with RUNTIME.open(path, None, threads=2, options={"preserve_all_tensors": True}) as session:
        return collect_ranges(session, activations(source.model, 0), samples, rule=rule)


class TestRanges:
    def test_equal_those_of_the_quantizers_own_calibrator(self, network) -> None:
        from litert_quantizer import recipe
        from litert_quantizer.quantizer import Quantizer

        samples = images(8)
        quantizer = Quantizer(network.read_bytes(), recipe.static_wi8_ai8())
        expected = quantizer.calibrate({"serving_default": samples}, num_threads=2)
        found = ranges_of(network, samples, "moving_average")
        assert set(expected) <= set(found)
        for name, statistics in expected.items():
            for side in ("min", "max"):
                np.testing.assert_array_equal(found[name][side], statistics[side], err_msg=f"{name} {side}")

    def test_cover_all_that_was_seen(self, network) -> None:
        samples = images(8)
        found = ranges_of(network, samples, "min_max")
        [name] = [name for name in found if "serving_default_image" in name]
        assert float(found[name]["min"].item()) == min(s["image"].min() for s in samples)
        assert float(found[name]["max"].item()) == max(s["image"].max() for s in samples)

    @pytest.mark.parametrize("rule", ["min_max", "moving_average"])
    def test_do_not_depend_on_what_ran_before(self, network, rule) -> None:
        samples = images(4)
        first, again = (ranges_of(network, samples, rule) for _ in range(2))
        assert {n: r["max"].item() for n, r in first.items()} == {
            n: r["max"].item() for n, r in again.items()
        }

    def test_leave_out_infinite_values_but_not_nan(self, network) -> None:
        samples = images(2)
        samples[1]["image"][0, 0, 0, 0] = np.inf
        found = ranges_of(network, samples[1:], "min_max")
        [name] = [name for name in found if "serving_default_image" in name]
        assert found[name]["max"].item() <= 1.0
        samples[1]["image"][:] = np.nan
        with pytest.raises(ConversionError, match=r"sample 1 .* NaN"):
            ranges_of(network, samples, "min_max")

    def test_need_samples(self, network) -> None:
        with pytest.raises(ConversionError, match="no calibration samples"):
            ranges_of(network, [], "min_max")
