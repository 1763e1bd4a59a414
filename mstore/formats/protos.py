"""Message classes for the few TensorFlow messages that mstore reads.

Only the fields in use are declared. Strings are declared as ``bytes`` (the same on the wire), so
that text that is not UTF-8 can be shown instead of failing, and enumerations as ``int32``.

Field numbers: tensorflow/core/protobuf/tensor_bundle.proto, trackable_object_graph.proto,
meta_graph.proto and framework/{tensor_shape,tensor_slice,versions}.proto, and
python/training/checkpoint_state.proto; tensorflow/core/util/saved_tensor_slice.proto.
"""

from typing import Any

from mstore.descriptors import message_classes

_MESSAGES: dict[str, tuple[str, ...]] = {
    "Version": ("producer 1 int32", "min_consumer 2 int32", "bad_consumers 3 int32*"),
    "BundleHeader": ("num_shards 1 int32", "endianness 2 int32", "version 3 Version"),
    "Dim": ("size 1 int64",),
    "Shape": ("dim 2 Dim*", "unknown_rank 3 bool"),
    "Extent": ("start 1 int64", "length 2 int64?"),
    "Slice": ("extent 1 Extent*",),
    "BundleEntry": (
        "dtype 1 int32",
        "shape 2 Shape",
        "shard_id 3 int32",
        "offset 4 int64",
        "size 5 int64",
        "crc32c 6 fixed32",
        "slices 7 Slice*",
    ),
    "SavedSliceMeta": ("name 1 bytes", "shape 2 Shape", "type 3 int32", "slice 4 Slice*"),
    "Child": ("node_id 1 int32", "local_name 2 bytes"),
    "Attribute": ("name 1 bytes", "full_name 2 bytes", "checkpoint_key 3 bytes"),
    "Slot": (
        "original_variable_node_id 1 int32",
        "slot_name 2 bytes",
        "slot_variable_node_id 3 int32",
    ),
    "Object": ("children 1 Child*", "attributes 2 Attribute*", "slot_variables 3 Slot*"),
    "TensorInfo": ("name 1 bytes", "dtype 2 int32", "tensor_shape 3 Shape"),
    "TensorInfoEntry": ("key 1 bytes", "value 2 TensorInfo"),
    "SignatureDef": (
        "inputs 1 TensorInfoEntry*",
        "outputs 2 TensorInfoEntry*",
        "method_name 3 bytes",
    ),
    "SignatureEntry": ("key 1 bytes", "value 2 SignatureDef"),
    "CheckpointState": (
        "model_checkpoint_path 1 bytes",
        "all_model_checkpoint_paths 2 bytes*",
        "all_model_checkpoint_timestamps 3 double*",
        "last_preserved_timestamp 4 double",
    ),
}

_CLASSES = message_classes("mstore.formats", _MESSAGES)
BundleHeader: Any = _CLASSES["BundleHeader"]
"""``BundleHeaderProto``."""
Shape: Any = _CLASSES["Shape"]
"""``TensorShapeProto``."""
BundleEntry: Any = _CLASSES["BundleEntry"]
"""``BundleEntryProto``."""
Version: Any = _CLASSES["Version"]
"""``VersionDef``."""
SavedSliceMeta: Any = _CLASSES["SavedSliceMeta"]
"""One tensor in ``SavedTensorSliceMeta``, the list in a file of the V1 format."""
TrackableObject: Any = _CLASSES["Object"]
"""``TrackableObjectGraph.TrackableObject``."""
SignatureEntry: Any = _CLASSES["SignatureEntry"]
"""One entry of ``MetaGraphDef.signature_def``."""
CheckpointState: Any = _CLASSES["CheckpointState"]
"""``CheckpointState``, the contents of the file called ``checkpoint``."""
