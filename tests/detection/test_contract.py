"""What pipeline.config and labels put into a contract."""

import pytest

from edgeconv.detection.contract import labels_beside, with_meaning
from edgeconv.detection.pipeline import read_pipeline
from edgeconv.errors import UsageError
from edgeconv.formats.base import Contract, TensorSpec

CONFIG = """
model { ssd { num_classes: 2
  image_resizer { fixed_shape_resizer { height: 64 width: 48 } }
  feature_extractor { type: "ssd_mobilenet_v2" } } }
eval_input_reader { label_map_path: "/data/of/somebody/labels.pbtxt" }
"""
LABELS = "item { id: 1 name: 'cat' } item { id: 2 name: 'dog' }"


@pytest.fixture
def pipeline(tmp_path):
    (tmp_path / "pipeline.config").write_text(CONFIG)
    return read_pipeline(tmp_path / "pipeline.config")


def contract(shape=(None, None, None, 3), dtype="uint8"):
    boxes = TensorSpec("detection_boxes", "float32", (None, 10, 4))
    return Contract((TensorSpec("image_tensor", dtype, shape),), (boxes,))


def test_layout_normalisation_and_size_are_known(pipeline):
    meaning = with_meaning(contract(), pipeline)
    assert meaning.contract.layout == "NHWC"
    assert meaning.contract.input("image_tensor").shape == (1, 64, 48, 3)
    assert meaning.contract.normalisation["mean"] == [127.5, 127.5, 127.5]
    assert meaning.contract.normalisation["inside"] is True
    assert "--shape image_tensor=1,HEIGHT,WIDTH,3" in meaning.notes[0]


def test_an_open_size_stays_open_where_nothing_needs_it_fixed(pipeline):
    meaning = with_meaning(contract(), pipeline, pin=False)
    assert meaning.contract.inputs == contract().inputs
    assert meaning.contract.layout == "NHWC"


def test_a_graph_behind_its_preprocessing_has_to_be_given_normalised_pixels(pipeline):
    meaning = with_meaning(contract((1, 64, 48, 3), "float32"), pipeline)
    assert meaning.contract.normalisation["inside"] is False
    assert meaning.notes == ()


def test_what_the_user_pinned_counts_more_than_the_resizer(pipeline):
    meaning = with_meaning(contract(), pipeline, shape=(1, 100, 100, 3))
    assert meaning.contract.input("image_tensor").shape == (1, 100, 100, 3)
    with pytest.raises(UsageError, match="does not fit"):
        with_meaning(contract(), pipeline, shape=(1, 100, 100, 1))


def test_labels_of_the_same_name_beside_the_configuration_are_taken(pipeline, tmp_path):
    assert labels_beside(pipeline) is None
    (tmp_path / "labels.pbtxt").write_text(LABELS)
    assert with_meaning(contract(), pipeline).contract.labels == ("background", "cat", "dog")


def test_the_path_in_the_configuration_itself_is_never_read(tmp_path):
    secret = tmp_path / "elsewhere" / "labels.pbtxt"
    secret.parent.mkdir()
    secret.write_text(LABELS)
    (tmp_path / "pipeline.config").write_text(CONFIG.replace("/data/of/somebody/labels.pbtxt", str(secret)))
    assert labels_beside(read_pipeline(tmp_path / "pipeline.config")) is None


def test_labels_that_the_user_names_are_taken(pipeline, tmp_path):
    own = tmp_path / "own.txt"
    own.write_text("nothing\ncat\n")
    assert with_meaning(contract(), pipeline, own).contract.labels == ("nothing", "cat")


def test_two_images_are_left_alone(pipeline):
    two = Contract(
        (TensorSpec("a", "uint8", (1, None, None, 3)), TensorSpec("b", "uint8", (1, None, None, 3))), ()
    )
    assert with_meaning(two, pipeline).contract.inputs == two.inputs
