"""Files of graphs that other tools open."""

from __future__ import annotations

from pathlib import Path

import pytest
from surgery_models import network

from edgeconv.errors import UsageError
from edgeconv.formats import describe
from edgeconv.formats.frozen_graph import read_graph_def
from edgeconv.reports.graph_files import crc32c, write_graph_file


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return network(tmp_path_factory.mktemp("files")) / "net.pb"


def test_tensorboard_reads_the_event_file(net: Path, tmp_path: Path) -> None:
    import tensorflow as tf

    said = write_graph_file(net, tmp_path / "logs", describe(net))
    (file,) = (tmp_path / "logs").iterdir()
    assert f"tensorboard --logdir {tmp_path / 'logs'}" in said
    version, graph = tf.compat.v1.train.summary_iterator(str(file))  # checks each record's checksums
    assert version.file_version == "brain.Event:2"
    read = tf.compat.v1.GraphDef.FromString(graph.graph_def)
    assert {n.name for n in read.node} == {n.name for n in read_graph_def(net).node}


def test_large_constants_are_left_out_on_request_and_keep_their_shapes(net: Path, tmp_path: Path) -> None:
    write_graph_file(net, tmp_path / "whole.pb", describe(net))
    said = write_graph_file(net, tmp_path / "slim.pb", describe(net), weights=False)
    assert (tmp_path / "slim.pb").stat().st_size < (tmp_path / "whole.pb").stat().st_size / 1.5
    assert "values of 2 large constants left out" in said
    kernel = next(n for n in read_graph_def(tmp_path / "slim.pb").node if n.name == "conv2/kernel")
    assert [d.size for d in kernel.attr["value"].tensor.tensor_shape.dim] == [3, 3, 8, 6]
    assert not kernel.attr["value"].tensor.tensor_content


def test_the_text_form_reads_back(net: Path, tmp_path: Path) -> None:
    write_graph_file(net, tmp_path / "net.pbtxt", describe(net))
    assert len(read_graph_def(tmp_path / "net.pbtxt").node) == len(read_graph_def(net).node)


def test_an_unknown_node_is_refused_with_the_nearest(net: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no node 'conv2/BiasAd'") as error:
        write_graph_file(net, tmp_path / "a.svg", describe(net), around="conv2/BiasAd")
    assert error.value.hint == "try --around conv2/BiasAdd"


def test_the_checksum_is_that_of_the_standard() -> None:
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4: 32 bytes of zeroes
