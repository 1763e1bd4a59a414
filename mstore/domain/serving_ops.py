"""Ops that mean something for serving: what they need, and what they do beside computing.

Op names: TensorFlow's op registry (tensorflow/core/ops/*.cc).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

PYTHON_OPS = frozenset({"EagerPyFunc", "PyFunc", "PyFuncStateless"})
"""Ops that call back into the Python process that made the graph; no server is one."""

GPU_RNN_PREFIX = "CudnnRNN"
"""Ops that have a kernel on graphics cards only."""

VARIABLE_OPS = frozenset({"VarHandleOp", "Variable", "VariableV2"})
"""Ops that hold a variable, to be restored from the checkpoint beside the graph."""

TABLE_FILE_OPS: Mapping[str, int] = MappingProxyType(
    {"InitializeTableFromTextFile": 1, "InitializeTableFromTextFileV2": 1}
)
"""Ops that fill a lookup table from a file, with the number of the input that names it."""

CHECKPOINT_OPS = frozenset(
    {
        "MergeV2Checkpoints",
        "Restore",
        "RestoreSlice",
        "RestoreV2",
        "Save",
        "SaveSlices",
        "SaveV2",
    }
)
"""Ops of the saver, which every SavedModel has; anywhere else they read or write files."""

FILE_READS: Mapping[str, int | None] = MappingProxyType(
    {
        "FixedLengthRecordDataset": 0,
        "FixedLengthRecordDatasetV2": 0,
        "FixedLengthRecordReader": None,
        "FixedLengthRecordReaderV2": None,
        "GenerateVocabRemapping": 0,
        "LMDBReader": None,
        "LoadAndRemapMatrix": 0,
        "LoadDataset": 0,
        "MatchingFiles": 0,
        "MatchingFilesDataset": 0,
        "ReadFile": 0,
        "RecordInput": None,
        "Restore": 0,
        "RestoreSlice": 0,
        "RestoreV2": 0,
        "SqlDataset": None,
        "TFRecordDataset": 0,
        "TFRecordDatasetV2": 0,
        "TFRecordReader": None,
        "TFRecordReaderV2": None,
        "TextLineDataset": 0,
        "TextLineReader": None,
        "TextLineReaderV2": None,
        "WholeFileReader": None,
        "WholeFileReaderV2": None,
    }
)
"""Ops that read files, with the number of the input that names the file, where there is one."""

FILE_WRITES: Mapping[str, int | None] = MappingProxyType(
    {
        "CreateSummaryDbWriter": 1,
        "CreateSummaryFileWriter": 1,
        "DatasetToTFRecord": 1,
        "MergeV2Checkpoints": 1,
        "Save": 0,
        "SaveDataset": 1,
        "SaveDatasetV2": 1,
        "SaveSlices": 0,
        "SaveV2": 0,
        "WriteFile": 0,
    }
)
"""Ops that write files, with the number of the input that names the file, where there is one."""

FILE_INPUTS: Mapping[str, int | None] = MappingProxyType(
    {**FILE_READS, **FILE_WRITES, **TABLE_FILE_OPS}
)
"""All ops that open files."""

PRINT_OPS = frozenset({"Print", "PrintV2"})
"""Ops that write to the server's log."""

RANDOM_OPS = frozenset(
    {
        "Multinomial",
        "ParameterizedTruncatedNormal",
        "RandomCrop",
        "RandomGamma",
        "RandomPoisson",
        "RandomPoissonV2",
        "RandomShuffle",
        "RandomStandardNormal",
        "RandomUniform",
        "RandomUniformInt",
        "StatefulRandomBinomial",
        "StatefulStandardNormal",
        "StatefulStandardNormalV2",
        "StatefulTruncatedNormal",
        "StatefulUniform",
        "StatefulUniformFullInt",
        "StatefulUniformInt",
        "TruncatedNormal",
    }
)
"""Ops that give something else each time they run."""

FOREST_PREFIX = "SimpleML"
"""Ops of TensorFlow Decision Forests, which TensorFlow Serving has from 2.11 on."""


@dataclass(frozen=True, slots=True)
class OpList:
    """The ops of one library.

    Attributes:
        source: the library and its version.
        names: the names of its ops.
    """

    source: str
    names: frozenset[str]
