"""What op types and node names say about a node's purpose: saver, training, front end, file access."""

from __future__ import annotations

import re

VARIABLE_OPS = frozenset({"Variable", "VariableV2", "VarHandleOp", "TemporaryVariable", "AutoReloadVariable"})
PLACEHOLDER_OPS = frozenset({"Placeholder", "PlaceholderV2", "PlaceholderWithDefault"})
QUEUE_OPS = frozenset(
    {"QueueDequeue", "QueueDequeueV2", "QueueDequeueMany", "QueueDequeueManyV2", "QueueDequeueUpTo"}
    | {"QueueDequeueUpToV2", "ReaderRead", "ReaderReadV2", "ReaderReadUpTo", "ReaderReadUpToV2", "Unstage"}
)
ITERATOR_OPS = frozenset({"IteratorGetNext", "IteratorGetNextSync", "IteratorGetNextAsOptional"})
CONTROL_FLOW_V1 = frozenset(
    {"Switch", "Merge", "Enter", "Exit", "NextIteration", "LoopCond", "RefSwitch", "RefEnter"}
)
CONTROL_FLOW_V2 = frozenset({"If", "StatelessIf", "While", "StatelessWhile", "Case", "StatelessCase"})
RANDOM_OPS = frozenset(
    {
        "RandomUniform",
        "RandomStandardNormal",
        "TruncatedNormal",
        "RandomUniformInt",
        "Multinomial",
        "RandomShuffle",
    }
    | {"RandomGamma", "RandomPoisson", "RandomPoissonV2", "ParameterizedTruncatedNormal", "Dropout"}
    | {
        "StatelessRandomUniform",
        "StatelessRandomUniformV2",
        "StatelessRandomNormal",
        "StatelessRandomNormalV2",
    }
    | {"StatefulUniform", "StatefulStandardNormalV2", "StatelessMultinomial", "StatelessTruncatedNormal"}
    | {"StatelessTruncatedNormalV2"}
)
BATCH_NORM_OPS = frozenset({"FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3", "_FusedBatchNormEx"})
LOSS_OPS = frozenset(
    {"SoftmaxCrossEntropyWithLogits", "SparseSoftmaxCrossEntropyWithLogits", "L2Loss", "CTCLoss", "CTCLossV2"}
    | {"InTopK", "InTopKV2", "NegTrain"}
)
FRONT_END_OPS: dict[str, str] = {
    "DecodeWav": "reads a WAV file's bytes",
    "AudioSpectrogram": "computes a spectrogram",
    "Mfcc": "computes MFCC features",
    "DecodeJpeg": "decodes a JPEG",
    "DecodePng": "decodes a PNG",
    "DecodeImage": "decodes an image file",
    "DecodeBmp": "decodes a BMP",
    "DecodeGif": "decodes a GIF",
    "DecodeBase64": "decodes base64",
    "DecodeRaw": "decodes raw bytes",
    "DecodeCSV": "decodes CSV lines",
    "ParseExample": "parses serialized tf.Example records",
    "ParseExampleV2": "parses serialized tf.Example records",
    "ParseSingleExample": "parses a serialized tf.Example record",
    "StringSplit": "splits strings",
    "StringSplitV2": "splits strings",
    "StringToNumber": "parses numbers from strings",
    "StringToHashBucketFast": "hashes strings",
    "StringToHashBucketStrong": "hashes strings",
    "StringToHashBucket": "hashes strings",
    "StaticRegexReplace": "edits strings",
    "RegexReplace": "edits strings",
    "HashTable": "looks values up in a table",
    "HashTableV2": "looks values up in a table",
    "MutableHashTableV2": "looks values up in a table",
    "LookupTableFindV2": "looks values up in a table",
    "LookupTableFind": "looks values up in a table",
}
UNTRUSTED_OPS: dict[str, str] = {
    "ReadFile": "reads a file",
    "WriteFile": "writes a file",
    "MatchingFiles": "lists files",
    "PrintV2": "can write to a file",
    "PyFunc": "runs Python code",
    "PyFuncStateless": "runs Python code",
    "EagerPyFunc": "runs Python code",
    "DebugIdentity": "writes to a debug address",
    "DebugIdentityV2": "writes to a debug address",
    "SaveV2": "writes a checkpoint",
    "Save": "writes a checkpoint",
    "SaveSlices": "writes a checkpoint",
    "RestoreV2": "reads a checkpoint",
    "Restore": "reads a checkpoint",
    "RestoreSlice": "reads a checkpoint",
    "ShardedFilename": "names a file to write",
    "MergeV2Checkpoints": "writes a checkpoint",
    "TFRecordReader": "reads a file",
    "TFRecordReaderV2": "reads a file",
    "TextLineReader": "reads a file",
    "TextLineReaderV2": "reads a file",
    "FixedLengthRecordReader": "reads a file",
    "FixedLengthRecordReaderV2": "reads a file",
    "WholeFileReader": "reads a file",
    "WholeFileReaderV2": "reads a file",
    "TFRecordDataset": "reads a file",
    "TextLineDataset": "reads a file",
    "FixedLengthRecordDataset": "reads a file",
    "CreateSummaryFileWriter": "writes a file",
    "AudioMicrofrontendFile": "reads a file",
    "ImmutableConst": "maps a file into memory",
    "InitializeTableFromTextFile": "reads a file",
    "InitializeTableFromTextFileV2": "reads a file",
    "DumpTensor": "writes a file",
    "RemoteCall": "runs on another machine",
    "RpcCall": "calls another machine",
}
# An asset table is how a SavedModel ships its vocabulary; it stays inside the model's folder.
TABLE_FROM_FILE_OPS = frozenset({"InitializeTableFromTextFile", "InitializeTableFromTextFileV2"})

_BOOKKEEPING = re.compile(
    r"^(NoOp|Assert|Print|PrintV2|Assign\w*|Apply\w+|SparseApply\w+|Resource(Sparse)?Apply\w+|Scatter(Add|Sub|Update|Mul)"
    r"|ResourceScatter\w+|\w*Summary(V2)?|Save\w*|Restore\w*|ShardedFilename|MergeV2Checkpoints|Merge\w*Summary"
    r"|Queue(Enqueue|Close|Size|IsClosed)\w*|FIFOQueue\w*|RandomShuffleQueue\w*|PaddingFIFOQueue\w*|\w+Reader(V2)?"
    r"|AssignVariableOp|ReadVariableOp|Variable\w*|VarHandleOp|VarIsInitializedOp|IsVariableInitialized"
    r"|DestroyResourceOp|DestroyTemporaryVariable|InitializeTable\w*|LookupTableImport\w*|HashTable\w*|Mutable\w*Table\w*"
    r"|Iterator\w*|MakeIterator|\w+Dataset(V\d)?|Stage|StageClear|Const|Stack\w*Close\w*|TensorArray(Close|Grad)\w*"
    r"|TensorArrayV\d|TensorArray|ControlTrigger|Abort|CheckNumerics|BroadcastGradientArgs|StringFormat)$"
)
_TRAINING_SCOPE = re.compile(
    r"(^|/)(gradients?(_\d+)?|grad_ys\w*|[\w.]*Initializer|save(_\d+)?|saver?|report_uninitialized_\w+|summaries|summary"
    r"|global_step\w*|exponential_?moving_?average\w*|AssignMovingAvg\w*|AssignAvg\w*|clip_by_global_norm|global_norm"
    r"|init_all_tables|group_deps\w*|learning_rate\w*|ExponentialDecay\w*|Optimizer\w*|optimizer\w*|train_op|Adam(_\d+)?"
    r"|GradientDescent\w*|RMSProp\w*|Momentum|Adagrad\w*)(/|$)"
)
_LOSS_NAME = re.compile(
    r"(^|[/_])(loss(es)?(_\d+)?|total_loss|cost(_\d+)?|cross_?entropy\w*|xentropy\w*|softmax_cross\w*"
    r"|[ln]2_?loss|l[12]_regularizer|regulari[sz]\w*|mse|mean_squared\w*|hinge\w*)([/_]|$)",
    re.IGNORECASE,
)
_METRIC_NAME = re.compile(
    r"(^|/)(accuracy(_\d+)?|acc(_\d+)?|metrics?(_\d+)?|correct_prediction\w*|correct(_\d+)?|evaluation|auc(_\d+)?"
    r"|precision_at_\w+|recall_at_\w+|confusion_matrix\w*|error_rate)(/|$)",
    re.IGNORECASE,
)
_LABEL_NAME = re.compile(
    r"(^|[/_])(labels?|targets?|y_true|y_|ground_?truth|gt|truth|sample_weights?|target_\w+|train_labels?)(_\d+)?$",
    re.IGNORECASE,
)
_OUTPUT_NAME = re.compile(
    r"(^|[/_])(outputs?\d*|softmax|predict(ion|ions)?|probs?|probabilit(y|ies)|logits?|scores?|classes|boxes"
    r"|detection\w*|num_detections|result|netout|final_\w+|embeddings?|heatmaps?|labels_softmax)(_\d+)?(/\w+)?$",
    re.IGNORECASE,
)
_SWITCH_NAME = re.compile(
    r"(^|[/_])(is_?train(ing)?|train(ing)?(_?(phase|mode|flag))?|phase(_?train)?|keras_learning_phase|learning_phase"
    r"|keep_?prob\w*|drop_?(out)?(_?(rate|prob|keep_prob))?|istraining)(_\d+)?$",
    re.IGNORECASE,
)


def is_bookkeeping(operation: str) -> bool:
    """Whether nodes of this op type are never a model's answer: savers, assignments, summaries, queues."""
    return _BOOKKEEPING.match(operation) is not None


def in_training_scope(name: str) -> bool:
    """Whether the name lies in a scope that TensorFlow gives to gradients, savers and optimisers."""
    return _TRAINING_SCOPE.search(name) is not None


def is_loss(name: str, operation: str) -> bool:
    """Whether the node is a loss by its op type or name."""
    return operation in LOSS_OPS or _LOSS_NAME.search(name) is not None


def is_metric(name: str) -> bool:
    """Whether the name is that of a training metric."""
    return _METRIC_NAME.search(name) is not None


def is_label(name: str) -> bool:
    """Whether a placeholder of this name holds the right answers, not the question."""
    return _LABEL_NAME.search(name) is not None


def sounds_like_output(name: str) -> bool:
    """Whether people call a model's answer so."""
    return _OUTPUT_NAME.search(name) is not None


def is_training_switch(name: str) -> bool:
    """Whether a placeholder of this name switches between training and inference."""
    return _SWITCH_NAME.search(name) is not None
