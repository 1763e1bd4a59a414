"""A server's configuration is changed where it is ours, and nowhere else. No TensorFlow here."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mstore.domain.model_configs import ModelEntry, Selection, selections
from mstore.errors import ConflictError, InputError
from mstore.serving import model_config
from mstore.serving.config_text import Body, parse
from mstore.serving.model_config import read, select, serialized
from tests.serving import server_configs

FILE = """\
# Who to call: serving@example.org
model_config_list {
  # the old one
  config {
    name: 'resnet' base_path: "/models/resnet"
    model_platform: "tensorflow"
    model_version_policy: { all: {} }  # all of them
    logging_config { sampling_config { sampling_rate: 0.5 } }
  }
  config: <
    name: "mnist"  # ours
    base_path: "/models/mnist"
    model_platform: 'tensorflow'
    # what is live
    model_version_policy {
      specific { versions: [3, 4] }
    }
    version_labels { key: "stable" value: 3 }
    version_labels { key: "canary", value: 4 };
    brand_new_field: { x: [1, 2], y: "}" 'more' }
  >
}
"""

CHANGED = """\
# Who to call: serving@example.org
model_config_list {
  # the old one
  config {
    name: 'resnet' base_path: "/models/resnet"
    model_platform: "tensorflow"
    model_version_policy: { all: {} }  # all of them
    logging_config { sampling_config { sampling_rate: 0.5 } }
  }
  config: <
    name: "mnist"  # ours
    base_path: "/models/mnist"
    model_platform: 'tensorflow'
    # what is live
    model_version_policy {
      specific {
        versions: 5
      }
    }
    version_labels {
      key: "stable"
      value: 5
    }
    brand_new_field: { x: [1, 2], y: "}" 'more' }
  >
}
"""


def test_a_file_of_many_hands_is_read() -> None:
    assert read(FILE) == {
        "resnet": ModelEntry("resnet", "/models/resnet", "all"),
        "mnist": ModelEntry(
            "mnist", "/models/mnist", "specific", (3, 4), {"stable": 3, "canary": 4}
        ),
    }
    assert read("") == {}


def test_all_but_our_fields_stay_as_they_are() -> None:
    made = select(FILE, "mnist", "/elsewhere", Selection((5,), {"stable": 5}))
    assert made == CHANGED
    assert select(made, "mnist", "/elsewhere", Selection((5,), {"stable": 5})) == made


def test_what_is_not_there_is_made() -> None:
    one = select("", "a", "/models/a", Selection((1,), {}))
    assert one == (
        'model_config_list {\n  config {\n    name: "a"\n    base_path: "/models/a"\n'
        '    model_platform: "tensorflow"\n    model_version_policy {\n      specific {\n'
        "        versions: 1\n      }\n    }\n  }\n}\n"
    )
    two = select(one, "b", "/models/b", Selection((1, 2), {"x": 2}))
    assert two.startswith(one[: one.rindex("}")])
    assert list(read(two)) == ["a", "b"]


@pytest.mark.parametrize(
    "text",
    [
        "model_config_list { config { name: 'a' base_path: '/a' } }",
        "model_config_list{config{name:'a' base_path:'/a' model_version_policy{latest{}}}}",
        "model_config_list { config { name: 'a' model_version_policy { all {} } base_path: '' } }",
        "model_config_list: { config: [{ name: 'b' base_path: '/b' }, { name: 'a' }]}",
        "model_config_list {\n config { version_labels { key:'x' value:1 } name: 'a'\n} }",
        "model_config_list { config { name: 'a' } # { not here\n }",
        "model_config_list <\n>",
        "# nothing yet",
        "model_config_list {}",
        "model_config_list {\r\n  config {\r\n    name: 'a'\r\n    base_path: '/a'\r\n  }\r\n}\r\n",
    ],
)
def test_any_way_of_writing_is_understood(text: str) -> None:
    chosen = Selection((7, 9), {"stable": 7})
    made = select(text, "a", "/a", chosen)
    entry = read(made)["a"]
    assert (entry.policy, entry.versions, entry.labels) == ("specific", (7, 9), {"stable": 7})
    others = {name: e for name, e in read(text).items() if name != "a"}
    assert {name: e for name, e in read(made).items() if name != "a"} == others
    back = select(made, "a", "/a", Selection((1,), {}))
    assert read(back)["a"].versions == (1,)


def test_the_real_messages_say_the_same_before_and_after() -> None:
    """Hold a change against tensorflow-serving-api, which takes no field that it does not know."""
    known = FILE.replace("    brand_new_field: { x: [1, 2], y: \"}\" 'more' }\n", "")
    before = {config.name: config for config in server_configs.parse(known)}
    made = select(known, "mnist", "/elsewhere", Selection((5, 6), {"stable": 5}))
    after = {config.name: config for config in server_configs.parse(made)}
    assert after["resnet"] == before["resnet"]
    assert (after["mnist"].policy.versions, after["mnist"].labels) == ((5, 6), {"stable": 5})
    assert after["mnist"].base == before["mnist"].base
    data = serialized(made)
    assert data is not None
    assert {config.name: config for config in server_configs.received(data)} == after


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("model_config_list {\n  config {", "line 2, column 11: '}' is missing"),
        ("model_config_list {\n  config }", "line 2, column 10: ':' is missing behind config"),
        ("model_config_list { § }", "line 1, column 21"),
        ('x: "open', "line 1, column 4"),
        ("model_config_list { config { name: [1, 'a' } }", "is missing"),
        ("model_config_list { config { name: } }", "a value is missing"),
        ("a " * 5, "':' is missing behind a"),
        ("a {" * 100, "nested too deeply"),
        ("model_config_list { config { name: 3 } }", "no ModelServerConfig"),
        (FILE + "model_config_list { config { name: 'mnist' } }", "no ModelServerConfig"),
        ("model_config_list { config { name: 'a' } config { name: 'a' } }", "listed twice"),
        (
            "model_config_list { config { name: 'a' model_version_policy { all {} latest {} } } }",
            "latest and all, and needs one",
        ),
    ],
)
def test_what_is_no_configuration_is_refused(text: str, what: str) -> None:
    with pytest.raises(InputError, match=what.replace("(", r"\(")):
        select(text, "a", "/a", Selection((1,), {}))


@given(st.text(alphabet="abc {}<>[]:,;#'\"\n\\1-.", max_size=60))
def test_no_text_is_too_odd(text: str) -> None:
    try:
        parse(text)
        select(text, "a", "/a", Selection((1,), {}))
    except InputError:
        pass


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("sampling_rate: 0.5", "sampling_rate: 0.6"),  # another model
        ('"/models/mnist"', '"/models/other"'),  # ours, and not ours to change
        ("versions: 5", "versions: 6"),  # what was wanted
        ("all: {}", "latest: {}"),
        ("resnet'", "resnot'"),
    ],
)
def test_a_change_that_is_not_the_one_that_was_wanted_is_refused(
    monkeypatch: pytest.MonkeyPatch, old: str, new: str
) -> None:
    real = model_config._changed

    def wrong(text: str, entry: Body, chosen: Selection) -> str:
        made = real(text, entry, chosen)
        assert old in made
        return made.replace(old, new)

    monkeypatch.setattr(model_config, "_changed", wrong)
    with pytest.raises(ConflictError, match="cannot be changed here"):
        select(FILE, "mnist", "/elsewhere", Selection((5,), {"stable": 5}))


def test_what_we_do_not_know_is_not_sent() -> None:
    assert serialized(FILE) is None
    assert serialized("model_config_list { config { name: 'a' model_type: TENSORFLOW } }")


@pytest.mark.parametrize(
    ("versions", "labels", "label", "steps"),
    [
        ((), {}, None, [((4,), {})]),
        ((3,), {}, None, [((3, 4), {}), ((4,), {})]),
        ((3,), {"s": 3}, None, [((3, 4), {"s": 3})]),
        ((3,), {"s": 3}, "s", [((3, 4), {"s": 3}), ((3, 4), {"s": 4}), ((4,), {"s": 4})]),
        ((3,), {"s": 3}, "c", [((3, 4), {"s": 3}), ((3, 4), {"s": 3, "c": 4})]),
        ((4,), {}, None, [((4,), {})]),
    ],
)
def test_a_server_is_led_step_by_step(
    versions: tuple[int, ...],
    labels: dict[str, int],
    label: str | None,
    steps: list[tuple[tuple[int, ...], dict[str, int]]],
) -> None:
    entry = ModelEntry("m", "/m", "specific", versions, labels)
    found = selections(entry, 4, [label] if label else [])
    assert [(step.versions, dict(step.labels)) for step in found] == steps
