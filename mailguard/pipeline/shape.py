"""What pydantic has against a file, told as mistakes with their place in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mailguard.pipeline import source
from mailguard.pipeline.schema import OverrideModel, RuleModel, TestModel
from mailguard.pipeline.source import Problem, Source, did_you_mean

ModelT = TypeVar("ModelT", bound=BaseModel)

_STAND_INS: dict[type[BaseModel], dict[str, Any]] = {
    RuleModel: {"name": "", "when": "true", "then": "accept"},
    OverrideModel: {"recipients": ["*"]},
    TestModel: {"name": "", "facts": {}, "expect": "accept"},
}


def shape_problems(
    src: Source, error: ValidationError, at: source.Path, model: type[BaseModel], of: str = ""
) -> Iterator[Problem]:
    """What pydantic has to say, in our words and at its place in the file."""
    for item in error.errors(include_url=False):
        path = (*at, *item["loc"])
        path = tuple(p for n, p in enumerate(path) if not (isinstance(p, str) and p.startswith("function-")))
        yield _shape_problem(src, item, path, model, len(at), of)


def well_formed(raw: Mapping[str, Any], model: type[ModelT]) -> ModelT | None:
    """What is left of a table without its ill-formed parts, and with stand-ins for what must be there, so that
    mistakes of other kinds are found in it, too; None where too little is left."""
    for _ in range(2):
        try:
            return model.model_validate(raw)
        except ValidationError as error:
            lost = [item["loc"] for item in error.errors(include_url=False)]
            raw = _STAND_INS.get(model, {}) | _without(raw, [loc for loc in lost if loc])
    return None


def _without(raw: Mapping[str, Any], lost: Sequence[source.Path]) -> dict[str, Any]:
    left = {}
    for key, value in raw.items():
        inner = [loc[1:] for loc in lost if loc[0] == key]
        if not inner:
            left[key] = value
        elif isinstance(value, dict) and all(inner):
            left[key] = _without(value, inner)
    return left


def _shape_problem(
    src: Source, item: ErrorDetails, path: source.Path, model: type[BaseModel], skip: int, of: str
) -> Problem:
    kind, key = item["type"], str(path[-1])
    if kind == "extra_forbidden":
        what = "option" if of else "setting"
        hint = did_you_mean(key, _fields(model, path[skip:-1]))
        return src.problem(path, f'there is no {what} "{key}"{of}', hint)
    if kind == "missing":
        return src.problem(path[:-1], f'"{key}" is missing')
    text = item["msg"].removeprefix("Value error, ")
    if kind == "literal_error":
        known = [part.strip(" '") for part in item["ctx"]["expected"].replace(" or ", ",").split(",")]
        return src.problem(path, f'"{item["input"]}" is not possible here', did_you_mean(str(item["input"]), known),
                           value=True)  # fmt: skip
    return src.problem(path, f"{text[:1].lower()}{text[1:]}", value=True)


def _fields(model: type[BaseModel], path: source.Path) -> list[str]:
    """The names of the settings at a path below a model."""
    for part in path:
        if isinstance(part, int):
            continue
        annotation: Any = model.model_fields[part].annotation if part in model.model_fields else None
        inner = [a for a in (annotation, *getattr(annotation, "__args__", ())) if isinstance(a, type)]
        model = next((a for a in inner if issubclass(a, BaseModel)), model)
    return list(model.model_fields)
