"""All versions of a registered model are models of one data set: the gate refuses any other."""

import json

import pytest
from mlflow import MlflowClient

from lenet5.core.errors import Refused
from lenet5.core.paths import Paths
from lenet5.registry import model_versions, promotion, promotion_history
from lenet5.tracking import data_set, tags
from tests.data_sets import MNIST, SHOES
from tests.registry.factory import add, of_data, params

DIGITS = of_data("MNIST", *"0123456789")
FAIR, GOOD = range(40), range(10)


def refused(paths: Paths, name: str, **more: object) -> str:
    with pytest.raises(Refused) as error:
        promotion.promote(paths, params(name), "2", **more)  # type: ignore[arg-type]
    return str(error.value)


@pytest.mark.parametrize(
    ("other", "messages"),
    [
        (
            of_data("Fashion-MNIST", *"abcdefghij"),
            ("name MNIST", "name Fashion-MNIST", "10 (only here: a, b, c, d, e, f, g, h, i, j)"),
        ),
        (
            of_data("MNIST", *"012345678"),
            ("classes 10 (only here: 9)", "classes 9 (no other ones)"),
        ),
        (of_data("MNIST", *"1023456789"), ("10 (in another order: 1, 0)",)),
        (of_data("MNIST", *"0123456789", shape="32x32x3"), ("image shape 28x28", "image shape 32x32x3")),
        (of_data("QMNIST", *"0123456789"), ("name MNIST", "name QMNIST")),
    ],
    ids=["other-classes", "fewer-classes", "order", "shape", "name"],
)
def test_version_of_another_data_set_is_refused_and_nothing_changes(
    client: MlflowClient,
    paths: Paths,
    model_name: str,
    other: dict[str, str],
    messages: tuple[str, ...],
) -> None:
    add(client, paths, model_name, wrong=FAIR, extra_tags=DIGITS)
    promotion.promote(paths, params(model_name))
    add(client, paths, model_name, wrong=GOOD, extra_tags=other)
    message = refused(paths, model_name)
    assert f"Version 2 of {model_name} is a model of another data set than version 1." in message
    assert "set register.model_name in params.yaml" in message
    for text in messages:
        assert text in message
    assert refused(paths, model_name, alias="staging"), "another alias is no way around"
    assert refused(paths, model_name, accept_new_data=True, reason="they are better")
    with pytest.raises(Refused):
        promotion.review(paths, params(model_name), "2")
    assert model_versions.aliases(client, model_name) == {"champion": 1, "challenger": 2}
    assert len(promotion_history.history(paths, params(model_name))) == 1
    decision = model_versions.find(client, model_name, "2").tags[tags.DECISION]
    assert decision.startswith("reject: Version 2")
    # the same version is fine under a name of its own
    add(client, paths, f"{model_name}-other", wrong=GOOD, extra_tags=other)
    assert promotion.promote(paths, params(f"{model_name}-other")).moved


def test_corrected_name_is_promoted_by_force_but_other_classes_are_not(
    client: MlflowClient, paths: Paths, model_name: str
) -> None:
    add(client, paths, model_name, wrong=FAIR, extra_tags=DIGITS)
    promotion.promote(paths, params(model_name))
    add(client, paths, model_name, wrong=GOOD, extra_tags=of_data("MNIST", *"abcdefghij"))
    assert "--force" not in refused(paths, model_name, force=True, reason="I know")
    third = add(client, paths, model_name, wrong=GOOD, extra_tags=of_data("MNIST digits", *"0123456789"))
    with pytest.raises(Refused, match="if only the name was corrected: --force --reason"):
        promotion.promote(paths, params(model_name), str(third.number))
    done = promotion.promote(paths, params(model_name), str(third.number), force=True, reason="a better name")
    assert done.moved


@pytest.mark.parametrize(("first", "second"), [({}, DIGITS), (DIGITS, {})])
def test_version_of_an_earlier_release_is_a_model_of_digits(
    client: MlflowClient, paths: Paths, model_name: str, first: dict[str, str], second: dict[str, str]
) -> None:
    add(client, paths, model_name, wrong=FAIR, extra_tags=first)
    promotion.promote(paths, params(model_name))
    add(client, paths, model_name, wrong=GOOD, extra_tags=second)
    assert promotion.promote(paths, params(model_name), "2").moved
    add(client, paths, model_name, wrong=GOOD, extra_tags=of_data("Fashion-MNIST", *"abcdefghij"))
    with pytest.raises(Refused, match="another data set"):
        promotion.promote(paths, params(model_name), "3")


def register(client: MlflowClient, name: str, about: str, **new_tags: str) -> None:
    run = client.create_run("0")
    model = client.create_logged_model("0", source_run_id=run.info.run_id)
    client.finalize_logged_model(model.model_id, "READY")
    model_versions.register(
        client,
        name,
        run_id=run.info.run_id,
        model_id=model.model_id,
        tags=new_tags,
        description="",
        about=about,
    )


def described(client: MlflowClient, name: str) -> str:
    return client.get_registered_model(name).description or ""


def test_registered_model_is_described_by_the_data_card_unless_a_user_describes_it(
    client: MlflowClient, model_name: str
) -> None:
    register(client, model_name, "of shoes")
    assert described(client, model_name) == "of shoes"
    register(client, model_name, "of shoes; licence: MIT")
    assert described(client, model_name) == "of shoes; licence: MIT"
    client.update_registered_model(model_name, "my own words")
    register(client, model_name, "of shoes; licence: 0BSD")
    assert described(client, model_name) == "my own words"


def test_what_an_earlier_release_said_about_every_model_is_replaced(
    client: MlflowClient, model_name: str
) -> None:
    said = "LeNet-5 on MNIST. Takes raw pixels: uint8 (N, 28, 28), 0 to 255."
    client.create_registered_model(model_name, description=said)
    register(client, model_name, "of shoes")
    assert described(client, model_name) == "of shoes"


def test_order_of_classes_names_the_first_that_differ() -> None:
    one, other = of_data("a", *"0123456789"), of_data("a", *"0123456798")
    assert data_set.differences(one, other) == {
        "classes": ("10 (in another order: 8, 9)", "10 (in another order: 9, 8)")
    }


def test_tags_identify_a_data_set() -> None:
    assert data_set.differences(MNIST.tags(), MNIST.tags()) == {}
    assert set(data_set.differences(SHOES.tags(), MNIST.tags())) == {"classes", "image shape", "name"}
    assert SHOES.tags()[tags.LICENCE] == "not stated"
    assert json.loads(SHOES.tags()[tags.CLASSES]) == ["ankle boot", "sandal | open", "T-shirt/top"]


def test_many_classes_with_long_names_fit_into_a_tag_and_stay_comparable() -> None:
    def tags_of(*classes: str) -> dict[str, str]:
        description = SHOES.manifest.description.model_copy(update={"classes": classes})
        manifest = SHOES.manifest.model_copy(update={"description": description})
        return data_set.DataSet(SHOES.card, manifest).tags()

    names = [f"a class with a long name, number {number}" for number in range(1000)]
    one, other = tags_of(*names), tags_of(*names[:-1], "another last one")
    assert len(one[tags.CLASSES]) <= 5000
    assert data_set.differences(one, tags_of(*names)) == {}
    assert set(data_set.differences(one, other)) == {"classes"}
    assert data_set.differences(one, MNIST.tags())["classes"]


def test_sources_of_a_version_hold_no_credentials() -> None:
    rows = MNIST.manifest.origins[0].model_copy(update={"source": "https://me:hidden@data.example/mnist"})
    manifest = MNIST.manifest.model_copy(update={"origins": (rows,)})
    text = data_set.DataSet(MNIST.card, manifest).tags()[tags.ORIGINS]
    assert "hidden" not in text
    assert "data.example" in text
