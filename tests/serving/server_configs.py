"""Reads a server's configuration with the real messages of tensorflow-serving-api.

That package imports TensorFlow, which takes seconds and starts threads. All that is needed of it
are its protocol buffers, so an empty package stands in for it where it is not imported yet.
"""

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from tests.serving.rules import ModelConfig, Policy


def tensorflow_directory() -> Path:
    """Return where TensorFlow is installed, and let its protocol buffers be imported alone."""
    loaded = sys.modules.get("tensorflow")
    if loaded is not None:
        return Path(loaded.__path__[0])
    found = importlib.util.find_spec("tensorflow")
    assert found is not None
    assert found.origin is not None
    package = types.ModuleType("tensorflow")
    package.__path__ = [str(Path(found.origin).parent)]
    sys.modules["tensorflow"] = package
    return Path(found.origin).parent


tensorflow_directory()

from tensorflow_serving.config import model_server_config_pb2  # noqa: E402

ParseError = text_format.ParseError


def parse(text: str) -> list[ModelConfig]:
    """Return the entries of a ``ModelServerConfig`` in text.

    Raises:
        ParseError: the server would not take it.
    """
    return entries(text_format.Parse(text, model_server_config_pb2.ModelServerConfig()))


def received(data: bytes) -> list[ModelConfig]:
    """Return the entries of a serialized ``ModelServerConfig``, as it comes over gRPC."""
    return entries(model_server_config_pb2.ModelServerConfig.FromString(data))


def entries(config: Any) -> list[ModelConfig]:
    """Return the entries of a ``ModelServerConfig``."""
    found = []
    for entry in config.model_config_list.config:
        choice = entry.model_version_policy
        kind = choice.WhichOneof("policy_choice") or "latest"
        policy = Policy(kind, choice.latest.num_versions or 1, tuple(choice.specific.versions))
        labels = dict(entry.version_labels)
        found.append(ModelConfig(entry.name, Path(entry.base_path), policy, labels))
    return found
