"""Message classes of TensorFlow Serving's API, without TensorFlow, which its own package imports.

Field numbers: tensorflow_serving/apis/{model,get_model_status,predict,prediction_log}.proto and
model_management.proto there, tensorflow_serving/util/status.proto, and of tensorflow/core/framework
{tensor,tensor_shape}.proto. Maps are declared as what they are on the wire, repeated entries;
strings as bytes; enumerations as int32.
"""

from typing import Any

from mstore.descriptors import message_classes

_CLASSES = message_classes(
    "mstore.serving",
    {
        "Int64Value": ("value 1 int64",),
        "ModelSpec": ("name 1 bytes", "version 2 Int64Value", "signature_name 3 bytes"),
        "StatusProto": ("error_code 1 int32", "error_message 2 bytes"),
        "GetModelStatusRequest": ("model_spec 1 ModelSpec",),
        "ModelVersionStatus": ("version 1 int64", "state 2 int32", "status 3 StatusProto"),
        "GetModelStatusResponse": ("model_version_status 1 ModelVersionStatus*",),
        "Dim": ("size 1 int64",),
        "Shape": ("dim 2 Dim*", "unknown_rank 3 bool"),
        "Tensor": (
            "dtype 1 int32",
            "tensor_shape 2 Shape",
            "tensor_content 4 bytes",
            "float_val 5 float*",
            "double_val 6 double*",
            "int_val 7 int32*",
            "string_val 8 bytes*",
            "scomplex_val 9 float*",
            "int64_val 10 int64*",
            "bool_val 11 bool*",
            "dcomplex_val 12 double*",
            "half_val 13 int32*",
            "uint32_val 16 uint32*",
            "uint64_val 17 uint64*",
        ),
        "Entry": ("key 1 bytes", "value 2 Tensor"),
        "PredictRequest": ("model_spec 1 ModelSpec", "inputs 2 Entry*"),
        "PredictResponse": ("outputs 1 Entry*", "model_spec 2 ModelSpec"),
        "PredictLog": ("request 1 PredictRequest",),
        "PredictionLog": ("predict_log 6 PredictLog",),
        # The config is a ModelServerConfig that is serialized already.
        "ReloadConfigRequest": ("config 1 bytes",),
        "ReloadConfigResponse": ("status 1 StatusProto",),
    },
)
GetModelStatusRequest: Any = _CLASSES["GetModelStatusRequest"]
GetModelStatusResponse: Any = _CLASSES["GetModelStatusResponse"]
Tensor: Any = _CLASSES["Tensor"]
"""``TensorProto``."""
PredictRequest: Any = _CLASSES["PredictRequest"]
PredictResponse: Any = _CLASSES["PredictResponse"]
PredictionLog: Any = _CLASSES["PredictionLog"]
ReloadConfigRequest: Any = _CLASSES["ReloadConfigRequest"]
ReloadConfigResponse: Any = _CLASSES["ReloadConfigResponse"]
