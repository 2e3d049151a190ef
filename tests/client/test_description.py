"""What the client knows is what the API describes: fields, words, options."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from pydantic import BaseModel

from dovetail_client import (
    Batch,
    BatchCounts,
    BatchResult,
    Delivery,
    Estimate,
    Job,
    JobDelivery,
    JobEvent,
    JobInput,
    JobOptions,
    JobOutput,
    Key,
    Me,
    Model,
    NewKey,
    Problem,
    SubmitOptions,
    Upload,
    WebhookSecret,
)
from dovetail_client.models import OutputSize, Page, RejectedInput, UploadPart, UploadParts
from tests.contract import document

MODELS: dict[str, type[BaseModel]] = {
    "BatchSchema": Batch, "BatchCounts": BatchCounts, "BatchResultSchema": BatchResult,
    "BatchListSchema": Page[Batch], "DeliverySchema": Delivery, "EstimateSchema": Estimate, "JobSchema": Job,
    "JobDeliverySchema": JobDelivery,
    "JobEventSchema": JobEvent, "InputSchema": JobInput, "OutputSchema": JobOutput, "MeSchema": Me,
    "ModelSchema": Model, "ErrorSchema": Problem, "RejectedSchema": RejectedInput, "OutputSize": OutputSize,
    "UploadSchema": Upload, "WebhookSecretSchema": WebhookSecret,
    "KeySchema": Key, "NewKeySchema": NewKey, "PartSchema": UploadPart, "PartsSchema": UploadParts,
}  # fmt: skip


def schema_of(name: str) -> Any:
    return document()["components"]["schemas"][name]


@pytest.mark.parametrize("name", MODELS)
def test_a_model_has_the_fields_and_words_that_are_described(name: str) -> None:
    model, schema = MODELS[name], schema_of(name)
    own = {"id"} if name == "JobEventSchema" else set()  # beside the data, in the stream
    assert set(model.model_fields) - own == set(schema["properties"]) - {"object"}
    for example in schema.get("examples", ()):
        assert model.model_validate(example).model_extra in ({}, {"object": example.get("object")})
    for field, kind in get_type_hints(model).items():
        for choice in (kind, *get_args(kind)):
            if isinstance(choice, type) and issubclass(choice, StrEnum):
                assert words_of(schema["properties"][field]) | {"unknown"} == {*choice}, field


def words_of(schema: Any) -> set[str]:
    """The closed set of a property."""
    for part in (schema, *schema.get("anyOf", ())):
        found = schema_of(part["$ref"].rpartition("/")[2]) if "$ref" in part else part
        if "enum" in found:
            return set(found["enum"])
    raise AssertionError(f"{schema} has no words")


def test_options_are_those_of_a_form() -> None:
    options, form = schema_of("JobOptions")["properties"], schema_of("JobForm")["properties"]
    hints = get_type_hints(JobOptions)
    assert hints.keys() == options.keys()
    assert get_type_hints(SubmitOptions).keys() - hints.keys() == form.keys() - {"options", "filename"}
    for name, kind in hints.items():
        if get_origin(kind) is not None and "enum" in options[name]:
            assert list(get_args(kind)) == options[name]["enum"], name
